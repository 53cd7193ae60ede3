internal import VitFormats
internal import VitIR
public import VitPasses

/// Repeats the compile that a hybrid says it comes from, and holds what comes of it against the hybrid.
///
/// A `.vmod` of a compile names its pipeline, seed, counts and the digests of teacher and data, which is all that decides its
/// bytes, times aside: whoever has teacher and data can tell that nobody changed the weights between.
public struct Rebuild: Sendable {
  /// How the hybrid was compiled. Threads, and where a checkpoint is, are the caller's to say.
  public var options: CompilerOptions
  private let hybrid: Model
  private let lineage: [String: String]

  /// How near the hybrid made again comes to the first one.
  public enum Agreement: String, Sendable {
    /// All of its file is the same, but for times.
    case content
    /// The model is the same to the bit; what the file says of it is not, as the version that made it.
    case model
    /// No number differs by more than the tolerance allows.
    case tolerance
    /// It is another model.
    case none = "no"
  }

  /// What came of it.
  public struct Result: Sendable {
    /// How near it comes.
    public let agreement: Agreement
    /// The digest of all that the hybrid's file holds, times aside.
    public let digest: String
    /// That of the hybrid made again.
    public let rebuilt: String
    /// Entries of the lineage that are not the same.
    public let lineage: [(key: String, hybrid: String?, rebuilt: String?)]
    /// Where the models differ.
    public let differences: [Difference]
  }

  /// Reads how `hybrid` was compiled; throws where it does not say, or where nothing can do it again.
  public init(_ hybrid: Model) throws {
    self.hybrid = hybrid
    let lineage = Dictionary(hybrid.lineage.map { ($0.key, $0.value) }) { first, _ in first }
    self.lineage = lineage
    func entry(_ key: String) throws(VitError) -> String {
      guard let value = lineage[key] else {
        throw VitError(
          "the lineage has no '\(key)', so how it was made is not known", code: "lineage-missing",
          help:
            "a .vmod that 'vitc compile' wrote can be made again; what 'vitc opt' changed, or an older version wrote, cannot"
        )
      }
      return value
    }
    func number<Number: FixedWidthInteger>(_ key: String) throws(VitError) -> Number {
      let text = try entry(key)
      guard let number = Number(text), number >= 0 else {
        throw VitError("the lineage's '\(key)' is no number: '\(text)'", code: "lineage-value")
      }
      return number
    }
    options = CompilerOptions()
    for key in ["teacher", "data"] { _ = try entry(key) }
    (options.heldOut, options.evaluationImages) = (
      try number(Lineage.Key.heldOut), try number(Lineage.Key.measured)
    )
    options.seed = try number("seed")
    if let deadline = lineage[Lineage.Key.deadline] {
      throw VitError(
        "it was compiled with a deadline of \(deadline) s, and where that stops is never the same again",
        code: "not-repeatable", help: "'vitc compile --time-budget' decides steps in the same way everywhere")
    }
    // What was chosen by measured time is written out in what was found.
    let pipeline = try Pipeline(try entry("pipeline"))
    options.pipeline = pipeline
    if pipeline.reduction?.cost == .measured, case .string(let found)? = hybrid.report?["found"] {
      options.pipeline = try Pipeline(found)
    }
    // Where weights are rounded, the pipeline says it.
    options.weights = .f32
    options.isReproducible = hybrid.origin.measurements == nil
    if case .array(let controls)? = hybrid.report?["controls"] {
      options.comparesControls = !controls.isEmpty
    }
  }

  /// How the hybrid's images were prepared.
  public var preprocessing: [(key: String, value: String)] { hybrid.card.preprocessing }

  /// Throws where `teacher` is not what the hybrid was made of.
  public func check(teacher: Model) throws {
    try check("teacher", try Lineage.digest(of: teacher), "the teacher", teacher.path ?? "the model")
  }

  /// Throws where `data` are not what it was trained on, prepared in the same way.
  public func check(data: Samples) throws {
    try check("data", try Lineage.digest(of: data), "what it was trained on", data.name)
  }

  /// Throws where `evaluation` is not what it was measured on.
  public func check(evaluation: Samples?) throws {
    guard let evaluation else {
      guard lineage[Lineage.Key.evaluation] == nil else {
        throw VitError(
          "it was measured on data of their own, which also decides what is trained on", kind: .usage,
          code: "evaluation-missing", help: "name them with --eval-data")
      }
      return
    }
    try check(
      Lineage.Key.evaluation, try Lineage.digest(of: evaluation), "what it was measured on", evaluation.name)
  }

  private func check(_ key: String, _ found: String, _ what: String, _ name: String) throws(VitError) {
    guard lineage[key] != found else { return }
    throw VitError(
      "'\(name)' is not \(what): its digest is \(found), the lineage says \(lineage[key] ?? "that there was none")",
      code: "lineage-differs")
  }

  /// Compiles again, to a file where `path` is given, and compares. Numbers may differ by `tolerance` of the largest of their
  /// tensor, as they do between machines.
  ///
  /// Throws as the parts of `check` do before any work, and as a compile does.
  public func run(
    _ teacher: Model, _ data: Samples, evaluation: Samples? = nil, to path: String? = nil,
    tolerance: Double = 0,
    progress: Progress = Progress(), events: (Compiler.Event) -> Void = { _ in }
  ) throws -> Result {
    try check(teacher: teacher)
    try check(data: data)
    try check(evaluation: evaluation)
    let compiler = try Compiler(options)
    let made =
      try path.map {
        try compiler.compile(
          teacher, data, evaluation: evaluation, to: $0, as: .vmod, progress: progress, events: events)
      } ?? compiler.compile(teacher, data, evaluation: evaluation, progress: progress, events: events)
    let digest = try Rebuild.contentDigest(hybrid)
    let rebuilt = try Rebuild.contentDigest(made.model)
    let keys = (hybrid.lineage + made.model.lineage).map(\.key)
    let new = Dictionary(made.model.lineage.map { ($0.key, $0.value) }) { first, _ in first }
    var seen: Set<String> = []
    let lineage = keys.filter { seen.insert($0).inserted && self.lineage[$0] != new[$0] }.map {
      (key: $0, hybrid: self.lineage[$0], rebuilt: new[$0])
    }
    guard digest != rebuilt else {
      return Result(agreement: .content, digest: digest, rebuilt: rebuilt, lineage: [], differences: [])
    }
    let exact = try Difference.find(hybrid, made.model, threads: options.threads)
    let says = Rebuild.differences(of: hybrid.card, made.model.card)
    guard tolerance > 0, !exact.isEmpty, says.isEmpty else {
      return Result(
        agreement: exact.isEmpty && says.isEmpty ? .model : .none, digest: digest, rebuilt: rebuilt,
        lineage: lineage,
        differences: says + exact)
    }
    let left = try Difference.find(hybrid, made.model, tolerance: tolerance, threads: options.threads)
    return Result(
      agreement: left.isEmpty ? .tolerance : .none, digest: digest, rebuilt: rebuilt, lineage: lineage,
      differences: left)
  }

  /// What decides how images are prepared and what numbers are called, where it is not the same.
  private static func differences(of a: Model.Card, _ b: Model.Card) -> [Difference] {
    func text(_ card: Model.Card) -> [String] { card.preprocessing.map { "\($0.key)=\($0.value)" } }
    return [("labels", a.labels, b.labels), ("preprocessing", text(a), text(b))].filter { $0.1 != $0.2 }.map {
      Difference(
        kind: .attributes, place: $0.0, message: "the file says \($0.1), and made again it says \($0.2)")
    }
  }

  /// The digest of what a file of the model holds, times aside.
  private static func contentDigest(_ model: Model) throws -> String {
    try VModWriter.write(model.file, to: "/dev/null").description
  }
}
