public import VitIR
internal import VitRuntime

/// Passes in order, written as in `score,select{by=drop,count=4}`.
public struct Pipeline: Sendable, CustomStringConvertible {
  /// The passes.
  public var passes: [any Pass]

  /// A pipeline of these passes.
  public init(_ passes: [any Pass]) { self.passes = passes }

  /// Reads a pipeline: names with options in braces, separated by commas.
  ///
  /// Throws a usage error that names the pass for an unknown name, an unknown option or a wrong value.
  /// `known` are the passes that may be named, vitc's own unless an embedder adds some.
  public init(_ text: String, known: [any Pass.Type] = Pipeline.standardPasses) throws(VitError) {
    var passes: [any Pass] = []
    for piece in try Pipeline.split(text) {
      let (name, options) = try Pipeline.parse(piece)
      guard let type = known.first(where: { $0.name == name }) else {
        throw VitError(
          "unknown pass '\(name)'", kind: .usage, code: "unknown-pass",
          help:
            "\(name.meant(among: known.map { $0.name }).map { $0 + " " } ?? "")the passes are \(known.map { $0.name }.sorted().joined(separator: ", "))"
        )
      }
      var reader = OptionReader(pass: name, options)
      let pass = try type.init(options: &reader)
      try reader.finish()
      try pass.check()
      passes.append(pass)
    }
    self.passes = passes
  }

  /// The canonical text, every option written out; reading it gives this pipeline again.
  public var description: String { passes.map(Pipeline.text).joined(separator: ",") }

  /// The canonical text of one pass.
  public static func text(_ pass: any Pass) -> String {
    let options = pass.options.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
    return options.isEmpty ? type(of: pass).name : "\(type(of: pass).name){\(options)}"
  }

  /// Throws a usage error where an option of a pass has a value that makes no sense.
  public func check() throws(VitError) { for pass in passes { try pass.check() } }

  /// Runs the passes in order on `hybrid`. Observers hear of each before and after it.
  ///
  /// Throws before the first where the memory that they will need does not fit.
  ///
  /// A model of which nothing is replaced or left out is its own teacher: where `hybrid` comes without one, it has what it was
  /// before the first such pass at the end.
  @discardableResult
  public func run(
    on hybrid: inout Hybrid, context: PassContext, observers: [any PassObserver] = []
  ) throws -> [PassResult] {
    try check()
    for case let head as Head in passes { try head.checkData(context) }
    try rehearse(hybrid, context: context)
    return try perform(on: &hybrid, context: context, observers: observers)
  }

  /// Runs the passes, which are checked and rehearsed.
  func perform(
    on hybrid: inout Hybrid, context: PassContext, observers: [any PassObserver]
  ) throws -> [PassResult] {
    var results: [PassResult] = []
    var isGiven = hybrid.teacher != nil
    defer { if !isGiven, hybrid.replaced.isEmpty { hybrid.teacher = nil } }
    for (place, pass) in passes.enumerated() {
      try context.checkCancelled()
      if !pass.worksOnNarrowWeights, hybrid.graph.hasWeightsInFewerBits {
        hybrid.graph.widenWeights()
        context.report(.widenedWeights)
      }
      if !isGiven, hybrid.replaced.isEmpty { hybrid.teacher = Teacher(hybrid) }
      context.place = place
      for observer in observers { try observer.before(pass, hybrid) }
      let result = Result {
        try pass.checkMerged(hybrid)
        return try pass.run(on: &hybrid, context: context)
      }
      context.leftOut.report(to: context.report)
      for observer in observers.reversed() { try observer.after(pass, hybrid, result) }
      results.append(try result.get())
      if pass.isLossy, results.last?.changes != 0 { isGiven = true }
    }
    return results
  }

  /// Cuts at the commas outside braces and brackets.
  private static func split(_ text: String) throws(VitError) -> [String] {
    var pieces: [String] = []
    var current = ""
    var depth = 0
    for character in text {
      switch character {
      case "{", "[": depth += 1
      case "}", "]": depth -= 1
      default: break
      }
      guard depth >= 0 else { throw malformed(text) }
      if character == ",", depth == 0 {
        pieces.append(current.trimmed)
        current = ""
      } else {
        current.append(character)
      }
    }
    pieces.append(current.trimmed)
    guard depth == 0, pieces.allSatisfy({ !$0.isEmpty }) else { throw malformed(text) }
    return pieces
  }

  private static func malformed(_ text: String) -> VitError {
    VitError(
      "the pipeline '\(text)' is malformed", kind: .usage, code: "pipeline-syntax",
      help: "write passes as name{option=value,…}, separated by commas")
  }

  static func parse(_ piece: String) throws(VitError) -> (String, [(name: String, value: String)]) {
    guard let brace = piece.firstIndex(of: "{") else { return (piece, []) }
    guard piece.hasSuffix("}") else { throw malformed(piece) }
    let inner = piece[piece.index(after: brace)...].dropLast()
    var options: [(name: String, value: String)] = []
    for option in inner.trimmed.isEmpty ? [] : try split(String(inner)) {
      guard let equals = option.firstIndex(of: "=") else { throw malformed(piece) }
      let name = option[..<equals].trimmed
      guard !options.contains(where: { $0.name == name }) else {
        throw VitError("option '\(name)' is given twice in '\(piece)'", kind: .usage, code: "option-twice")
      }
      options.append((name, option[option.index(after: equals)...].trimmed))
    }
    return (piece[..<brace].trimmed, options)
  }
}
