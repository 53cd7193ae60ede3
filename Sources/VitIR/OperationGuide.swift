internal import Synchronization

/// What an operation is and takes, found out by asking its own definition.
///
/// Its `example` is read as `(f32[2, 3], i64[1] = [-1], _) {axis = 1} -> 2`: operands by their types, those that must be known
/// with their elements, `_` for one that is absent; attributes; and the number of results, where it is not one.
public struct OperationGuide: Sendable {
  /// An operand.
  public struct Operand: Sendable {
    /// What the type rule calls it.
    public var name: String
    /// Whether it may be absent.
    public var isOptional: Bool
    /// Its type in the example, where it is there.
    public var type: TensorType?
    /// What it is for.
    public var role: OperandRole
  }

  /// An attribute.
  public struct AttributeEntry: Sendable {
    /// Its name.
    public var name: String
    /// Its type, or the values that it may have.
    public var kind: String
    /// Its value where it is absent, as text; `nil` where there is none.
    public var fallback: String?
    /// Whether it must be there.
    public var isRequired: Bool
  }

  /// The operands, in order.
  public let operands: [Operand]
  /// The attributes, in the order in which they are asked for.
  public let attributes: [AttributeEntry]
  /// The most results that it takes beside the example's operands.
  public let results: Int
  /// The example as a graph of one node.
  public let graph: Graph

  /// The attributes that `read` asks for, in its order, with their defaults. Throws where one has none.
  public static func attributes(
    _ read: (inout AttributeReader) throws(VitError) -> Void
  ) throws(VitError) -> [AttributeEntry] {
    var reader = AttributeReader(recording: Attributes())
    try read(&reader)
    return entries(reader)
  }

  private static func entries(_ reader: AttributeReader) -> [AttributeEntry] {
    (reader.asked ?? []).map {
      AttributeEntry(name: $0.name, kind: $0.kind, fallback: $0.fallback, isRequired: $0.isRequired)
    }
  }

  /// What `type` has to say. Throws where its example does not fit it.
  public init(_ type: any Operation.Type, registry: Registry) throws(VitError) {
    let example = try Example(type.example)
    var reader = AttributeReader(recording: example.attributes)
    let operation = try type.init(attributes: &reader)
    try reader.finish()
    attributes = OperationGuide.entries(reader)
    let record = OperandRecord()
    var operands = Operands(
      example.operands.map { $0?.type }, values: example.operands.map { $0?.value.map(KnownValue.tensor) },
      resultCount: example.results)
    operands.record = record
    _ = try operation.resultTypes(operands)
    let names = record.names
    let count = max(record.count ?? 0, operands.count)
    self.operands = (0..<min(count, 64)).map { index in
      Operand(
        name: names[index] ?? "input \(index)", isOptional: Self.isOptional(index, operands, operation),
        type: operands[index], role: operation.role(of: index))
    }
    results =
      (1...8).last { count in
        var more = operands
        more.resultCount = count
        return (try? operation.resultTypes(more))?.count == count
      } ?? 1
    var builder = GraphBuilder(Graph(name: "example"), registry: registry)
    var ids: [ValueID?] = []
    for (index, operand) in example.operands.enumerated() {
      let name = (names[index] ?? "x\(index)").replacing(/[^A-Za-z0-9_]/, with: "_")
      ids.append(
        operand.map { operand in
          operand.value.map { builder.graph.addConstant($0, name: name) }
            ?? builder.graph.addInput(operand.type, name: name)
        })
    }
    let results = try builder.add(
      operation, ids, resultCount: example.results,
      names: (0..<example.results).map { example.results == 1 ? "y" : "y\($0)" })
    builder.graph.outputs = results.enumerated().map {
      (results.count == 1 ? "y" : "y\($0.offset)", $0.element)
    }
    graph = builder.graph
  }

  /// Whether the type rule takes the operands without that one.
  private static func isOptional(_ index: Int, _ operands: Operands, _ operation: any Operation) -> Bool {
    guard operands.has(index) else { return true }
    var fewer = operands
    fewer.record = nil
    if index == operands.count - 1 {
      fewer.types.removeLast()
    } else {
      fewer.types[index] = nil
    }
    return (try? operation.resultTypes(fewer)) != nil
  }

  /// An example as it is written.
  private struct Example {
    var operands: [(type: TensorType, value: Tensor?)?] = []
    var attributes = Attributes()
    var results = 1

    init(_ text: String) throws(VitError) {
      var reader = try TextReader(Array(text.utf8), file: nil)
      var operands: [(type: TensorType, value: Tensor?)?] = []
      try reader.list("(", ")") { reader throws(VitError) in
        if try reader.take(word: "_") { return operands.append(nil) }
        let type = try reader.type()
        let value = try reader.take("=") ? try reader.tensor(type.element, shape: type.extents) : nil
        operands.append((type, value))
      }
      self.operands = operands
      if reader.token == .mark("{") { attributes = try reader.attributes() }
      if reader.token == .arrow {
        try reader.advance()
        results = try reader.number("the number of results")
      }
      guard reader.token == .end else { throw reader.unexpected("the end") }
    }
  }
}

/// What a type rule calls its operands, and how many it takes.
final class OperandRecord: Sendable {
  private let state = Mutex<(names: [Int: String], count: Int?)>(([:], nil))

  /// The names, by the operands' places.
  var names: [Int: String] { state.withLock { $0.names } }
  /// The most operands, where the rule says so.
  var count: Int? { state.withLock { $0.count } }

  func note(_ index: Int, _ role: String) {
    state.withLock { if $0.names[index] == nil { $0.names[index] = role } }
  }

  func note(count: Int) { state.withLock { $0.count = count < 64 ? count : nil } }
}
