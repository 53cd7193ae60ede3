internal import VitIR

/// A value of the flat program; zero is the absent one.
typealias FlatValue = Int32

/// Names that are visible in one place: the main graph, the body of one function call, a branch.
final class OnnxScope {
  /// The scope around a branch; a function's body has none.
  let parent: OnnxScope?
  /// What the names stand for.
  fileprivate(set) var values: [NameID: FlatValue] = [:]
  /// The values of the caller that names of a function's body will stand for once they are defined.
  fileprivate var promised: [NameID: FlatValue] = [:]
  /// The attributes of the call that this is the body of.
  let attributes: [String: OnnxAttribute.Value]?
  /// The operator sets that the nodes are written for.
  let opsets: OnnxOpsets
  /// What the names of values and nodes get in front.
  let prefix: String
  /// The functions (by number) that this is in the body of.
  let calls: [Int]

  init(
    parent: OnnxScope? = nil, attributes: [String: OnnxAttribute.Value]? = nil, opsets: OnnxOpsets,
    prefix: String = "",
    calls: [Int] = []
  ) {
    self.parent = parent
    self.attributes = attributes
    self.opsets = opsets
    self.prefix = prefix
    self.calls = calls
  }

  func find(_ name: NameID) -> FlatValue? { values[name] ?? parent?.find(name) }
}

/// A node whose names are resolved, function calls replaced by the functions' nodes.
struct FlatNode {
  /// The node as the file has it, references to the attributes of functions resolved.
  let source: OnnxNode
  let scope: OnnxScope
  let inputs: [FlatValue]
  let outputs: [FlatValue]
  /// What graphs in its attributes read from around it.
  let captures: [FlatValue]
  /// Its name in diagnostics.
  let label: String
  /// The operation's name in the registry.
  var operation: String { (source.domain.isEmpty ? "onnx" : source.domain) + "." + source.type }
  /// The operator, where the decoder knows it.
  var known: OnnxOperator? { OnnxOperator(rawValue: operation) }
}

/// Turns graphs, functions and names into one list of nodes over numbered values.
struct Flattener {
  /// The most calls within one another.
  static let maximumCalls = 64
  /// The most nodes that function bodies may add: a few lines of calls can stand for billions.
  static let maximumInlined = 200_000

  private let names: NameTable
  private let functions: [OnnxFunction]
  private let functionIndex: [String: Int]
  private var inlined = 0
  /// The names of the flat values.
  private(set) var texts = [""]
  /// The constants among them.
  private(set) var initializers: [FlatValue: OnnxTensor] = [:]

  init(_ model: OnnxModel) throws(VitError) {
    names = model.names
    functions = model.functions
    var index: [String: Int] = [:]
    for (number, function) in model.functions.enumerated() {
      let key = Flattener.key(function.domain, function.name, function.overload)
      guard index.updateValue(number, forKey: key) == nil else {
        throw VitError("duplicate function '\(function.name)' of the domain '\(function.domain)'")
      }
    }
    functionIndex = index
  }

  private static func key(_ domain: String, _ name: String, _ overload: String) -> String {
    "\(domain)\u{0}\(name)\u{0}\(overload)"
  }

  func text(_ value: FlatValue) -> String { texts[Int(value)] }

  /// A new value for a name; an error where the scope has one.
  mutating func define(
    _ name: NameID, in scope: OnnxScope, node: String? = nil
  ) throws(VitError) -> FlatValue {
    let promised = scope.promised.removeValue(forKey: name)
    let id = promised ?? FlatValue(texts.count)
    guard scope.values.updateValue(id, forKey: name) == nil else {
      throw VitError(
        "duplicate value '\(names[name])': it is defined twice", code: "duplicate-value",
        location: Location(node: node))
    }
    if promised == nil { texts.append(scope.prefix + names[name]) }
    return id
  }

  /// What a name stands for; an error where nothing defines it.
  func resolve(_ name: NameID, in scope: OnnxScope, node: String? = nil) throws(VitError) -> FlatValue {
    if name == NameTable.absent { return 0 }
    if let value = scope.find(name) { return value }
    throw VitError(
      "reads the value '\(names[name])', which nothing defines", code: "undefined-value",
      location: Location(node: node))
  }

  /// Defines the constants of a graph.
  mutating func defineInitializers(of graph: OnnxGraph, in scope: OnnxScope) throws(VitError) {
    for tensor in graph.initializers {
      if case .failure(let error) = tensor.content, error.diagnostic.code != "element-type" { throw error }
      guard !tensor.name.isEmpty else { throw VitError("an initializer has no name") }
      guard let name = names.find(tensor.name) else { continue }
      initializers[try define(name, in: scope)] = tensor
    }
  }

  /// The nodes of a graph or function, in an order in which values are defined before they are read; `wasSorted` says
  /// whether the file's order was one.
  mutating func flatten(_ nodes: [OnnxNode], in scope: OnnxScope) throws(VitError) -> (
    nodes: [FlatNode], wasSorted: Bool
  ) {
    var result: [FlatNode] = []
    result.reserveCapacity(nodes.count)
    try expand(nodes, in: scope, into: &result)
    return try sorted(result)
  }

  private mutating func expand(
    _ nodes: [OnnxNode], in scope: OnnxScope, into result: inout [FlatNode]
  ) throws(VitError) {
    for node in nodes {
      for name in node.outputs where name != NameTable.absent {
        _ = try define(name, in: scope, node: scope.prefix + node.name)
      }
    }
    for node in nodes {
      let label = scope.prefix + node.name
      var inputs: [FlatValue] = []
      inputs.reserveCapacity(node.inputs.count)
      for name in node.inputs { inputs.append(try resolve(name, in: scope, node: label)) }
      while inputs.last == 0 { inputs.removeLast() }
      var outputs: [FlatValue] = []
      outputs.reserveCapacity(node.outputs.count)
      for name in node.outputs { outputs.append(try resolve(name, in: scope, node: label)) }
      var source = node
      if let attributes = scope.attributes { source.attributes = node.attributes.resolved(attributes) }
      if let function = functionIndex[Flattener.key(node.domain, node.type, node.overload)] {
        try call(function, source, inputs, outputs, label, scope, into: &result)
      } else {
        result.append(
          FlatNode(
            source: source, scope: scope, inputs: inputs, outputs: outputs,
            captures: captures(of: source, in: scope),
            label: label))
      }
    }
  }

  private mutating func call(
    _ number: Int, _ node: OnnxNode, _ inputs: [FlatValue], _ outputs: [FlatValue], _ label: String,
    _ scope: OnnxScope,
    into result: inout [FlatNode]
  ) throws(VitError) {
    let function = functions[number]
    let place = Location(node: label)
    guard !scope.calls.contains(number) else {
      throw VitError(
        "the function '\(function.name)' is recursive: it calls itself", code: "recursive-function",
        location: place)
    }
    guard scope.calls.count < Self.maximumCalls else {
      throw VitError("functions nest more than \(Self.maximumCalls) deep", code: "too-deep", location: place)
    }
    inlined += function.nodes.count
    guard inlined <= Self.maximumInlined else {
      throw VitError(
        "the functions stand for more than \(Self.maximumInlined) nodes", code: "too-many", location: place)
    }
    guard inputs.count <= function.inputs.count, outputs.count <= function.outputs.count else {
      throw VitError(
        "the function '\(function.name)' has \(function.inputs.count) inputs and \(function.outputs.count) outputs, "
          + "found \(inputs.count) and \(outputs.count)", location: place)
    }
    var attributes: [String: OnnxAttribute.Value] = [:]
    for attribute in function.attributes + node.attributes {
      if case .other("nothing") = attribute.value { continue }
      attributes[attribute.name] = attribute.value
    }
    do { try function.opsets.check() } catch { throw error.at(place) }
    let inner = OnnxScope(
      attributes: attributes, opsets: function.opsets.filled(from: scope.opsets), prefix: label + "/",
      calls: scope.calls + [number])
    for (index, name) in function.inputs.enumerated() where name != NameTable.absent {
      inner.values[name] = index < inputs.count ? inputs[index] : 0
    }
    // A result that is one of the inputs passes through a node, so that each flat value has one definition.
    var passed: [(from: FlatValue, to: FlatValue)] = []
    for (name, output) in zip(function.outputs, outputs) where output != 0 {
      if let value = inner.values[name] {
        passed.append((value, output))
      } else if inner.promised.updateValue(output, forKey: name) != nil {
        throw VitError(
          "the function '\(function.name)' has the output '\(names[name])' twice", location: place)
      }
    }
    try expand(function.nodes, in: inner, into: &result)
    if let missing = function.outputs.first(where: { inner.promised[$0] != nil }) {
      throw VitError(
        "the function '\(function.name)' does not define its output '\(names[missing])'",
        code: "undefined-value",
        location: place)
    }
    for (from, to) in passed {
      let identity = OnnxNode(name: node.name, type: OnnxOperator.identity.type)
      result.append(
        FlatNode(
          source: identity, scope: inner, inputs: [from], outputs: [to], captures: [], label: label))
    }
  }

  /// The outer values that the graphs in a node's attributes read; `hidden` are names that graphs in between define.
  private func captures(of node: OnnxNode, in scope: OnnxScope, hidden: Set<NameID> = []) -> [FlatValue] {
    var result: [FlatValue] = []
    for attribute in node.attributes {
      guard case .graph(let graph) = attribute.value else { continue }
      var hidden = hidden
      for value in graph.inputs { hidden.insert(value.name) }
      for tensor in graph.initializers { if let name = names.find(tensor.name) { hidden.insert(name) } }
      for inner in graph.nodes { hidden.formUnion(inner.outputs) }
      func add(_ name: NameID) {
        if !hidden.contains(name), let value = scope.find(name), value > 0 { result.append(value) }
      }
      for inner in graph.nodes {
        inner.inputs.forEach(add)
        result += captures(of: inner, in: scope, hidden: hidden)
      }
      for output in graph.outputs { add(output.name) }
    }
    return result
  }

  /// The nodes in an order of definition, the file's own where that is one.
  private func sorted(_ nodes: [FlatNode]) throws(VitError) -> (nodes: [FlatNode], wasSorted: Bool) {
    var producer = [Int32](repeating: -1, count: texts.count)
    var isSorted = true
    for (index, node) in nodes.enumerated() {
      for value in node.outputs where value > 0 { producer[Int(value)] = Int32(index) }
    }
    func reads(_ index: Int, _ position: Int) -> Int? {
      let node = nodes[index]
      let value =
        position < node.inputs.count ? node.inputs[position] : node.captures[position - node.inputs.count]
      let source = producer[Int(value)]
      return value > 0 && source >= 0 ? Int(source) : nil
    }
    for (index, node) in nodes.enumerated() where isSorted {
      for position in 0..<node.inputs.count + node.captures.count {
        if let source = reads(index, position), source >= index { isSorted = false }
      }
    }
    if isSorted { return (nodes, true) }
    var state = [UInt8](repeating: 0, count: nodes.count)  // 0 unseen, 1 on the path, 2 placed
    var order: [Int] = []
    order.reserveCapacity(nodes.count)
    for root in nodes.indices where state[root] == 0 {
      var stack: [(node: Int, position: Int)] = [(root, 0)]
      state[root] = 1
      while let (node, position) = stack.last {
        guard position < nodes[node].inputs.count + nodes[node].captures.count else {
          state[node] = 2
          order.append(node)
          stack.removeLast()
          continue
        }
        stack[stack.count - 1].position += 1
        guard let next = reads(node, position) else { continue }
        guard state[next] != 1 else {
          throw VitError(
            "the graph has a cycle: \(nodes[next].source.type) reads what follows from its own result",
            code: "cycle",
            location: Location(node: nodes[next].label))
        }
        if state[next] == 0 {
          state[next] = 1
          stack.append((next, 0))
        }
      }
    }
    return (order.map { nodes[$0] }, false)
  }
}

extension [OnnxAttribute] {
  /// The attributes of a node in a function's body, with those of the call put in; what the call leaves out is left out.
  fileprivate func resolved(_ call: [String: OnnxAttribute.Value]) -> [OnnxAttribute] {
    compactMap { attribute in
      guard case .reference(let name) = attribute.value else { return attribute }
      return call[name].map { OnnxAttribute(name: attribute.name, value: $0) }
    }
  }
}
