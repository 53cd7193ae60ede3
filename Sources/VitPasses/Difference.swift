package import VitIR
internal import VitRuntime

/// What tells two models apart.
public struct Difference: Sendable {
  /// What differs.
  public enum Kind: String, Sendable {
    /// Inputs, outputs, operations, or what is connected to what.
    case structure
    /// The attributes of an operation.
    case attributes
    /// The values of a constant.
    case tensor
    /// A value computed on the way to the outputs: the first one that differs.
    case value
    /// An output.
    case output
  }

  /// What differs.
  public let kind: Kind
  /// The node, tensor or output where it does.
  public let place: String
  /// What stands in one and in the other.
  public let message: String

  /// The differences of `b` from `a`, which are run on `inputs`: the first of structure and of attributes, every tensor, and what both
  /// compute.
  ///
  /// Numbers may differ by `tolerance`, relative to the largest magnitude of a tensor. Names of values inside do not matter.
  package static func find(
    _ a: Graph, _ b: Graph, inputs: [Tensor], tolerance: Double, pool: any WorkPool
  ) throws -> [Difference] {
    var finder = DifferenceFinder(a, b, tolerance: tolerance)
    try finder.compareGraphs()
    try finder.compareRuns(inputs: inputs, pool: pool)
    return finder.found
  }
}

private struct DifferenceFinder {
  private let a: Graph
  private let b: Graph
  private let tolerance: Double
  private(set) var found: [Difference] = []

  init(_ a: Graph, _ b: Graph, tolerance: Double) {
    (self.a, self.b, self.tolerance) = (a, b, tolerance)
  }

  private mutating func note(_ kind: Difference.Kind, _ place: String, _ message: String) {
    found.append(Difference(kind: kind, place: place, message: message))
  }

  /// The name under which a node is found again: where it came from, else its first result.
  private func label(_ node: Node, _ graph: Graph) -> String {
    node.location.node ?? node.results.first.map { graph[$0].name } ?? node.name
  }

  mutating func compareGraphs() throws {
    func signature(_ graph: Graph) -> String {
      let inputs = graph.inputs.map { "\(graph[$0].name): \(graph.type($0))" }.joined(separator: ", ")
      let outputs = graph.outputs.map { "\($0.name): \(graph.type($0.value))" }.joined(separator: ", ")
      return "(\(inputs)) -> (\(outputs))"
    }
    if signature(a) != signature(b) {
      note(.structure, "signature", "\(signature(a)) against \(signature(b))")
    }
    // What each value is called by place, so that names inside do not matter.
    var (left, right) = (numbers(a), numbers(b))
    var attributesDiffer = false
    for (x, y) in zip(a.nodes, b.nodes) {
      let (p, q) = (x.operands.map { left.number($0) }, y.operands.map { right.number($0) })
      if x.name != y.name || p != q || x.results.count != y.results.count {
        note(.structure, label(x, a), "'\(x.name)' of \(p) against '\(y.name)' of \(q) at '\(label(y, b))'")
        return
      }
      for (r, s) in zip(x.results, y.results) {
        left.define(r)
        right.define(s)
      }
      let (s, t) = (x.operation.attributes.text, y.operation.attributes.text)
      if s != t, !attributesDiffer {
        attributesDiffer = true
        note(.attributes, label(x, a), "'\(x.name)' \(s) against \(t)")
      }
      for case let (m?, n?) in zip(x.operands, y.operands) where left.takesFirst(m) {
        guard let tensor = a.tensor(m), let other = b.tensor(n) else { continue }
        try compare(tensor, other, name: a[m].name)
      }
    }
    if a.nodes.count != b.nodes.count {
      note(.structure, "nodes", "\(a.nodes.count) operations against \(b.nodes.count)")
    }
  }

  private mutating func compare(_ x: Tensor, _ y: Tensor, name: String) throws {
    guard x.shape == y.shape, x.element.computed == y.element.computed else {
      return note(.tensor, name, "\(x.type) against \(y.type)")
    }
    guard !x.isElided, !y.isElided else { return }
    let same =
      try x.element == y.element
      && x.storage.withBytes { p in try y.storage.withBytes { p.elementsEqual($0) } }
    if same { return }
    let deviation = try y.deviation(from: x)
    if deviation > tolerance { note(.tensor, name, "the values deviate by \(Float(deviation))") }
  }

  private func numbers(_ graph: Graph) -> Numbering {
    var numbers = Numbering(graph)
    for input in graph.inputs { numbers.define(input) }
    return numbers
  }

  /// Runs both on the same inputs; where an output differs, finds the first value that does.
  mutating func compareRuns(inputs: [Tensor], pool: any WorkPool) throws {
    func isElided(_ graph: Graph) -> Bool {
      graph.tensors.names.contains { graph.tensors[$0]?.isElided ?? false }
    }
    guard a.inputs.count == b.inputs.count, a.outputs.count == b.outputs.count, !isElided(a), !isElided(b)
    else { return }
    func run(_ graph: Graph) throws -> Executor {
      let executor = try Executor(
        graph, weights: WeightStore(graph), inputShapes: inputs.map(\.shape), training: true, pool: pool)
      for (tensor, view) in zip(inputs, executor.inputs) { try tensor.copy(to: view) }
      executor.run()
      return executor
    }
    let (x, y) = (try run(a), try run(b))
    var differs = false
    for (index, output) in a.outputs.enumerated() {
      let deviation = try Tensor(copying: y.outputs[index]).deviation(from: Tensor(copying: x.outputs[index]))
      guard deviation > tolerance else { continue }
      differs = true
      note(.output, output.name, "the values deviate by \(Float(deviation))")
    }
    guard differs, !found.contains(where: { $0.kind == .structure }) else { return }
    for (p, q) in zip(a.nodes, b.nodes) {
      for (r, s) in zip(p.results, q.results) {
        guard let left = x.plan.view(r), let right = y.plan.view(s) else { continue }
        let deviation = try Tensor(copying: right).deviation(from: Tensor(copying: left))
        guard deviation > tolerance else { continue }
        return note(
          .value, label(p, a),
          "the first value that deviates, by \(Float(deviation)): the result of '\(p.name)'")
      }
    }
  }
}

/// Numbers values in the order of their first use, whatever they are called.
private struct Numbering {
  private var numbers: [Int?]
  private var isSeen: [Bool]
  private var count = 0

  init(_ graph: Graph) {
    numbers = Array(repeating: nil, count: graph.values.count)
    isSeen = Array(repeating: false, count: graph.values.count)
  }

  mutating func define(_ id: ValueID) {
    numbers[id.index] = count
    count += 1
  }

  mutating func number(_ id: ValueID?) -> Int {
    guard let id else { return -1 }
    if numbers[id.index] == nil { define(id) }
    return numbers[id.index] ?? -1
  }

  /// Whether this is the first time that it is asked about.
  mutating func takesFirst(_ id: ValueID) -> Bool {
    defer { isSeen[id.index] = true }
    return !isSeen[id.index]
  }
}
