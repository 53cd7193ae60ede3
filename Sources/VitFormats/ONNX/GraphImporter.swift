internal import VitIR

/// Builds the typed graph of a model from its flat nodes.
///
/// A value: building once more with other input types starts from a copy.
struct GraphImporter {
  /// What a flat value has become.
  private enum Binding {
    case value(ValueID)
    /// A list of tensors, which exists only while the graph is built.
    case sequence([ValueID])
    /// A constant that vitc cannot hold; told to whoever reads it.
    case failure(VitError)
  }

  private var flattener: Flattener
  private let file: String
  private(set) var builder: GraphBuilder
  private var bindings: [FlatValue: Binding] = [:]
  /// Constants whose elements take less than a byte in the file, with ONNX's number for their type.
  private var packed: [ValueID: Int] = [:]
  /// Inputs of types without sign that are computed in a wider one with a sign.
  private let unsigned: Set<FlatValue>

  init(
    _ flattener: Flattener, file: String, graph: Graph, registry: Registry, fold: GraphBuilder.Fold?,
    unsigned: Set<FlatValue> = []
  ) {
    self.unsigned = unsigned
    self.flattener = flattener
    self.file = file
    builder = GraphBuilder(graph, registry: registry)
    builder.fold = fold
  }

  // MARK: - Inputs and outputs

  /// Adds an input of the graph.
  mutating func addInput(_ value: FlatValue, _ type: TensorType, name: String) {
    bindings[value] = .value(builder.graph.addInput(type, name: name))
  }

  /// Adds an output of the graph.
  mutating func addOutput(_ value: FlatValue, name: String) throws(VitError) {
    guard let id = try tensor(value) else {
      throw VitError("the output '\(name)' is no tensor", code: "output-type")
    }
    builder.graph.outputs.append((name, id))
  }

  // MARK: - Reading values

  private mutating func binding(_ value: FlatValue) throws(VitError) -> Binding {
    if let binding = bindings[value] { return binding }
    guard let constant = flattener.initializers[value] else {
      throw VitError(
        "reads the value '\(flattener.text(value))', which nothing defines", code: "undefined-value")
    }
    let binding = bind(constant, name: flattener.text(value))
    bindings[value] = binding
    return binding
  }

  private mutating func bind(_ constant: OnnxTensor, name: String) -> Binding {
    switch constant.content {
    case .success(let tensor):
      let id = builder.graph.addConstant(tensor, name: name)
      if OnnxElement.packing(constant.code) != nil { packed[id] = constant.code }
      return .value(id)
    case .failure(let error): return .failure(error)
    }
  }

  /// The tensor that a value is, or `nil` where it is absent.
  private mutating func tensor(_ value: FlatValue) throws(VitError) -> ValueID? {
    if value == 0 { return nil }
    switch try binding(value) {
    case .value(let id): return id
    case .failure(let error): throw error
    case .sequence:
      throw VitError("expected a tensor, found the sequence '\(flattener.text(value))'", code: "sequence")
    }
  }

  private mutating func operand(_ node: FlatNode, _ index: Int) throws(VitError) -> ValueID {
    guard index < node.inputs.count, let id = try tensor(node.inputs[index]) else {
      throw VitError("input \(index) is missing", code: "operand-missing")
    }
    return id
  }

  private mutating func sequence(_ node: FlatNode, _ index: Int = 0) throws(VitError) -> [ValueID] {
    guard index < node.inputs.count, case .sequence(let parts) = try binding(node.inputs[index]) else {
      throw VitError(
        "input \(index) is no sequence that is known when the model is compiled", code: "sequence")
    }
    return parts
  }

  /// The whole numbers of an input, which must be known.
  private mutating func integers(_ node: FlatNode, _ index: Int) throws(VitError) -> [Int] {
    let id = try operand(node, index)
    guard let values = builder.known(id)?.integers else {
      throw VitError(
        "input \(index) is computed from data, expected one that is known when the model is compiled",
        code: "dynamic-shape")
    }
    return values
  }

  // MARK: - Nodes

  /// Throws one error that lists every operator among `nodes` that vitc has not.
  func checkOperators(_ nodes: [FlatNode]) throws(VitError) {
    if let error = RefusedOperators(nodes.filter { !isSupported($0) }).error(file: file) { throw error }
  }

  /// What to say of a node whose shape depends on data: all such nodes at once, from `index` on.
  private func refusal(of index: Int, among nodes: [FlatNode]) -> VitError? {
    var computed: Set<FlatValue> = []
    var refused: [FlatNode] = []
    func isComputed(_ value: FlatValue) -> Bool {
      if value == 0 { return false }
      guard case .value(let id)? = bindings[value] else { return computed.contains(value) }
      return builder.known(id) == nil
    }
    for node in nodes[index...] {
      guard node.inputs.contains(where: isComputed), !(node.known?.looksAtExtents ?? false) else { continue }
      computed.formUnion(node.outputs)
      if node.known?.shapeDependsOnData ?? false { refused.append(node) }
    }
    return RefusedOperators(refused).error(file: file)
  }

  private func isSupported(_ node: FlatNode) -> Bool {
    node.known?.isStructural ?? false || builder.registry[node.operation] != nil
  }

  /// Adds nodes, which are in an order of definition.
  mutating func add(_ nodes: [FlatNode]) throws(VitError) {
    for (index, node) in nodes.enumerated() {
      do { try add(node) } catch {
        var error = error
        if error.diagnostic.code == "dynamic-shape", node.known?.shapeDependsOnData ?? false,
          let refusal = refusal(of: index, among: nodes)
        {
          throw refusal
        }
        let told = error.diagnostic.code == "unsupported-operator"
        if !told, error.diagnostic.location.node ?? node.label == node.label {
          error.diagnostic.message = "\(node.source.type): \(error.diagnostic.message)"
        }
        throw error.at(Location(file: file, node: node.label))
      }
    }
  }

  private mutating func add(_ node: FlatNode) throws(VitError) {
    switch node.known {
    case .constant: try addConstant(node)
    case .branch: try addBranch(node)
    case .splitToSequence: try addSplit(node)
    case .concatFromSequence: try addConcat(node)
    case .sequenceEmpty: define(node, .sequence([]))
    case .sequenceConstruct:
      var parts: [ValueID] = []
      for index in node.inputs.indices { parts.append(try operand(node, index)) }
      define(node, .sequence(parts))
    case .sequenceAt:
      let parts = try sequence(node)
      define(node, .value(parts[try place(node, 1, in: parts)]))
    case .sequenceInsert:
      var parts = try sequence(node)
      guard parts.count < Self.maximumParts else {
        throw VitError("a sequence of more than \(Self.maximumParts) tensors", code: "too-many")
      }
      let value = try operand(node, 1)
      parts.insert(
        value, at: node.inputs.count > 2 ? try place(node, 2, in: parts, orEnd: true) : parts.count)
      define(node, .sequence(parts))
    case .sequenceErase:
      var parts = try sequence(node)
      parts.remove(at: node.inputs.count > 1 ? try place(node, 1, in: parts) : try last(parts))
      define(node, .sequence(parts))
    case .sequenceLength:
      define(node, .value(builder.integers([try sequence(node).count], shape: [], name: name(node))))
    case .identity:
      if let value = node.inputs.first, value != 0, case .sequence(let parts) = try binding(value) {
        define(node, .sequence(parts))
      } else {
        try addOperation(node)
      }
    case .batchNormalization:
      if try !addStandardisation(node) { try addOperation(node) }
    default: try addOperation(node)
    }
  }

  /// Adds a batch normalisation that takes its statistics from its input, where that is a single item: what exporters make
  /// of weights that are standardised on the way. For one item it is instance normalisation.
  private mutating func addStandardisation(_ node: FlatNode) throws(VitError) -> Bool {
    guard try option(node, "training_mode", default: 0) == 1 else { return false }
    let input = try operand(node, 0)
    guard builder.graph.type(input).rank > 2, builder.graph.type(input).shape[0] == .fixed(1) else {
      return false
    }
    var attributes = Attributes()
    if case .plain(let epsilon)? = node.source.attribute("epsilon")?.value { attributes["epsilon"] = epsilon }
    let operation = try builder.registry.make(OnnxOperator.instanceNormalization.rawValue, attributes)
    let operands = [input, try operand(node, 1), try operand(node, 2)]
    let result = try builder.add(
      operation, operands, names: [name(node)], location: Location(file: file, node: node.label))
    define(node, .value(result[0]))
    return true
  }

  private func name(_ node: FlatNode) -> String { flattener.text(node.outputs[0]) }

  private mutating func define(_ node: FlatNode, _ binding: Binding) { bindings[node.outputs[0]] = binding }

  private mutating func addOperation(_ node: FlatNode) throws(VitError) {
    guard builder.registry[node.operation] != nil else { return try checkOperators([node]) }
    var attributes = Attributes()
    for attribute in node.source.attributes {
      guard attributes[attribute.name] == nil else {
        throw VitError("attribute '\(attribute.name)' is given twice", code: "duplicate-attribute")
      }
      switch attribute.value {
      case .plain(let value): attributes[attribute.name] = value
      case .tensor(let tensor) where node.known == .constantOfShape && attribute.name == "value":
        let (number, code) = try scalar(tensor)
        attributes["value"] = .float(number)
        attributes["element"] = .int(code)
      case .tensor: throw unusable(attribute, "a tensor")
      case .graph: throw unusable(attribute, "a graph")
      case .reference(let name): throw unusable(attribute, "a reference to '\(name)' outside of a function")
      case .other(let kind): throw unusable(attribute, kind)
      }
    }
    var operands: [ValueID?] = []
    for value in node.inputs { operands.append(try tensor(value)) }
    if node.known == .bitwiseNot, let value = node.inputs.first,
      unsigned.contains(value)
        || flattener.initializers[value].map({ OnnxElement.isWidenedUnsigned($0.code) }) ?? false
    {
      throw VitError("the bits of a number without sign are not supported here", code: "element-type")
    }
    if node.known == .castLike, let code = storedType(operands, 1) {
      try addCast(node, operands[0], to: code)
      return
    }
    if node.known == .quantizeLinear || node.known == .microsoftQuantizeLinear,
      attributes["output_dtype"] == nil,
      let code = storedType(operands, 2)
    {
      attributes["output_dtype"] = .int(code)
    }
    let version = node.scope.opsets[node.source.domain]
    let operation = try builder.registry.make(node.operation, attributes, opset: version ?? 1)
    let names = node.outputs.map { $0 == 0 ? name(node) + ".unused" : flattener.text($0) }
    let results = try builder.add(
      operation, operands, resultCount: node.outputs.count, names: names,
      location: Location(file: file, node: node.label))
    for (value, result) in zip(node.outputs, results) where value != 0 {
      try checkSize(builder.graph.type(result))
      bindings[value] = .value(result)
    }
  }

  /// The most elements that a value may have for one image: 4 GiB of floats, far above what vision models compute.
  private static let maximumElements = 1 << 30

  /// Throws where the extents that are known make a value that no machine should be asked for.
  private func checkSize(_ type: TensorType) throws(VitError) {
    let count = type.shape.reduce(1) { product, extent in
      product.multipliedReportingOverflow(by: max(extent.fixedValue ?? 1, 1)).partialValue
    }
    guard count < Self.maximumElements else {
      throw VitError(
        "the result \(type) would take \(count / (1 << 30) * type.element.size) GiB for a single image",
        code: "too-large")
    }
  }

  /// ONNX's number for the type of a constant operand that is computed in a wider type, which the operation cannot see.
  private func storedType(_ operands: [ValueID?], _ index: Int) -> Int? {
    guard index < operands.count, let id = operands[index], let element = builder.graph.tensor(id)?.element
    else { return nil }
    if let code = packed[id] { return code }
    return element == element.computed ? nil : OnnxElement.code(element)
  }

  private mutating func addCast(_ node: FlatNode, _ value: ValueID?, to code: Int) throws(VitError) {
    let operation = try builder.registry.make(OnnxOperator.cast.rawValue, Attributes([("to", .int(code))]))
    let results = try builder.add(
      operation, [value], names: [name(node)], location: Location(file: file, node: node.label))
    bindings[node.outputs[0]] = .value(results[0])
  }

  private func unusable(_ attribute: OnnxAttribute, _ kind: String) -> VitError {
    VitError("attribute '\(attribute.name)' is \(kind), which is not supported", code: "attribute-type")
  }

  /// The one element of a tensor, and ONNX's number for its type.
  private func scalar(_ tensor: OnnxTensor) throws(VitError) -> (Double, Int) {
    let value = try tensor.content.get()
    guard value.count == 1, let numbers = try? value.doubles(), let number = numbers.first,
      let code = OnnxElement.code(value.element)
    else { throw VitError("attribute 'value' has the shape \(value.shape), expected one element") }
    return (number, code)
  }

  private mutating func addConstant(_ node: FlatNode) throws(VitError) {
    guard node.source.attributes.count == 1, let attribute = node.source.attributes.first else {
      throw VitError(
        "expected one attribute, found \(node.source.attributes.count)", code: "attribute-missing")
    }
    let tensor: Tensor
    switch (attribute.name, attribute.value) {
    case ("value", .tensor(let value)), ("sparse_value", .tensor(let value)):
      if case .failure(let error) = value.content, error.diagnostic.code != "element-type" { throw error }
      define(node, bind(value, name: name(node)))
      return
    case ("value_int", .plain(.int(let value))): tensor = Tensor(shape: [], integers: [value])
    case ("value_ints", .plain(.ints(let values))): tensor = Tensor(shape: [values.count], integers: values)
    case ("value_float", .plain(.float(let value))): tensor = Tensor(.f32, shape: [], values: [value])
    case ("value_floats", .plain(.floats(let values))):
      tensor = Tensor(.f32, shape: [values.count], values: values)
    case ("value_string", .plain(.string)), ("value_strings", .plain(.strings)):
      define(node, .failure(VitError("a constant of the type string is not supported", code: "element-type")))
      return
    default: throw VitError("unknown or mistyped attribute '\(attribute.name)'", code: "attribute-unknown")
    }
    define(node, .value(builder.graph.addConstant(tensor, name: name(node))))
  }

  /// Puts the branch of an `If` in its place, where the condition is known.
  private mutating func addBranch(_ node: FlatNode) throws(VitError) {
    let id = try operand(node, 0)
    guard let condition = builder.known(id)?.integers?.first else {
      throw VitError(
        "the condition is computed from data: control flow that depends on data is not supported",
        code: "control-flow")
    }
    let name = condition != 0 ? "then_branch" : "else_branch"
    guard case .graph(let graph)? = node.source.attribute(name)?.value else {
      throw VitError("the graph '\(name)' is missing", code: "attribute-missing")
    }
    guard graph.outputs.count >= node.outputs.count else {
      throw VitError("'\(name)' has \(graph.outputs.count) outputs, expected \(node.outputs.count)")
    }
    let scope = OnnxScope(
      parent: node.scope, attributes: node.scope.attributes, opsets: node.scope.opsets,
      prefix: node.label + "/",
      calls: node.scope.calls)
    try flattener.defineInitializers(of: graph, in: scope)
    let nodes = try flattener.flatten(graph.nodes, in: scope).nodes
    try checkOperators(nodes)
    try add(nodes)
    for (output, value) in zip(graph.outputs, node.outputs) where value != 0 {
      bindings[value] = try binding(flattener.resolve(output.name, in: scope))
    }
  }

  // MARK: - Sequences

  /// The most tensors that a sequence may have.
  private static let maximumParts = 4096

  private mutating func place(
    _ node: FlatNode, _ index: Int, in parts: [ValueID], orEnd: Bool = false
  ) throws(VitError) -> Int {
    let value = try integers(node, index).first ?? 0
    let place = value < 0 ? value + parts.count : value
    guard place >= 0, place < parts.count + (orEnd ? 1 : 0) else {
      throw VitError("the index \(value) is out of range for a sequence of \(parts.count)")
    }
    return place
  }

  private func last(_ parts: [ValueID]) throws(VitError) -> Int {
    guard !parts.isEmpty else { throw VitError("the sequence is empty") }
    return parts.count - 1
  }

  private func option(_ node: FlatNode, _ name: String, default fallback: Int?) throws(VitError) -> Int {
    switch node.source.attribute(name)?.value {
    case .plain(.int(let value))?: return value
    case nil:
      guard let fallback else {
        throw VitError("attribute '\(name)' (int) is missing", code: "attribute-missing")
      }
      return fallback
    default: throw VitError("attribute '\(name)' is no int", code: "attribute-type")
    }
  }

  private mutating func addSplit(_ node: FlatNode) throws(VitError) {
    let input = try operand(node, 0)
    let type = builder.graph.type(input)
    let axis = try normalisedAxis(try option(node, "axis", default: 0), rank: type.rank)
    let keepsAxis = try option(node, "keepdims", default: 1) != 0
    guard let extent = type.shape[axis].fixedValue else {
      throw VitError("axis \(axis) of \(type) is not known when the model is compiled", code: "dynamic-shape")
    }
    var sizes: [Int]
    if node.inputs.count > 1, node.inputs[1] != 0 {
      let id = try operand(node, 1)
      sizes = try integers(node, 1)
      if builder.graph.type(id).rank == 0, let size = sizes.first {
        guard size > 0, extent / size < Self.maximumParts else {
          throw VitError("cannot split axis \(axis) of \(type) into parts of \(size)")
        }
        sizes = stride(from: 0, to: extent, by: size).map { min(size, extent - $0) }
      }
    } else {
      guard extent <= Self.maximumParts else {
        throw VitError("axis \(axis) of \(type) splits into more than \(Self.maximumParts) parts")
      }
      sizes = [Int](repeating: 1, count: extent)
    }
    guard !sizes.isEmpty, sizes.count <= Self.maximumParts else {
      throw VitError("a sequence of \(sizes.count) parts, expected 1 to \(Self.maximumParts)")
    }
    let split = try builder.registry.make(OnnxOperator.split.rawValue, Attributes([("axis", .int(axis))]))
    let place = Location(file: file, node: node.label)
    let counts = builder.integers(sizes, name: name(node) + ".sizes")
    var parts = try builder.add(
      split, [input, counts], resultCount: sizes.count, names: sizes.map { _ in name(node) }, location: place)
    if !keepsAxis, node.inputs.count < 2 {
      let axes = builder.integers([axis], name: name(node) + ".axis")
      for index in parts.indices {
        parts[index] = try builder.add(OnnxOperator.squeeze.rawValue, [parts[index], axes], location: place)
      }
    }
    define(node, .sequence(parts))
  }

  private mutating func addConcat(_ node: FlatNode) throws(VitError) {
    var parts = try sequence(node)
    let axis = try option(node, "axis", default: nil)
    let place = Location(file: file, node: node.label)
    if try option(node, "new_axis", default: 0) != 0 {
      let axes = builder.integers([axis], name: name(node) + ".axis")
      for index in parts.indices {
        parts[index] = try builder.add(
          OnnxOperator.unsqueeze.rawValue, [parts[index], axes], location: place)
      }
    }
    let concat = try builder.registry.make(OnnxOperator.concat.rawValue, Attributes([("axis", .int(axis))]))
    let result = try builder.add(concat, parts, names: [name(node)], location: place)
    define(node, .value(result[0]))
  }
}
