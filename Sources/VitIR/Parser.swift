extension Graph {
  /// Reads a graph from text, as `text(_:)` writes it.
  ///
  /// Operations come from `registry`; every type rule runs again, with `fold` for what follows from
  /// constants, and must give the declared types. Where the text names a file of tensors by its digest,
  /// `tensors` is called once with it; without one, values that do not stand in the text are elided. Errors
  /// name `file`, line and column. Layers that follow the graph are read and left out.
  public init(
    text bytes: [UInt8], file: String? = nil, registry: Registry, fold: GraphBuilder.Fold? = nil,
    tensors: ((_ digest: String) throws(VitError) -> TensorTable)? = nil
  ) throws(VitError) {
    self = try Hybrid(text: bytes, file: file, registry: registry, fold: fold, tensors: tensors).graph
  }

  /// Reads a graph from a string.
  public init(
    text: String, file: String? = nil, registry: Registry, fold: GraphBuilder.Fold? = nil,
    tensors: ((_ digest: String) throws(VitError) -> TensorTable)? = nil
  ) throws(VitError) {
    try self.init(text: Array(text.utf8), file: file, registry: registry, fold: fold, tensors: tensors)
  }
}

extension Hybrid {
  /// Reads a graph and its layers from text, as `text(_:)` writes them; see `Graph(text:)`.
  public init(
    text bytes: [UInt8], file: String? = nil, registry: Registry, fold: GraphBuilder.Fold? = nil,
    tensors: ((_ digest: String) throws(VitError) -> TensorTable)? = nil
  ) throws(VitError) {
    var parser = try Parser(bytes, file: file, registry: registry, fold: fold, tensors: tensors)
    self = try parser.hybrid()
  }
}

/// Reads the lines of a graph and of its layers.
private struct Parser {
  private var reader: TextReader
  private let registry: Registry
  private let fold: GraphBuilder.Fold?
  private let load: ((String) throws(VitError) -> TensorTable)?
  /// The tensors of the file that the text names.
  private var table: TensorTable?

  init(
    _ bytes: [UInt8], file: String?, registry: Registry, fold: GraphBuilder.Fold?,
    tensors: ((String) throws(VitError) -> TensorTable)?
  ) throws(VitError) {
    reader = try TextReader(bytes, file: file)
    self.registry = registry
    self.fold = fold
    load = tensors
  }

  mutating func hybrid() throws(VitError) -> Hybrid {
    let graph = try graph()
    var hybrid = Hybrid(graph.graph)
    if try reader.take(word: "layers") {
      let place = reader.location
      try reader.expect("{")
      while try !reader.take("}") { try unit(of: graph, into: &hybrid) }
      do { try hybrid.checkInvariants() } catch { throw error.at(place) }
    }
    guard reader.token == .end else { throw reader.unexpected("the end of the text") }
    return hybrid
  }

  private mutating func graph() throws(VitError) -> GraphAssembler {
    try version()
    guard try reader.take(word: "graph") else { throw reader.unexpected("'graph'") }
    var graph = GraphAssembler(
      name: try reader.text("the graph's name in quotes"), registry: registry, fold: fold)
    if reader.token == .mark("{") { graph.setAnnotations(try reader.attributes()) }
    try reader.list("(", ")") { reader throws(VitError) in
      let place = reader.location
      guard case .value(let name) = reader.token else { throw reader.unexpected("an input: '%name: type'") }
      try reader.advance()
      try reader.expect(":")
      let type = try reader.type()
      do throws(VitError) { _ = try graph.addInput(name, type) } catch { throw error.at(place) }
    }
    let outputs = try outputs()
    try reader.expect("{")
    if try reader.take(word: "tensors") {
      let place = reader.location
      let digest = try reader.text("the digest of the tensors' file in quotes")
      if let load {
        do throws(VitError) { table = try load(digest) } catch { throw error.at(place) }
      }
    }
    while try !reader.take("}") {
      if try reader.take(word: "tensor") { try tensor(into: &graph) } else { try node(into: &graph) }
    }
    for output in outputs {
      let id = try Self.resolve(output.value, output.location, in: graph)
      do { try graph.addOutput(output.name, id) } catch { throw error.at(output.location) }
    }
    return graph
  }

  /// Passes over the line that names the version, where there is one; throws for a version that is not known.
  private mutating func version() throws(VitError) {
    guard try reader.take(word: "version") else { return }
    guard case .integer(let number) = reader.token else { throw reader.unexpected("the number of a version") }
    guard let version = Int(number), (1...TextOptions.currentVersion).contains(version) else {
      throw VitError(
        "the text has the version \(number) of the format, expected at most \(TextOptions.currentVersion)",
        code: "format-version", location: reader.location,
        help: "a newer vitc may read it")
    }
    try reader.advance()
  }

  private mutating func outputs() throws(VitError) -> [(name: String, value: Token, location: Location)] {
    guard reader.token == .arrow else { throw reader.unexpected("'->' and the outputs") }
    try reader.advance()
    var outputs: [(name: String, value: Token, location: Location)] = []
    try reader.list("(", ")") { reader throws(VitError) in
      let name = try reader.name("the name of an output")
      try reader.expect("=")
      outputs.append((name, reader.token, reader.location))
      try reader.advance()
    }
    return outputs
  }

  /// The value that a token names, which must be defined by then.
  private static func resolve(
    _ token: Token, _ location: Location, in graph: GraphAssembler
  ) throws(VitError) -> ValueID {
    let (name, constant): (String, Bool)
    switch token {
    case .value(let text): (name, constant) = (text, false)
    case .constant(let text): (name, constant) = (text, true)
    default:
      throw VitError(
        "expected '%name' or '@name', found \(token.description)", code: "syntax", location: location)
    }
    guard let id = graph.value(named: name), graph.isConstant(id) == constant else {
      throw VitError("\(token.description) is not defined here", code: "undefined-value", location: location)
    }
    return id
  }

  /// `tensor @name : f16[2, 3]`, and perhaps `= [values]`.
  private mutating func tensor(into graph: inout GraphAssembler) throws(VitError) {
    let place = reader.location
    guard case .constant(let name) = reader.token else { throw reader.unexpected("a tensor: '@name'") }
    try reader.advance()
    try reader.expect(":")
    let typePlace = reader.location
    let type = try reader.type()
    guard let shape = type.fixedShape else {
      throw VitError("a tensor's extents are numbers, found \(type)", code: "syntax", location: typePlace)
    }
    let tensor: Tensor
    if try reader.take("=") {
      tensor = try reader.tensor(type.element, shape: shape)
    } else if let table {
      guard let found = table[name] else {
        throw VitError("the tensors' file has no tensor '\(name)'", code: "tensor-missing", location: place)
      }
      guard found.type == type else {
        throw VitError(
          "'\(name)' is declared \(type), but the tensors' file has \(found.type)", code: "type-mismatch",
          location: typePlace)
      }
      tensor = found
    } else {
      do { tensor = try Tensor(elided: type.element, shape: shape) } catch { throw error.at(typePlace) }
    }
    do { _ = try graph.addConstant(name, tensor) } catch { throw error.at(place) }
  }

  /// `%a, %b = name(operands) {attributes} : types at "node"`; what version 1 noted behind the types is passed over.
  private mutating func node(into graph: inout GraphAssembler) throws(VitError) {
    var location = reader.location
    var names: [String] = []
    if case .value = reader.token {
      repeat {
        guard case .value(let name) = reader.token else { throw reader.unexpected("a result: '%name'") }
        names.append(name)
        try reader.advance()
      } while try reader.take(",")
      try reader.expect("=")
    }
    guard case .word(let operation) = reader.token else {
      throw reader.unexpected(names.isEmpty ? "'tensor', '%name', an operation or '}'" : "an operation")
    }
    try reader.advance()
    let operands = try operands(in: graph)
    let attributes = reader.token == .mark("{") ? try reader.attributes() : Attributes()
    var results: [(name: String, type: TensorType)] = []
    if !names.isEmpty {
      try reader.expect(":")
      for (index, name) in names.enumerated() {
        if index > 0 { try reader.expect(",") }
        results.append((name, try reader.type()))
      }
    }
    if try reader.take(word: "note") { _ = try reader.attributes() }
    if try reader.take(word: "at") {
      location.node = try reader.text("the name of the original node in quotes")
    }
    _ = try graph.addNode(
      operation, attributes, operands: operands, results: results, location: location)
  }

  /// A line of the section of layers.
  private mutating func unit(of graph: GraphAssembler, into hybrid: inout Hybrid) throws(VitError) {
    if try reader.take(word: "other") {
      hybrid.others.append(
        AttentionLike(
          node: try reader.text("the name of a node in quotes"), reason: try reader.text("a reason in quotes")
        ))
      return
    }
    guard try reader.take(word: "layer") else { throw reader.unexpected("'layer', 'other' or '}'") }
    let place = reader.location
    let index = try reader.number("the number of a layer")
    let kind = try reader.name("the kind of a layer")
    guard let core = try optional(in: graph) else { throw reader.unexpected("a value") }
    try reader.expect("(")
    let input = try optional(in: graph)
    try reader.expect(")")
    guard reader.token == .arrow else { throw reader.unexpected("'->' and what the layer gives") }
    try reader.advance()
    var layer = Layer(
      index: index, kind: kind, heads: 0, node: "", core: core, input: input,
      output: try optional(in: graph), parameters: 0, obstacle: nil)
    do throws(VitError) {
      try layer.read(try reader.attributes())
      if try reader.take(word: "scores") { layer.scores = try reader.attributes() }
      while try reader.take(word: "candidate") {
        let mixer = try reader.text("a mixer in quotes")
        layer.candidates.append(try Layer.Candidate(mixer: mixer, figures: try reader.attributes()))
      }
    } catch { throw error.at(place) }
    guard try reader.take(word: "at") else { throw reader.unexpected("'at' and the name of a node") }
    layer.node = try reader.text("the name of the original node in quotes")
    hybrid.layers.append(layer)
  }

  /// A value that is defined, or `nil` for `_`.
  private mutating func optional(in graph: GraphAssembler) throws(VitError) -> ValueID? {
    let id =
      reader.token == .word("_") ? nil : try Self.resolve(reader.token, reader.location, in: graph)
    try reader.advance()
    return id
  }

  private mutating func operands(in graph: GraphAssembler) throws(VitError) -> [ValueID?] {
    var operands: [ValueID?] = []
    try reader.list("(", ")") { reader throws(VitError) in
      let absent = reader.token == .word("_")
      operands.append(absent ? nil : try Self.resolve(reader.token, reader.location, in: graph))
      try reader.advance()
    }
    return operands
  }
}
