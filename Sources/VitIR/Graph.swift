/// A value of one graph.
public struct ValueID: Hashable, Sendable, Comparable {
  /// Its place in `Graph.values`.
  public let index: Int

  init(_ index: Int) { self.index = index }

  /// By place.
  public static func < (a: ValueID, b: ValueID) -> Bool { a.index < b.index }
}

/// A value: an input of the graph, a result of a node, or a constant.
public struct Value: Sendable {
  /// What it is.
  public var type: TensorType
  /// Its name, unique in the graph; for a constant the name of its tensor.
  public var name: String
  /// Whether it is a constant, whose tensor is `Graph.tensors[name]`.
  public var isConstant: Bool
}

/// One operation at work: which values it reads and which it defines.
public struct Node: Sendable {
  /// What it computes.
  public var operation: any Operation
  /// What it reads; `nil` for an optional operand that is absent.
  public var operands: [ValueID?]
  /// What it defines.
  public var results: [ValueID]
  /// Where it came from.
  public var location: Location

  /// A node.
  public init(
    _ operation: any Operation, operands: [ValueID?], results: [ValueID], location: Location = Location()
  ) {
    self.operation = operation
    self.operands = operands
    self.results = results
    self.location = location
  }

  /// The operation's name.
  public var name: String { type(of: operation).name }

  /// Whether the operation is one of these types.
  public func isAny(_ types: any Operation.Type...) -> Bool {
    types.contains { ObjectIdentifier($0) == ObjectIdentifier(type(of: operation)) }
  }
}

/// The constants of a graph by name, in the order in which they were added.
public struct TensorTable: Sendable {
  /// The names, in order.
  public private(set) var names: [String] = []
  private var tensors: [String: Tensor] = [:]

  /// An empty table.
  public init() {}

  /// The tensor of that name; setting `nil` removes it.
  public subscript(name: String) -> Tensor? {
    get { tensors[name] }
    set {
      if let newValue {
        if tensors.updateValue(newValue, forKey: name) == nil { names.append(name) }
      } else if tensors.removeValue(forKey: name) != nil {
        names.removeAll { $0 == name }
      }
    }
  }

  /// Keeps only the tensors whose names are in `kept`.
  public mutating func keep(_ kept: Set<String>) {
    names.removeAll { !kept.contains($0) }
    tensors = tensors.filter { kept.contains($0.key) }
  }
}

/// A typed graph in single-assignment form: nodes in an order in which every value is defined before it is
/// read.
public struct Graph: Sendable {
  /// The model's name.
  public var name: String
  /// All values ever made in this graph; `ValueID` is an index into it.
  public private(set) var values: [Value] = []
  /// The inputs, in order.
  public var inputs: [ValueID] = []
  /// The outputs by name, in order.
  public var outputs: [(name: String, value: ValueID)] = []
  /// The nodes, in order.
  public var nodes: [Node] = []
  /// The constants' tensors.
  public var tensors = TensorTable()
  /// What is known of the model as a whole: preprocessing, labels, lineage.
  public var annotations = Attributes()
  private var names: [String: Int] = [:]
  /// The last number given behind a name, so that many values of one name take linear time.
  private var suffixes: [String: Int] = [:]

  /// An empty graph.
  public init(name: String) { self.name = name }

  /// The value.
  public subscript(id: ValueID) -> Value { values[id.index] }

  /// The value at a place in `values`.
  public func valueID(_ index: Int) -> ValueID {
    precondition(values.indices.contains(index))
    return ValueID(index)
  }

  /// The type of a value.
  public func type(_ id: ValueID) -> TensorType { values[id.index].type }

  /// Changes the type that is noted for a value.
  public mutating func setType(_ type: TensorType, of id: ValueID) { values[id.index].type = type }

  /// A new value that a node will define. A name that is taken gets a number behind it.
  public mutating func addValue(_ type: TensorType, name: String) -> ValueID {
    let id = ValueID(values.count)
    let name = uniqueName(name)
    names[name] = id.index
    values.append(Value(type: type, name: name, isConstant: false))
    return id
  }

  /// A new input.
  public mutating func addInput(_ type: TensorType, name: String) -> ValueID {
    let id = addValue(type, name: name)
    inputs.append(id)
    return id
  }

  /// A new constant. A name that is taken gets a number behind it.
  public mutating func addConstant(_ tensor: Tensor, name: String) -> ValueID {
    let id = ValueID(values.count)
    let name = uniqueName(name)
    names[name] = id.index
    tensors[name] = tensor
    values.append(Value(type: tensor.type.computed, name: name, isConstant: true))
    return id
  }

  /// The value of that name.
  public func value(named name: String) -> ValueID? { names[name].map(ValueID.init) }

  /// The tensor of a constant, or `nil` where the value is none.
  public func tensor(_ id: ValueID) -> Tensor? {
    let value = values[id.index]
    return value.isConstant ? tensors[value.name] : nil
  }

  /// Replaces the tensor of a constant; the shape may change.
  public mutating func setTensor(_ tensor: Tensor, of id: ValueID) {
    precondition(values[id.index].isConstant)
    tensors[values[id.index].name] = tensor
    values[id.index].type = tensor.type.computed
  }

  private mutating func uniqueName(_ wanted: String) -> String {
    if names[wanted] == nil { return wanted }
    var number = suffixes[wanted, default: 0] + 1
    while names["\(wanted).\(number)"] != nil { number += 1 }
    suffixes[wanted] = number
    return "\(wanted).\(number)"
  }

  /// For each value the node that defines it, or `nil`: an array over `ValueID.index`.
  public func producers() -> [Int?] {
    var result = [Int?](repeating: nil, count: values.count)
    for (index, node) in nodes.enumerated() {
      for id in node.results { result[id.index] = index }
    }
    return result
  }

  /// For each value the nodes that read it, in order (a node once for each reading): an array over
  /// `ValueID.index`.
  public func consumers() -> [[Int]] {
    var result = [[Int]](repeating: [], count: values.count)
    for (index, node) in nodes.enumerated() {
      for case let id? in node.operands { result[id.index].append(index) }
    }
    return result
  }

  /// Removes the nodes that no output depends on, and the constants that nobody reads.
  public mutating func removeDeadNodes() {
    // By reachability, not by order: a rewrite that is not finished has its new nodes at the end.
    let producer = producers()
    var live = [Bool](repeating: false, count: values.count)
    var isKept = [Bool](repeating: false, count: nodes.count)
    var stack = outputs.map(\.value)
    while let id = stack.popLast() {
      if live[id.index] { continue }
      live[id.index] = true
      guard let node = producer[id.index], !isKept[node] else { continue }
      isKept[node] = true
      for case let operand? in nodes[node].operands { stack.append(operand) }
    }
    if isKept.contains(false) { nodes = nodes.indices.filter { isKept[$0] }.map { nodes[$0] } }
    var names: Set<String> = []
    for (index, value) in values.enumerated() where value.isConstant && live[index] {
      names.insert(value.name)
    }
    tensors.keep(names)
  }

  /// Puts the nodes in an order in which definitions come first, moving as few as possible; throws on a
  /// cycle.
  public mutating func sortNodes() throws(VitError) {
    let producer = producers()
    var state = [UInt8](repeating: 0, count: nodes.count)  // 0 unseen, 1 on the path, 2 placed
    var order: [Int] = []
    order.reserveCapacity(nodes.count)
    for root in nodes.indices where state[root] == 0 {
      var stack: [(node: Int, operand: Int)] = [(root, 0)]
      state[root] = 1
      while let (node, operand) = stack.last {
        guard operand < nodes[node].operands.count else {
          state[node] = 2
          order.append(node)
          stack.removeLast()
          continue
        }
        stack[stack.count - 1].operand += 1
        guard let id = nodes[node].operands[operand], let next = producer[id.index] else { continue }
        if state[next] == 1 {
          throw VitError(
            "the graph has a cycle through this node", code: "cycle", location: nodes[next].location)
        }
        if state[next] == 0 {
          state[next] = 1
          stack.append((next, 0))
        }
      }
    }
    if order != Array(nodes.indices) { nodes = order.map { nodes[$0] } }
  }
}
