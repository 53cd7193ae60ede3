public import VitIR

/// What a study does, in full: its digest names the study, and two results are compared where it is the same.
///
/// The experiments: groups of layers replaced by each mixer and by controls, for the same steps; teachers that drop tokens against
/// students of them; layers at equal depth whose attention is made sparser or denser (Latin squares), replaced one by one; and all
/// subsets of layers that can be measured without training.
public struct StudyProtocol: Hashable, Sendable {
  /// Its name: that of a documented size, or another.
  public var name: String
  /// What all random choices are drawn from.
  public var seed = 0
  /// The samples of a step.
  public var batch = 32
  /// The rate of distillation.
  public var distilRate = 2e-3
  /// The rate of training end to end; without one the best of several, found anew by each training.
  public var fineTuneRate: Double?
  /// How many samples are held out of the data, to judge trainings by.
  public var heldOut = 256
  /// On how many samples mixers are solved, layers are scored, and models are measured.
  public var fitted = 384, scored = 128, measured = 800
  /// Layers in groups.
  public var replacement = Replacement()
  /// Teachers that drop tokens.
  public var retention = Retention()
  /// Layers at equal depth.
  public var position = Position()
  /// Subsets of layers.
  public var subsets = Subsets()

  /// What stands in layers: a mixer, how the rows of first tokens are made, and the steps and seeds of its distillation.
  public struct Form: Hashable, Sendable {
    /// The mixer, as `swap` takes it, and the rows of the first tokens, as `swap` takes them.
    public var mixer: String, prefix: String
    /// Steps of distillation; 0 for what is solved only.
    public var steps: Int
    /// How often it is made, each time from another seed.
    public var seeds: Int

    /// A form.
    public init(_ mixer: String, prefix: String = "auto", steps: Int = 0, seeds: Int = 1) {
      (self.mixer, self.prefix, self.steps, self.seeds) = (mixer, prefix, steps, seeds)
    }
  }

  /// Groups of layers, each replaced by each mixer.
  public struct Replacement: Hashable, Sendable {
    /// The mixers, and the controls that a mixer has to beat at equal steps.
    public var mixers = ["conv", "glr", "ssd", "lstm"], controls = ["none", "pointwise", "static"]
    /// The groups, as `select` takes them.
    public var groups = ["sparse", "dense", "last"]
    /// The part of the layers that is in a group.
    public var part = 0.5
    /// How often each is trained.
    public var seeds = 1
    /// Steps of distillation and of training end to end.
    public var distilSteps = 100, fineTuneSteps = 30
  }

  /// Teachers that keep fewer tokens, and students of them.
  public struct Retention: Hashable, Sendable {
    /// The parts of the patches that are kept at each of three places.
    public var keep = [0.9, 0.7, 0.5]
    /// The mixer of the students, and the part of the layers in which it stands: the last ones.
    public var mixer = "glr", part = 0.5
    /// Steps of distillation and of training end to end of the student that sees all tokens; the other has as much time.
    public var distilSteps = 80, fineTuneSteps = 30
  }

  /// Layers at equal depth: teachers by Latin squares, whose queries are scaled.
  public struct Position: Hashable, Sendable {
    /// The factors of queries: the levels of a square.
    public var factors = [0.5, 1, 2]
    /// The squares.
    public var squares = 2
    /// The steps in which such a teacher recovers, and the rate; without one the best of several.
    public var recoverySteps = 120
    /// The accuracy that it may then be short of the original's, or the agreement that it may be short of 1.
    public var gate = 0.01
    /// What replaces single layers; the first is the one that the verdict is about.
    public var forms = [
      Form("conv"), Form("conv", prefix: "mixer"), Form("static"), Form("none"), Form("glr", steps: 80),
    ]
    /// How often a random error as large as the first form's is drawn.
    public var noises = 1
  }

  /// Subsets of layers, measured without training.
  public struct Subsets: Hashable, Sendable {
    /// What stands in them.
    public var form = Form("conv")
    /// The part of the layers in a subset.
    public var part = 0.5
    /// The most subsets; where there are more, these are drawn, balanced in depth.
    public var most = 70
    /// How many pairs of subsets of the same mean depth are trained, and for how many steps.
    public var pairs = 4, fineTuneSteps = 20
  }

  /// A protocol of a size.
  public init(_ size: Size = .small) {
    name = size.rawValue
    switch size {
    case .quick:
      (fitted, scored, measured, heldOut) = (128, 32, 256, 64)
      replacement = Replacement(
        mixers: ["conv", "glr"], controls: ["static"], groups: ["sparse", "dense"], distilSteps: 20,
        fineTuneSteps: 0)
      retention = Retention(keep: [0.7], distilSteps: 20, fineTuneSteps: 0)
      position = Position(
        squares: 1, recoverySteps: 20, forms: [Form("conv"), Form("static"), Form("none")], noises: 1)
      subsets = Subsets(most: 20, pairs: 0, fineTuneSteps: 0)
    case .small: break
    case .full:
      (fitted, scored, measured, heldOut, batch) = (1000, 1000, 2000, 512, 64)
      replacement = Replacement(seeds: 3, distilSteps: 1000, fineTuneSteps: 500)
      replacement.groups += ["first", "random", "alternate"]
      replacement.mixers += ["mamba", "lstm{form=full}", "retention"]
      retention = Retention(keep: [0.95, 0.9, 0.8, 0.7, 0.6, 0.5], distilSteps: 1000, fineTuneSteps: 500)
      (position.recoverySteps, position.noises) = (150, 2)
      position.forms = [
        Form("conv"), Form("conv", prefix: "mixer"), Form("static"), Form("static", prefix: "mixer"),
        Form("pointwise"), Form("none"), Form("glr", steps: 400, seeds: 2), Form("lstm", steps: 400),
      ]
      subsets.fineTuneSteps = 60
    }
  }

  /// The sizes that are documented.
  public enum Size: String, CaseIterable, Sendable {
    /// A look at whether everything runs: no figures to draw conclusions from.
    case quick
    /// A quarter of an hour for a small teacher on two cores.
    case small
    /// All mixers, groups and seeds: hours.
    case full
  }

  /// The most of anything that is counted: steps, samples, seeds.
  static let most = 1_000_000

  /// Throws where a number is out of range, or a mixer or group is none.
  public func check() throws(VitError) {
    func bad(_ name: String, _ expected: String) -> VitError {
      VitError(
        "the protocol's '\(name)' is out of range, expected \(expected)", kind: .usage, code: "study-protocol"
      )
    }
    let counts: [(String, Int, Int)] = [
      ("batch", batch, 1), ("held_out", heldOut, 1), ("fitted", fitted, 1), ("scored", scored, 1),
      ("measured", measured, 1), ("replacement.seeds", replacement.seeds, 0),
      ("replacement.distil_steps", replacement.distilSteps, 0),
      ("replacement.fine_tune_steps", replacement.fineTuneSteps, 0),
      ("retention.distil_steps", retention.distilSteps, 0),
      ("retention.fine_tune_steps", retention.fineTuneSteps, 0), ("position.squares", position.squares, 0),
      ("position.recovery_steps", position.recoverySteps, 0), ("position.noises", position.noises, 0),
      ("subsets.most", subsets.most, 0), ("subsets.pairs", subsets.pairs, 0),
      ("subsets.fine_tune_steps", subsets.fineTuneSteps, 0), ("seed", seed, 0),
    ]
    for (name, value, least) in counts where !(least...StudyProtocol.most).contains(value) {
      throw bad(name, "\(least) to \(StudyProtocol.most)")
    }
    guard position.squares <= 16, subsets.most <= 10000, replacement.seeds <= 100 else {
      throw bad("position.squares, subsets.most or replacement.seeds", "at most 16, 10000 and 100")
    }
    for (name, rate) in [("distil_rate", distilRate), ("fine_tune_rate", fineTuneRate ?? 1)]
    where !(rate > 0 && rate.isFinite) { throw bad(name, "a rate above 0") }
    for (name, part) in [
      ("replacement.part", replacement.part), ("retention.part", retention.part),
      ("subsets.part", subsets.part),
    ] where !(part > 0 && part <= 1) { throw bad(name, "a part above 0 and at most 1") }
    guard retention.keep.allSatisfy({ $0 > 0 && $0 <= 1 }) else {
      throw bad("retention.keep", "parts above 0 and at most 1")
    }
    guard position.factors.count >= 2, position.factors.count <= 9,
      position.factors.allSatisfy({ $0 > 0 && $0 <= 16 })
    else { throw bad("position.factors", "2 to 9 factors above 0 and at most 16") }
    guard position.gate >= 0, position.gate <= 1 else { throw bad("position.gate", "0 to 1") }
    for form in position.forms + [subsets.form] {
      guard (0...StudyProtocol.most).contains(form.steps), (1...100).contains(form.seeds) else {
        throw bad("steps or seeds", "up to \(StudyProtocol.most) steps and 1 to 100 seeds")
      }
      _ = try PrefixRows(form.prefix)
    }
    // Two jobs of one name would have one file.
    let names = StudyJob.all(of: self, layers: []).map(\.name)
    if let twice = names.enumerated().first(where: { names[..<$0.offset].contains($0.element) }) {
      throw VitError(
        "the protocol has two jobs '\(twice.element)'", kind: .usage, code: "study-protocol",
        help: "mixers are named once, and parts that are kept differ by 0.001")
    }
    let mixers = replacement.mixers + replacement.controls + [retention.mixer, subsets.form.mixer]
    for mixer in mixers + position.forms.map(\.mixer) { _ = try MixerRequest(mixer) }
    for group in replacement.groups where Select.choice(group).map(\.by.isDamage) ?? true {
      throw VitError(
        "the protocol has the group '\(group)', which is none", kind: .usage, code: "study-protocol",
        help:
          "groups are \(Select.choices.filter { Select.choice($0).map { !$0.by.isDamage } ?? false }.joined(separator: ", "))"
      )
    }
  }

  /// How many layers a part of so many is: at least one.
  static func count(_ part: Double, of layers: Int) -> Int {
    max(1, min(layers, Int((part * Double(layers)).rounded())))
  }
}
