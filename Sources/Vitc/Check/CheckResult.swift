internal import VitIR

/// One thing that was checked about a model.
public struct CheckResult: Sendable, Hashable {
  /// How it came out.
  public enum Verdict: String, Sendable {
    /// It is as it should be.
    case holds
    /// It differs in a way that is allowed.
    case differs
    /// It is not as it should be.
    case fails
  }

  /// What it is: `max-params`, `tensor`, `output`, …
  public var name: String
  /// The layer, tensor, operation or output that it is about; `nil` where it is the whole model.
  public var place: String?
  /// How it came out.
  public var verdict: Verdict
  /// What there should be.
  public var expected: String
  /// What there is.
  public var found: String
  /// What a reader has to know beside that; empty where there is nothing.
  public var message = ""
  /// What helps, where something does.
  public var help: String?

  /// A result.
  public init(
    name: String, place: String? = nil, verdict: Verdict, expected: String, found: String,
    message: String = "", help: String? = nil
  ) {
    (self.name, self.place, self.verdict) = (name, place, verdict)
    (self.expected, self.found, self.message, self.help) = (expected, found, message, help)
  }

  /// All of it as a sentence.
  public var sentence: String {
    let place = place.map { " '\($0)'" } ?? ""
    let more = message.isEmpty ? "" : "; \(message)"
    return "\(name)\(place): expected \(expected), found \(found)\(more)"
  }

  /// The names that a check may have, with what each is about: the rules of SARIF.
  public static let rules: [(name: String, summary: String)] =
    [
      ("model", "whether the model can be read"), ("bytes", "the file's bytes and where they come from"),
      ("interface", "inputs and outputs, how images are prepared, and the classes"),
      ("size", "parameters and operations"), ("layer", "the layers that mix tokens, and what stands there"),
      ("operation", "the operations and their attributes"), ("tensor", "the contents of tensors"),
      ("value", "what is computed on the way to the outputs"),
      ("output", "what the model computes from the recorded input"),
      ("scores", "accuracy and closeness to a teacher"),
    ] + Budgets.all.map { ($0.name, $0.summary) }
}

extension [CheckResult] {
  /// Whether nothing fails.
  public var hold: Bool { allSatisfy { $0.verdict != .fails } }
}
