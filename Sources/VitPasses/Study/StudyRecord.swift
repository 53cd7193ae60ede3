internal import VitIR

/// One line of what a study found: numbers and words by name, in an order of its own.
public struct StudyRecord: Hashable, Sendable {
  /// What stands under a name.
  public enum Value: Hashable, Sendable {
    /// A word.
    case text(String)
    /// A number; `nil` for what is none, or unknown.
    case number(Double?)
    /// Numbers of layers.
    case integers([Int])
  }

  /// A name and what stands under it.
  public struct Field: Hashable, Sendable {
    /// The name, in snake case.
    public let name: String
    /// What stands there.
    public let value: Value

    /// A field.
    public init(_ name: String, _ value: Value) { (self.name, self.value) = (name, value) }
  }

  /// The fields, each name once.
  public private(set) var fields: [Field]

  /// A record of a kind: `replacement`, `retention`, `teacher`, `layer`, `single`, `noise`, `subset`, `pair`, or `omitted`.
  public init(_ kind: String, _ fields: [(String, Value)]) {
    self.fields = [Field("record", .text(kind))] + fields.map { Field($0, $1) }
  }

  /// A record of these fields, as it was read.
  public init(_ fields: [Field]) { self.fields = fields }

  /// What kind of record it is.
  public var kind: String { text("record") ?? "" }

  /// The number of that name; `nil` where there is none.
  public func number(_ name: String) -> Double? {
    if case .number(let value)? = self[name] { value } else { nil }
  }

  /// The whole number of that name; `nil` where there is none.
  public func integer(_ name: String) -> Int? { number(name).flatMap { Int(exactly: $0) } }

  /// The word of that name.
  public func text(_ name: String) -> String? {
    if case .text(let value)? = self[name] { value } else { nil }
  }

  /// The numbers of that name.
  public func integers(_ name: String) -> [Int]? {
    if case .integers(let values)? = self[name] { values } else { nil }
  }

  /// What stands under a name.
  public subscript(name: String) -> Value? { fields.first { $0.name == name }?.value }
}

extension StudyRecord.Value {
  /// A whole number.
  static func whole(_ value: Int) -> StudyRecord.Value { .number(Double(value)) }
}

extension Fidelity {
  /// How near a model is to its teacher, as fields.
  var fields: [(String, StudyRecord.Value)] {
    let points = accuracy.flatMap { own in teacherAccuracy.map { 100 * (own - $0) } }
    return [
      ("images", .whole(images)), ("accuracy", .number(accuracy)),
      ("teacher_accuracy", .number(teacherAccuracy)),
      ("points", .number(points)), ("points_error", .number(dropError.map { 100 * $0 })),
      ("agreement", .number(agreement)), ("damage", .number(damage)),
      ("damage_error", .number(divergenceError)),
    ]
  }
}

extension Cost {
  /// Size and cost of a model, as fields.
  var fields: [(String, StudyRecord.Value)] {
    [("parameters", .whole(parameters)), ("flops", .whole(flops))]
  }
}
