internal import VitIR
internal import VitOps

/// What can stand in a layer's place: the mixer on trial, or one that is solved in closed form.
struct MixerChoice {
  /// What stands there.
  let mixer: MixerNode
  /// What puts it there; `nil` for the mixer on trial. Its layers are for whoever runs it to say.
  let swap: Swap?
  /// Whether that takes steps of distillation.
  var isTrained: Bool { swap != nil && !mixer.isSolved }
  /// What it does to the outputs when it alone stands in, and the standard error of that.
  let damage, error: Double

  /// The mixer as a layer's candidates name it.
  var text: String { mixer.text }

  /// What is preferred where it is as good and as cheap.
  var preference: MixerWorth.Preference {
    switch mixer.region.mixer {
    case is ConvMixer: .taps
    case is StaticMixer, is Pointwise, is NoMixer: .control
    default: .sequence
    }
  }
}

/// For each layer with a mixer on trial what can stand there, each solved in closed form and measured alone.
struct MixerChoices {
  /// By layer, that on trial first.
  private(set) var byLayer: [(layer: Int, choices: [MixerChoice])]

  /// The parts of a mixer's width that are tried beside the whole.
  private static let narrower = [0.75, 0.5, 0.25]
  /// The least of those for mixers that need steps.
  private static let narrowestTrained = 0.5

  /// How many of those need steps.
  static var trained: Int { narrower.count { $0 >= narrowestTrained } }

  /// How many models of all layers are solved, at the most, for choices beside the mixers on trial.
  static func most(solved isSolved: Bool, beside kinds: [String]) -> Int {
    (isSolved ? narrower.count : 0) + kinds.count * (1 + narrower.count)
  }

  /// The mixers on trial; those with fewer channels, where they need no steps or `reduction` has some for them; and mixers of other
  /// kinds, whole and narrower. What they do is measured where it is chosen by.
  init(
    _ trial: [MixerNode], _ reduction: Reduction, of teacher: Teacher, meter: FidelityMeter?,
    context: PassContext
  ) throws {
    let kinds = reduction.beside.kinds
    byLayer = []
    for mixer in trial {
      // Of those alone it is known what they do; the standard error serves to compare with other kinds.
      let known = kinds.isEmpty ? mixer.layer.candidates.last?.damage : nil
      let choice =
        try known.map { MixerChoice(mixer: mixer, swap: nil, damage: $0, error: 0) }
        ?? MixerChoices.measured(mixer, nil, teacher, meter, context)
      byLayer.append((mixer.layer.index, [choice]))
    }
    let own = try trial.map { try MixerChoices.kind(of: $0) }
    for kind in [nil] + kinds.map(Optional.some) {
      // Those of other kinds are made whole, too; where one is on trial already there is nothing to add.
      let others = zip(trial, own).filter { kind == nil || $1 != kind }.map(\.0)
      for part in (kind == nil ? [] : [1]) + MixerChoices.narrower {
        let swaps = try MixerChoices.swaps(others, kind: kind, part: part)
        var made = try MixerChoices.made(
          swaps.filter { try MixerRequest($0.value.mixer).kind.isSolved },
          by: Distil(steps: 0, images: reduction.images), of: teacher, context: context)
        if reduction.narrowSteps > 0, part >= MixerChoices.narrowestTrained {
          made += try MixerChoices.made(
            swaps.filter { try !MixerRequest($0.value.mixer).kind.isSolved }, by: reduction.distil,
            of: teacher,
            context: context)
        }
        for (mixer, swap) in made { try add(mixer, swap, teacher, meter, context) }
        // What has no channels of its own is of one width; none are made of a width that is no whole number of each head.
        if !made.isEmpty, !made.contains(where: { $0.0.region.mixer.values != nil }) { break }
      }
    }
  }

  /// The mixers on trial.
  var trial: [MixerNode] { byLayer.compactMap(\.choices.first?.mixer) }

  /// Those of layers.
  func of(_ layers: [Int]) -> MixerChoices {
    var copy = self
    copy.byLayer.removeAll { !layers.contains($0.layer) }
    return copy
  }

  /// The least damage that any of a layer's choices does; `nil` where there is none.
  func leastDamage(of layer: Int) -> Double? {
    byLayer.first { $0.layer == layer }?.choices.map(\.damage).min()
  }

  /// What stands in a layer by its name.
  func choice(_ text: String, in layer: Int) -> MixerChoice? {
    byLayer.first { $0.layer == layer }?.choices.first { $0.text == text }
  }

  /// Choices of layers as passes: one for all layers that are alike.
  static func swaps(_ choices: [MixerChoice]) -> [Swap] {
    var swaps: [(text: String, swap: Swap, layers: [Int])] = []
    for choice in choices {
      guard let swap = choice.swap else { continue }
      let text = Pipeline.text(swap)
      if let same = swaps.firstIndex(where: { $0.text == text }) {
        swaps[same].layers.append(choice.mixer.layer.index)
      } else {
        swaps.append((text, swap, [choice.mixer.layer.index]))
      }
    }
    return swaps.map { entry in
      var swap = entry.swap
      swap.layers = .listed(entry.layers.sorted())
      return swap
    }
  }

  /// Adds a choice, unless there is one of that name.
  private mutating func add(
    _ mixer: MixerNode, _ swap: Swap, _ teacher: Teacher, _ meter: FidelityMeter?, _ context: PassContext
  ) throws {
    guard let place = byLayer.firstIndex(where: { $0.layer == mixer.layer.index }),
      !byLayer[place].choices.contains(where: { $0.text == mixer.text })
    else { return }
    byLayer[place].choices.append(try MixerChoices.measured(mixer, swap, teacher, meter, context))
  }

  private static func measured(
    _ mixer: MixerNode, _ swap: Swap?, _ teacher: Teacher, _ meter: FidelityMeter?, _ context: PassContext
  ) throws -> MixerChoice {
    guard let meter else { return MixerChoice(mixer: mixer, swap: swap, damage: 0, error: 0) }
    let graph = try MixerNode.transplant([mixer], into: teacher, registry: context.registry).graph
    let node = teacher.layer(mixer.layer.index).flatMap { teacher.graph.place(defining: $0.core) }
    let found = try meter.measure(graph, differingFrom: teacher, at: node)
    return MixerChoice(mixer: mixer, swap: swap, damage: found.damage, error: found.divergenceError ?? 0)
  }

  /// The mixers that passes make of a teacher's layers, each with its pass, distilled together; none where so many channels are no
  /// whole number of each head.
  private static func made(
    _ swaps: [Int: Swap], by distil: Distil, of teacher: Teacher, context: PassContext
  ) throws -> [(MixerNode, Swap)] {
    guard !swaps.isEmpty else { return [] }
    var hybrid = Hybrid(of: teacher)
    let choices = swaps.sorted { $0.key < $1.key }
    do {
      var done: Set<String> = []
      for (_, swap) in choices where done.insert(Pipeline.text(swap)).inserted {
        var joined = swap
        joined.layers = .listed(
          choices.filter { Pipeline.text($0.value) == Pipeline.text(swap) }.map(\.key))
        _ = try joined.run(on: &hybrid, context: context)
      }
    } catch let error as VitError where error.kind == .usage {
      return []
    }
    // A compile that goes on makes these anew.
    let checkpoint = context.checkpoint
    context.checkpoint = nil
    defer { context.checkpoint = checkpoint }
    _ = try distil.run(on: &hybrid, context: context)
    return try MixerNode.all(in: hybrid, teacher: teacher).compactMap { mixer in
      swaps[mixer.layer.index].map { (mixer, $0) }
    }
  }

  private static func kind(of mixer: MixerNode) throws -> String? {
    try mixer.layer.candidates.last.map { try NestedOption($0.mixer).name }
  }

  /// What puts a mixer of that kind, or of their own, in the place of each of `mixers`, with a part of its channels.
  private static func swaps(_ mixers: [MixerNode], kind: String?, part: Double) throws -> [Int: Swap] {
    var swaps: [Int: Swap] = [:]
    for mixer in mixers {
      guard let text = mixer.layer.candidates.last?.mixer,
        kind != nil || mixer.region.mixer.values != nil
      else { continue }
      let width = kind == nil ? part * mixer.relativeWidth : part == 1 ? nil : part
      swaps[mixer.layer.index] = try Swap(beside: text, kind: kind, width: width)
    }
    return swaps
  }
}

extension MixerNode {
  /// Whether it needs no steps.
  fileprivate var isSolved: Bool { (try? MixerRequest(NestedOption(text).name).kind.isSolved) ?? false }

  /// The mixer as its layer's candidates name it.
  var text: String { layer.candidates.last?.mixer ?? "" }

  /// The channels that its last map reads.
  var width: Int {
    region.readout?.weight.map { region.constants[$0].tensor.shape[1] } ?? 0
  }

  /// Its width as a fraction of its tokens'; 1 where it has no values of its own.
  fileprivate var relativeWidth: Double {
    guard let weight = region.mixer.values?.weight.flatMap(region.constant) else { return 1 }
    return Double(width) / Double(max(1, region.constants[weight].tensor.shape[1]))
  }
}

extension Swap {
  /// What puts in a mixer like that noted as `text`, of another kind or another width.
  fileprivate init(beside text: String, kind: String?, width: Double?) throws {
    let written = try NestedOption(text)
    var own = written.attributes
    func word(_ name: String) -> String? {
      defer { own[name] = nil }
      if case .string(let word)? = own[name] { return word }
      return nil
    }
    let (order, placement, prefix) = (word("order"), word("placement"), word("prefix"))
    own["width"] = nil
    own["heads"] = nil
    let request = kind ?? NestedOption(written.name, own).description
    self.init(
      mixer: request, width: width, order: order.flatMap(Order.init) ?? .bidirectional,
      placement: placement.flatMap(ScanOrder.Placement.init) ?? .last,
      prefix: try prefix.map(PrefixRows.init) ?? .automatic)
  }
}
