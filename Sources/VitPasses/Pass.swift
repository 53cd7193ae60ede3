public import VitIR

/// One step of a pipeline: changes a hybrid, or finds out about it.
///
/// A value without state, globals, clock or printing: the same hybrid, options, seed and data give the same
/// hybrid. What it finds out about layers is kept in them; see `Layer`.
public protocol Pass: Sendable {
  /// The name in pipelines, in kebab case.
  static var name: String { get }
  /// One line of what it does.
  static var summary: String { get }
  /// A pipeline in which it stands, with those before it that it needs. Default: its name.
  static var example: String { get }
  /// Options with a value that brings further options. Default: none.
  static var forms: [(name: String, value: String)] { get }
  /// Whether a model that it changed is no longer its own teacher, though no layer of it is replaced. Default: it is.
  var isLossy: Bool { get }
  /// Whether it can run on a model in which tokens are merged on the way. Default: it can.
  var worksOnMergedTokens: Bool { get }
  /// Whether it can where tokens are dropped, and the teacher drops the same. Default: where it can on merged ones.
  var worksOnDroppedTokens: Bool { get }
  /// Whether it can where weights have 8 bits; else they are taken for the floats that they stand for before it runs. Default:
  /// it cannot.
  var worksOnNarrowWeights: Bool { get }
  /// Takes the options that it declares; one that is left over is an error.
  init(options: inout OptionReader) throws(VitError)
  /// All options with their values, defaults included, in the order of the documentation: the canonical text.
  var options: [(name: String, value: String)] { get }
  /// Throws a usage error where an option has a value that makes no sense.
  func check() throws(VitError)
  /// Runs on `hybrid`.
  func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult
}

extension Pass {
  /// The pass alone, with its defaults.
  public static var example: String { name }
  /// No option brings others.
  public static var forms: [(name: String, value: String)] { [] }
  /// It is its own teacher still.
  public var isLossy: Bool { false }
  /// It can.
  public var worksOnMergedTokens: Bool { true }
  /// It can where it can on merged ones.
  public var worksOnDroppedTokens: Bool { worksOnMergedTokens }
  /// It cannot.
  public var worksOnNarrowWeights: Bool { false }
  /// Every value makes sense.
  public func check() throws(VitError) {}
}

/// A pass that rewrites a graph and knows nothing of layers.
///
/// Those that were found before stand where all their values do; else they are looked for anew, and what was known of
/// each stays known.
public protocol GraphPass: Pass {
  /// Runs on `graph`.
  func run(on graph: inout Graph, context: PassContext) throws -> PassResult
}

extension GraphPass {
  /// Runs on the graph, and sees to the layers.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let result = try run(on: &hybrid.graph, context: context)
    if !hybrid.layers.isEmpty, (try? hybrid.checkInvariants()) == nil { hybrid.findLayers() }
    return result
  }
}

/// What a pass has to say when it is done.
public struct PassResult: Sendable {
  /// How many places of the graph it changed.
  public var changes: Int
  /// What it found out, one line each.
  public var notes: [String]
  /// Where training went astray.
  public var divergences: [Divergence]

  /// Where training was stopped before its last step, for its time was over.
  public var stops: [Stop]
  /// How far the hybrid was from its teacher before and behind the pass, where it measured that.
  public var damage: (before: Double, after: Double)?
  /// The losses of its training.
  public var curves: [LossCurve] = []
  /// Passes that do the same without looking for it, where the pass looked for what to do.
  public var found: [any Pass]?
  /// The models that it measured on its way.
  public var points: [Reduction.Point] = []
  /// The passes that lead to each of these.
  var alternatives: [[any Pass]] = []

  /// A training that was stopped before its last step.
  public struct Stop: Hashable, Sendable {
    /// The pass that trained.
    public var pass: String
    /// The steps that it did.
    public var step: Int
    /// The steps that were planned.
    public var steps: Int
  }

  /// A training that went astray: its loss was no number, or far above the first.
  public struct Divergence: Hashable, Sendable {
    /// The pass that trained.
    public var pass: String
    /// The layer whose mixer was trained; `nil` for the whole.
    public var layer: Int?
    /// The step.
    public var step: Int
    /// The learning rate at that step, or the one that was tried.
    public var rate: Double
  }

  /// A result.
  public init(
    changes: Int = 0, notes: [String] = [], divergences: [Divergence] = [], stops: [Stop] = [],
    damage: (before: Double, after: Double)? = nil, curves: [LossCurve] = []
  ) {
    self.changes = changes
    self.notes = notes
    self.divergences = divergences
    self.stops = stops
    self.damage = damage
    self.curves = curves
  }
}

/// Looks on while a pipeline runs: timer, printer, verifier, progress.
public protocol PassObserver: AnyObject {
  /// Called before a pass, observers in order.
  func before(_ pass: any Pass, _ hybrid: Hybrid) throws
  /// Called after a pass, observers in reverse order, also when it failed.
  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) throws
}

/// Hands a pass its options by name and type, and notices those that nobody took.
public struct OptionReader {
  private let pass: String
  private var entries: [(name: String, value: String)]
  /// What was asked for, in order: names, what a value may be, and which word stands for one that is not given, if one does.
  public private(set) var asked: [(name: String, kind: String, fallback: String?)] = []

  /// A reader of the options written behind the name of `pass`.
  public init(pass: String, _ entries: [(name: String, value: String)]) {
    self.pass = pass
    self.entries = entries
  }

  private mutating func note(_ name: String, _ kind: String, fallback: String? = nil) {
    if !asked.contains(where: { $0.name == name }) { asked.append((name, kind, fallback)) }
  }

  /// The text of an option, or `nil` where it is not given.
  public mutating func text(_ name: String) -> String? {
    note(name, "text")
    guard let index = entries.firstIndex(where: { $0.name == name }) else { return nil }
    return entries.remove(at: index).value
  }

  /// An option of a type that is read from text, or its default.
  public mutating func value<Value: LosslessStringConvertible>(
    _ name: String, default fallback: Value
  ) throws(VitError) -> Value {
    try optional(name) ?? fallback
  }

  /// An option of a type that is read from text, or `nil`.
  public mutating func optional<Value: LosslessStringConvertible>(
    _ name: String, as type: Value.Type = Value.self, or word: String? = nil
  ) throws(VitError) -> Value? {
    let kinds = ["Int": "a whole number", "Double": "a number", "Bool": "true or false"]
    note(name, (kinds["\(Value.self)"] ?? "text") + (word.map { ", or \($0)" } ?? ""))
    guard let text = text(name) else { return nil }
    guard let value = Value(text) else {
      throw VitError(
        "\(pass): option '\(name)' cannot be '\(text)' (expected \(Value.self))", kind: .usage,
        code: "option-value")
    }
    return value
  }

  /// An option that is one of the cases of `Choice`.
  public mutating func choice<Choice: RawRepresentable & CaseIterable>(
    _ name: String, or words: [String] = [], default fallback: Choice
  ) throws(VitError) -> Choice where Choice.RawValue == String {
    let choices = (Choice.allCases.map(\.rawValue) + words).joined(separator: ", ")
    note(name, "one of \(choices)", fallback: fallback.rawValue)
    guard let text = text(name) else { return fallback }
    guard let value = Choice(rawValue: text) else {
      throw VitError(
        "\(pass): option '\(name)' cannot be '\(text)' (expected one of \(choices))", kind: .usage,
        code: "option-value", help: text.meant(among: Choice.allCases.map(\.rawValue) + words))
    }
    return value
  }

  /// An option that is one of these words; where it is something else it is left to be asked for again.
  public mutating func word(_ name: String, of words: [String]) -> String? {
    guard let entry = entries.first(where: { $0.name == name }), words.contains(entry.value) else {
      return nil
    }
    return text(name)
  }

  /// A part, written `0.5`, or a list of whole numbers in its place, written `[3,5]`; neither where the option is not given.
  public mutating func part(_ name: String) throws(VitError) -> (part: Double?, counts: [Int]?) {
    note(name, "a part, or whole numbers as in [3,5]")
    guard let text = text(name) else { return (nil, nil) }
    var copy = OptionReader(pass: pass, [(name, text)])
    if text.hasPrefix("[") { return (nil, try copy.integers(name)) }
    guard let part = Double(text) else {
      throw VitError(
        "\(pass): option '\(name)' cannot be '\(text)' (expected a part as 0.5, or numbers as in [3,5])",
        kind: .usage, code: "option-value")
    }
    return (part, nil)
  }

  /// A list of whole numbers, written `[3,5]` or as one number; `word` is what else may stand there, which was looked for.
  public mutating func integers(_ name: String, or word: String? = nil) throws(VitError) -> [Int]? {
    note(name, "whole numbers as in [3,5]" + (word.map { ", or \($0)" } ?? ""))
    guard let text = text(name) else { return nil }
    let inner = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
    let values = inner.split(separator: ",", omittingEmptySubsequences: false).map { Int($0.trimmed) }
    guard !inner.trimmed.isEmpty, values.allSatisfy({ $0 != nil }) else {
      throw VitError(
        "\(pass): option '\(name)' cannot be '\(text)' (expected numbers as in [3,5])", kind: .usage,
        code: "option-value")
    }
    return values.compactMap { $0 }
  }

  /// A list of numbers, written `[0.7,0.5]` or as one number.
  public mutating func numbers(_ name: String) throws(VitError) -> [Double]? {
    note(name, "a number, or numbers as in [0.7,0.5]")
    guard let text = text(name) else { return nil }
    let inner = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
    let values = inner.split(separator: ",", omittingEmptySubsequences: false).map { Double($0.trimmed) }
    guard !inner.trimmed.isEmpty, values.allSatisfy({ $0 != nil }) else {
      throw VitError(
        "\(pass): option '\(name)' cannot be '\(text)' (expected a number, or numbers as in [0.7,0.5])",
        kind: .usage, code: "option-value")
    }
    return values.compactMap { $0 }
  }

  /// Throws where an option was never asked for.
  public func finish() throws(VitError) {
    if let (name, _) = entries.first {
      let known = asked.map(\.name)
      let all = known.isEmpty ? "it has no options" : "its options are \(known.joined(separator: ", "))"
      throw VitError(
        "\(pass): unknown option '\(name)'", kind: .usage, code: "option-unknown",
        help: name.meant(among: known) ?? all)
    }
  }
}

extension StringProtocol {
  /// The text without blanks at its ends.
  var trimmed: String {
    var slice = self[...]
    while let first = slice.first, first.isWhitespace { slice.removeFirst() }
    while let last = slice.last, last.isWhitespace { slice.removeLast() }
    return String(slice)
  }
}
