internal import VitIR
internal import VitOps

/// Which entries of a value somebody reads.
enum Demand: Equatable {
  /// Nobody reads it.
  case none
  /// Only entries of one axis are read, listed in order; not all of them.
  case entries(axis: Int, [Int])
  /// All of it may be read.
  case all

  /// What two readers need together, of a value of this type.
  func joined(_ other: Demand, _ type: TensorType) -> Demand {
    switch (self, other) {
    case (.none, let demand), (let demand, .none): demand
    case (.entries(let axis, let a), .entries(let other, let b)) where axis == other:
      Demand(axis, Set(a).union(b).sorted(), of: type)
    default: .all
    }
  }

  /// The entries that are listed, in order, of an axis; all where there are no others, or it is not known how many there are.
  init(_ axis: Int, _ entries: [Int], of type: TensorType) {
    guard let extent = type.shape[axis].fixedValue, entries.count < extent,
      entries.allSatisfy({ (0..<extent).contains($0) })
    else {
      self = .all
      return
    }
    self = entries.isEmpty ? .none : .entries(axis: axis, entries)
  }
}

/// For each value of a graph the entries that the outputs depend on, and which nodes can do with fewer.
///
/// One walk against the order of the nodes. An operation of which some entries are needed needs the same entries of the
/// operands that run side by side with them (see `AxisMap`); one that mixes them needs all, and only attention can
/// still do with fewer queries.
struct RowDemand {
  /// How a node can be made to compute only what is needed.
  enum Reduction: Equatable {
    /// It cannot.
    case none
    /// By entries of its operands.
    case parallel
    /// Attention with fewer queries.
    case queries
  }

  /// By value.
  private(set) var demands: [Demand]
  /// By node.
  private(set) var reductions: [Reduction]
  private let graph: Graph

  /// Walks the nodes once.
  init(_ graph: Graph) {
    self.graph = graph
    demands = Array(repeating: .none, count: graph.values.count)
    reductions = Array(repeating: .none, count: graph.nodes.count)
    for output in graph.outputs { demands[output.value.index] = .all }
    for (place, node) in graph.nodes.enumerated().reversed() {
      if node.results.allSatisfy({ demands[$0.index] == .none }) { continue }
      var wanted = node.operands.map { $0 == nil ? Demand.none : .all }
      if node.results.count == 1, let result = node.results.first {
        (wanted, reductions[place]) = needs(node, demands[result.index])
      }
      for (operand, demand) in zip(node.operands, wanted) {
        guard let operand else { continue }
        demands[operand.index] = demands[operand.index].joined(demand, graph.type(operand))
      }
    }
  }

  subscript(id: ValueID) -> Demand { demands[id.index] }

  /// What a node with one result needs of its operands, and how it does with less.
  private func needs(_ node: Node, _ demand: Demand) -> ([Demand], Reduction) {
    let all = node.operands.map { $0 == nil ? Demand.none : .all }
    let map = graph.axes(of: node)
    switch demand {
    case .none: return (all.map { _ in .none }, .none)
    case .all: return (picked(node, map) ?? all, .none)
    case .entries(let axis, let entries):
      if let attention = node.operation as? PrefixAttention {
        // The mixer's rows are not needed where only those written over it are.
        guard axis == 1, entries.allSatisfy({ $0 < attention.prefix }) else { return (all, .none) }
        return (all.enumerated().map { $0 == 1 ? .none : $1 }, .queries)
      }
      if node.operation is VitAttention {
        let isFree = node.operation.attributes["causal"] != .bool(true)
        return (all, axis == 1 && isFree ? .queries : .none)
      }
      guard let letter = graph.letter(of: node, map, axis: axis), letter.kind == .parallel,
        fits(node, letter, axis, entries.count)
      else { return (all, .none) }
      var wanted = all
      for (place, operand) in node.operands.enumerated() {
        guard let operand, let own = letter.axis(ofOperand: place) else { continue }
        wanted[place] = Demand(own, entries, of: graph.type(operand))
      }
      return (wanted, .parallel)
    }
  }

  /// What an operation needs that picks entries out of its first operand and is itself read whole.
  private func picked(_ node: Node, _ map: AxisMap) -> [Demand]? {
    guard let pick = RowPick(node, graph, map), let data = node.operands[0] else { return nil }
    var wanted = node.operands.map { $0 == nil ? Demand.none : .all }
    wanted[0] = Demand(pick.axis, Set(pick.entries).sorted(), of: graph.type(data))
    return wanted
  }

  /// Whether a node whose operands have only `count` entries along a letter gives as many, and is else the same.
  private func fits(_ node: Node, _ letter: AxisMap.Letter, _ axis: Int, _ count: Int) -> Bool {
    guard let result = node.results.first, letter.operands.contains(where: { $0 != nil }) else {
      return false
    }
    let extent = graph.type(result).shape[axis]
    var types: [TensorType?] = node.operands.map { $0.map(graph.type) }
    for place in types.indices {
      guard let own = letter.axis(ofOperand: place), var type = types[place] else { continue }
      guard type.shape[own] == extent else { return false }
      type.shape[own] = .fixed(count)
      types[place] = type
    }
    let values = node.operands.enumerated().map { place, id -> KnownValue? in
      letter.axis(ofOperand: place) == nil ? id.flatMap(graph.tensor).map(KnownValue.tensor) : nil
    }
    var expected = graph.type(result)
    expected.shape[axis] = .fixed(count)
    let found = try? node.operation.resultTypes(Operands(types, values: values, resultCount: 1))
    return found == [expected]
  }
}

/// The entries along one axis that a node takes out of its first operand, and does nothing else.
struct RowPick {
  /// The axis of the operand.
  let axis: Int
  /// The entries, in the order in which they stand in the result.
  let entries: [Int]

  init?(_ node: Node, _ graph: Graph, _ map: AxisMap) {
    guard node.operation is any MovementOperation, node.results.count == 1, let data = node.operands[0],
      let result = node.results.first
    else { return nil }
    let (from, to) = (graph.type(data).shape, graph.type(result).shape)
    if node.isAny(Onnx.gather), case .int(let axis)? = node.operation.attributes["axis"] ?? .int(0),
      let indices = node.operands[1].flatMap(graph.tensor), let numbers = try? indices.integers()
    {
      let place = axis < 0 ? axis + from.count : axis
      guard let extent = from[place].fixedValue else { return nil }
      self.axis = place
      entries = numbers.map { $0 < 0 ? $0 + extent : $0 }
      return
    }
    let cut = map.letters.filter { letter in
      guard letter.kind == .ranges, let own = letter.axis(ofOperand: 0) else { return false }
      return letter.axis(ofResult: 0).map { to[$0] != from[own] } ?? true
    }
    guard cut.count == 1, let letter = cut.first, let own = letter.axis(ofOperand: 0),
      node.operands.indices.dropFirst().allSatisfy({ letter.axis(ofOperand: $0) == nil }),
      let start = letter.resultStarts.first?.fixedValue,
      letter.operandStarts.allSatisfy({ $0 == 0 }),
      let count = letter.axis(ofResult: 0).map({ to[$0].fixedValue }) ?? 1
    else { return nil }
    axis = own
    entries = Array(start..<start + count)
  }
}

extension Graph {
  /// The letter of an axis of a node's result. Where elements are regrouped, an axis that stays as it is with all before it runs
  /// side by side with itself.
  func letter(of node: Node, _ map: AxisMap, axis: Int) -> AxisMap.Letter? {
    guard map.regroups, let data = node.operands[0], let result = node.results.first else {
      return map.letter(ofResult: 0, axis: axis)
    }
    let (from, to) = (type(data).shape, type(result).shape)
    guard axis < from.count, from[...axis] == to[...axis] else { return nil }
    let others = [Int?](repeating: nil, count: node.operands.count - 1)
    return AxisMap.Letter(.parallel, [axis] + others, [axis])
  }
}
