package import VitIR
internal import VitOps
internal import VitRuntime

/// Finds what tells two graphs apart, node by node of an alignment.
struct DifferenceFinder {
  private let a: Graph
  private let b: Graph
  private let tolerance: Double
  private let alignment: GraphAlignment
  /// For each input of `a` the place of the one of `b`; `nil` where there are not as many.
  private let inputs: [Int]?
  /// The same for outputs.
  private let outputs: [Int]?
  private(set) var found: [Difference] = []
  /// The differences of structure, by the row of the alignment.
  private var gaps: [(row: Int, place: Int)] = []

  init(_ a: Graph, _ b: Graph, tolerance: Double) throws {
    (self.a, self.b, self.tolerance) = (a, b, tolerance)
    alignment = try GraphAlignment(a, b)
    inputs = DifferenceFinder.places(a.inputs.map { a[$0].name }, in: b.inputs.map { b[$0].name })
    outputs = DifferenceFinder.places(a.outputs.map(\.name), in: b.outputs.map(\.name))
  }

  private static func places(_ names: [String], in others: [String]) -> [Int]? {
    guard names.count == others.count else { return nil }
    guard Set(names) == Set(others), Set(names).count == names.count else { return Array(names.indices) }
    return names.compactMap { others.firstIndex(of: $0) }
  }

  private mutating func note(_ kind: Difference.Kind, _ place: String, _ message: String) {
    found.append(Difference(kind: kind, place: place, message: message))
  }

  // MARK: - What stands there

  mutating func compareGraphs() throws {
    func signature(_ graph: Graph) -> String {
      let inputs = graph.inputs.map { "\(graph[$0].name): \(graph.type($0))" }.joined(separator: ", ")
      let outputs = graph.outputs.map { "\($0.name): \(graph.type($0.value))" }.joined(separator: ", ")
      return "(\(inputs)) -> (\(outputs))"
    }
    if signature(a) != signature(b) {
      note(.structure, "signature", "\(signature(a)) against \(signature(b))")
    }
    let (left, right) = (a.producers(), b.producers())
    var attributesDiffer = false
    var compared: Set<[Int]> = []
    for (row, entry) in alignment.rows.enumerated() {
      switch entry {
      case .gap(let some, let others):
        gaps.append((row, found.count))
        let place = some.first.map { a.label(of: $0) } ?? others.first.map { b.label(of: $0) } ?? ""
        note(.structure, place, "\(listed(some, a)) against \(listed(others, b))")
      case .pair(let i, let j):
        let (x, y) = (a.nodes[i], b.nodes[j])
        let (s, t) = (x.operation.attributes.text, y.operation.attributes.text)
        if s != t, !attributesDiffer {
          attributesDiffer = true
          note(.attributes, a.label(of: i), "'\(x.name)' \(s) against \(t)")
        }
        let operands = compareSources(i, j, left, right) ? y.operands.reversed() : y.operands
        for case let (m?, n?) in zip(x.operands, operands) where a[m].isConstant && b[n].isConstant {
          guard let tensor = a.tensor(m), let other = b.tensor(n) else { continue }
          guard compared.insert([m.index, n.index]).inserted else { continue }
          try compare(tensor, other, name: a[m].name)
        }
      }
    }
  }

  /// The operations of nodes, of many the first.
  private func listed(_ nodes: [Int], _ graph: Graph) -> String {
    if nodes.isEmpty { return "nothing" }
    let most = 6
    let names = nodes.prefix(most).map { graph.nodes[$0].name }.joined(separator: ", ")
    return
      "\(names)\(nodes.count > most ? " and \(nodes.count - most) more" : "") at '\(graph.label(of: nodes[0]))'"
  }

  /// Notes where two nodes that answer each other read results of nodes that do not, though both have a counterpart; whether the
  /// operands of a sum or a product stand in the other order.
  private mutating func compareSources(_ i: Int, _ j: Int, _ left: [Int?], _ right: [Int?]) -> Bool {
    let (x, y) = (a.nodes[i], b.nodes[j])
    guard x.operands.count == y.operands.count else {
      note(
        .structure, a.label(of: i), "'\(x.name)' of \(x.operands.count) operands against \(y.operands.count)")
      return false
    }
    func source(_ id: ValueID?, _ graph: Graph, _ producer: [Int?], _ inputs: [Int]?) -> Source {
      guard let id else { return .absent }
      if graph[id].isConstant { return .constant }
      if let node = producer[id.index] {
        return .node(node, graph.nodes[node].results.firstIndex(of: id) ?? 0)
      }
      let place = graph.inputs.firstIndex(of: id) ?? 0
      return .input(inputs?[place] ?? place)
    }
    let p = x.operands.map { source($0, a, left, inputs).answered(by: alignment.counterpart) }
    let q = y.operands.map { source($0, b, right, nil) }
    func agree(_ p: [Source], _ q: [Source]) -> Bool {
      zip(p, q).allSatisfy { $0 == $1 || $0 == .unanswered || $1.isUnanswered(in: alignment) }
    }
    if agree(p, q) { return false }
    let commutes = x.isAny(VitAdd.self, Onnx.add, Onnx.mul) && p.count == 2
    if commutes, agree(p.reversed(), q) { return true }
    note(.structure, a.label(of: i), "'\(x.name)' reads other values there than at '\(b.label(of: j))'")
    return false
  }

  /// Where an operand comes from, in terms of the second graph.
  private enum Source: Equatable {
    case absent, constant, unanswered
    case input(Int)
    case node(Int, Int)

    func answered(by counterpart: [Int: Int]) -> Source {
      guard case .node(let node, let result) = self else { return self }
      return counterpart[node].map { .node($0, result) } ?? .unanswered
    }

    func isUnanswered(in alignment: GraphAlignment) -> Bool {
      guard case .node(let node, _) = self else { return false }
      return !alignment.answers.contains(node)
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

  // MARK: - What is computed

  /// Runs both on the same inputs; where an output differs, finds the first value that does.
  mutating func compareRuns(inputs tensors: [Tensor], pool: any WorkPool) throws {
    func isElided(_ graph: Graph) -> Bool {
      graph.tensors.names.contains { graph.tensors[$0]?.isElided ?? false }
    }
    guard !isElided(a), !isElided(b) else { return }
    guard tensors.count == a.inputs.count else {
      throw VitError(
        "the model has \(a.inputs.count) inputs, found \(tensors.count)", code: "input-count")
    }
    guard let inputs, let outputs else {
      return note(.output, "outputs", "there are not as many inputs and outputs in both: neither is run")
    }
    // The order of b's inputs, of tensors that are in a's.
    var given = tensors
    for (place, other) in inputs.enumerated() where place < tensors.count { given[other] = tensors[place] }
    if let problem = zip(b.inputs, given).lazy.compactMap({ b.obstacle(to: $1, as: $0) }).first {
      return note(.output, "outputs", problem)
    }
    let (x, y) = (try run(a, tensors, pool), try run(b, given, pool))
    var differs = false
    for (index, output) in a.outputs.enumerated() {
      let deviation = try Tensor(copying: y.outputs[outputs[index]]).deviation(
        from: Tensor(copying: x.outputs[index]))
      guard deviation > tolerance else { continue }
      differs = true
      note(.output, output.name, DifferenceFinder.text(deviation, y.outputs[outputs[index]].shape))
    }
    try explain(x, y, differs: differs)
  }

  private func run(_ graph: Graph, _ inputs: [Tensor], _ pool: any WorkPool) throws -> Executor {
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: inputs.map(\.shape), training: true, pool: pool)
    for (tensor, view) in zip(inputs, executor.inputs) { try tensor.copy(to: view) }
    executor.run()
    return executor
  }

  private static func text(_ deviation: Double, _ shape: [Int]) -> String {
    deviation.isFinite
      ? "the values deviate by \(Float(deviation))"
      : "the values deviate without bound: one is no number, or its shape is another than \(shape)"
  }

  /// Says of the first value that differs where it is, and of each gap whether what follows agrees.
  private mutating func explain(_ x: Executor, _ y: Executor, differs: Bool) throws {
    var agreeing = 0
    var isLost = false
    var open = gaps[...]
    for (row, entry) in alignment.rows.enumerated() {
      guard case .pair(let i, let j) = entry else { continue }
      if isLost { break }
      if !differs, open.isEmpty { break }
      for (r, s) in zip(a.nodes[i].results, b.nodes[j].results) {
        guard let left = x.plan.view(r), let right = y.plan.view(s) else { continue }
        let deviation = try Tensor(copying: right).deviation(from: Tensor(copying: left))
        guard deviation > tolerance else {
          agreeing += 1
          continue
        }
        isLost = true
        if differs {
          let text = deviation.isFinite ? "by \(Float(deviation))" : "without bound or in shape"
          note(
            .value, a.label(of: i),
            "the first value that deviates, \(text): the result of '\(a.nodes[i].name)', behind \(agreeing) that agree"
          )
        }
        break
      }
      while !isLost, let gap = open.first, gap.row < row {
        append(", and what follows agrees", to: gap.place)
        open = open.dropFirst()
      }
    }
    if !differs { for gap in open { append(", and the outputs agree", to: gap.place) } }
  }

  private mutating func append(_ text: String, to place: Int) {
    let old = found[place]
    found[place] = Difference(kind: old.kind, place: old.place, message: old.message + text)
  }
}

extension Graph {
  /// The name under which a node is found again: where it came from, else its first result.
  package func label(of node: Int) -> String {
    nodes[node].location.node ?? nodes[node].results.first.map { self[$0].name } ?? nodes[node].name
  }

  /// Why `tensor` cannot be the input `id`, in words; `nil` where it can.
  fileprivate func obstacle(to tensor: Tensor, as id: ValueID) -> String? {
    let wanted = type(id)
    let fits =
      wanted.rank == tensor.shape.count
      && zip(wanted.shape, tensor.shape).allSatisfy { $0.fixedValue == nil || $0.fixedValue == $1 }
    return fits
      ? nil : "input '\(self[id].name)' is \(wanted) in the second, which is not run on \(tensor.shape)"
  }
}
