public import VitIR

/// Operations that compute nothing: what text, verifier and patches need to be tested with.
public enum StandIn {
  /// Them all.
  public static let registry = Registry([Add.self, Linear.self, Reshape.self, Parts.self, Noted.self])
}

extension StandIn {
  /// `test.add(a, b)`: two operands of one type.
  package struct Add: Operation {
    package static let name = "test.add"
    package static let summary = "Adds"
    package init(attributes: inout AttributeReader) {}
    package var attributes: Attributes { Attributes() }
    package func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
      try operands.expectCount(2...2)
      let (a, b) = (try operands.type(0, "a"), try operands.type(1, "b"))
      return [TensorType(a.element, try broadcast(a.shape, b.shape))]
    }
    package func forward(_ context: KernelContext) {}
  }

  /// `test.linear(x, weight, bias?)`.
  package struct Linear: Operation {
    package static let name = "test.linear"
    package static let summary = "Multiplies by a matrix"
    package init(attributes: inout AttributeReader) {}
    package var attributes: Attributes { Attributes() }
    package func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
      try operands.expectCount(2...3)
      let (x, weight) = (try operands.type(0, "x"), try operands.type(1, "weight"))
      guard weight.rank == 2, x.shape.last == weight.shape.first else {
        throw VitError("the shapes \(x.shape) and \(weight.shape) do not multiply")
      }
      return [TensorType(x.element, x.shape.dropLast() + weight.shape.suffix(1))]
    }
    package func forward(_ context: KernelContext) {}
  }

  /// `test.reshape(x, shape)`: the shape must be known.
  package struct Reshape: Operation {
    package static let name = "test.reshape"
    package static let summary = "Gives other extents"
    package init(attributes: inout AttributeReader) {}
    package var attributes: Attributes { Attributes() }
    package func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
      [TensorType(try operands.type(0, "x").element, try operands.dimensions(1, "shape"))]
    }
    package func forward(_ context: KernelContext) {}
  }

  /// `test.parts(x)`: any number of results, each like `x`.
  package struct Parts: Operation {
    package static let name = "test.parts"
    package static let summary = "Gives its operand several times"
    package init(attributes: inout AttributeReader) {}
    package var attributes: Attributes { Attributes() }
    package func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
      [TensorType](repeating: try operands.type(0, "x"), count: operands.resultCount)
    }
    package func forward(_ context: KernelContext) {}
  }

  /// `test.noted(x, …)`: one attribute of each kind, and as many operands as one likes.
  package struct Noted: Operation {
    package static let name = "test.noted"
    package static let summary = "Has attributes of every kind"
    package let attributes: Attributes
    /// With these attributes, whatever they are.
    package init(_ attributes: Attributes) { self.attributes = attributes }
    package init(attributes: inout AttributeReader) throws(VitError) {
      var taken = Attributes()
      if let value = try attributes.optionalInt("whole") { taken["whole"] = .int(value) }
      if let value = try attributes.optionalFloat("number") { taken["number"] = .float(value) }
      if let value = try attributes.optionalString("words") { taken["words"] = .string(value) }
      if attributes.has("truth") { taken["truth"] = .bool(try attributes.bool("truth", default: false)) }
      if let value = try attributes.optionalInts("wholes") { taken["wholes"] = .ints(value) }
      if let value = try attributes.optionalFloats("numbers") { taken["numbers"] = .floats(value) }
      self.attributes = taken
    }
    package func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
      [try operands.type(0, "x")]
    }
    package func forward(_ context: KernelContext) {}
  }

}

/// Graphs to print and read: a small readable one, and random ones from a seed.
public enum SampleGraph {
  /// Two inputs of text: a half-precision matrix, an absent operand, several results.
  public static func small() throws -> Graph {
    var builder = GraphBuilder(Graph(name: "tiny"), registry: StandIn.registry)
    let x = builder.graph.addInput(TensorType(.f32, [.symbol("batch"), 4]), name: "pixel_values")
    let weight = builder.graph.addConstant(
      Tensor(.f16, shape: [4, 3], values: (0..<12).map(Double.init)), name: "head.weight")
    let shape = builder.integers([2, 6], name: "shape")
    let y = try builder.add(
      StandIn.Linear.self, [x, weight, nil], names: ["logits"],
      location: Location(file: "tiny.onnx", node: "/head/MatMul"))
    let parts = try builder.add(StandIn.Parts.self, y, resultCount: 2, names: ["a", "b"])
    let flat = try builder.add(StandIn.Reshape.self, [weight, shape], names: ["flat"])
    builder.graph.outputs = [("logits", parts[0]), ("the rest", flat[0]), ("as is", weight)]
    builder.graph.annotations = Attributes([("mean", .floats([0.5, 0.25]))])
    return builder.graph
  }

  /// A graph with odd names, types, attributes and tensors.
  public static func random(seed: UInt64) throws -> Graph {
    var random = SplitMix(seed: seed)
    var builder = GraphBuilder(Graph(name: name(&random)), registry: StandIn.registry)
    var values: [ValueID] = []
    for _ in 0...random.below(3) {
      values.append(builder.graph.addInput(type(&random), name: name(&random)))
    }
    for _ in 0..<random.below(5) {
      let elements = ElementType.allCases.filter { !$0.isQuantised }
      let element = elements[random.below(elements.count)]
      let shape = (0..<random.below(3)).map { _ in random.below(4) }
      let count = shape.reduce(1, *)
      values.append(
        builder.graph.addConstant(
          Tensor(element, shape: shape, values: (0..<count).map { _ in random.normal() * 50 }),
          name: name(&random)))
    }
    for _ in 0..<random.below(12) {
      let operand = values[random.below(values.count)]
      let location = Location(node: random.below(2) == 0 ? nil : name(&random))
      if random.below(2) == 0 {
        values += try builder.add(
          StandIn.Parts.self, [operand], resultCount: 1 + random.below(3), names: [name(&random)],
          location: location)
      } else {
        let more: [ValueID?] = (0..<random.below(3)).map { _ in
          random.below(3) == 0 ? nil : values[random.below(values.count)]
        }
        values += try builder.add(
          StandIn.Noted(attributes(&random)), [operand] + more, names: [name(&random)], location: location)
      }
    }
    for index in 0..<random.below(3) {
      builder.graph.outputs.append((name(&random) + "\(index)", values[random.below(values.count)]))
    }
    builder.graph.annotations = annotations(&random)
    return builder.graph
  }

  /// A graph with layers: the small one, or a random one.
  public static func hybrid(seed: UInt64?) throws -> Hybrid {
    var hybrid = Hybrid(try seed.map(random) ?? small())
    var random = SplitMix(seed: seed ?? 0).split("layers")
    let graph = hybrid.graph
    for (index, node) in graph.nodes.enumerated() where !node.results.isEmpty && random.below(3) > 0 {
      var layer = Layer(
        index: index, kind: random.below(2) == 0 ? Layer.attention : name(&random), heads: random.below(9),
        node: name(&random), core: node.results[0], input: node.operands.compactMap { $0 }.first,
        output: random.below(2) == 0 ? nil : node.results.last, parameters: random.below(1 << 20),
        obstacle: "no " + name(&random))
      layer.choice = Layer.Choice.allCases[random.below(Layer.Choice.allCases.count)]
      layer.merges = random.below(2) * random.below(99)
      layer.scores = annotations(&random)
      for _ in 0..<random.below(3) {
        var candidate = Layer.Candidate(mixer: name(&random))
        if random.below(2) == 0 { candidate.error = number(&random) }
        if random.below(2) == 0 { candidate.determination = number(&random) }
        if random.below(2) == 0 { candidate.damage = number(&random) }
        if random.below(2) == 0 {
          candidate.divergence = .init(step: random.below(99), rate: number(&random))
        }
        layer.candidates.append(candidate)
      }
      hybrid.layers.append(layer)
    }
    for _ in 0..<random.below(3) {
      hybrid.others.append(AttentionLike(node: name(&random), reason: name(&random)))
    }
    return hybrid
  }

  private static let pieces = [
    "a", "Z", "_", ".", "/", "$", "0", " ", "\"", "\\", "\n", "\r\n", "\t", "\u{0}", "\u{7f}", "é",
    "e\u{301}", "🦜",
    "//", "%", "@", "{", "floor", "\u{2028}", "-", ":", "'",
  ]

  private static func name(_ random: inout SplitMix) -> String {
    (0..<random.below(4)).map { _ in pieces[random.below(pieces.count)] }.joined()
  }

  private static func type(_ random: inout SplitMix) -> TensorType {
    let elements: [ElementType] = [.f32, .f64, .i64, .i32, .i8, .u8, .bool]
    let element = elements[random.below(elements.count)]
    let shape = (0..<random.below(4)).map { _ in dimension(&random, depth: 0) }
    // A division by zero on the way is no extent.
    let isPossible = (try? TensorType(element, shape).validate()) != nil
    return TensorType(element, isPossible ? shape : [])
  }

  private static func dimension(_ random: inout SplitMix, depth: Int) -> Dimension {
    switch random.below(depth > 3 ? 2 : 7) {
    case 0: .fixed(1 + random.below(9))
    case 1: .symbol(name(&random))
    case 2: dimension(&random, depth: depth + 1) + dimension(&random, depth: depth + 1)
    case 3: dimension(&random, depth: depth + 1) * dimension(&random, depth: depth + 1)
    case 4: .symbol("n") * 2 - dimension(&random, depth: depth + 1) * .symbol("m")
    default: dimension(&random, depth: depth + 1).floorDivided(by: dimension(&random, depth: depth + 1))
    }
  }

  private static func number(_ random: inout SplitMix) -> Double {
    let special: [Double] = [
      0, -0.0, 1, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, .greatestFiniteMagnitude,
    ]
    return random.below(2) == 0 ? special[random.below(special.count)] : random.normal() * 1e-6
  }

  private static func attributes(_ random: inout SplitMix) -> Attributes {
    var result = Attributes()
    if random.below(2) == 0 { result["whole"] = .int(random.below(2) == 0 ? Int.min : Int.max) }
    if random.below(2) == 0 { result["number"] = .float(number(&random)) }
    if random.below(2) == 0 { result["words"] = .string(name(&random)) }
    if random.below(2) == 0 { result["truth"] = .bool(random.below(2) == 0) }
    if random.below(2) == 0 { result["wholes"] = .ints((0..<random.below(3)).map { -$0 }) }
    if random.below(2) == 0 {
      result["numbers"] = .floats((0..<random.below(3)).map { _ in number(&random) })
    }
    return result
  }

  private static func annotations(_ random: inout SplitMix) -> Attributes {
    var result = Attributes()
    for _ in 0..<random.below(3) {
      let value: Attribute =
        switch random.below(7) {
        case 0: .int(-random.below(9))
        case 1: .float(number(&random))
        case 2: .string(name(&random))
        case 3: .bool(true)
        case 4: .ints((0..<random.below(3)).map { $0 })
        case 5: .floats((0..<random.below(3)).map { _ in number(&random) })
        default: .strings((0..<random.below(3)).map { _ in name(&random) })
        }
      result[name(&random)] = value
    }
    return result
  }
}

extension GraphBuilder {
  /// Adds a node of an operation without attributes.
  public mutating func add(
    _ type: any Operation.Type, _ ids: [ValueID?], resultCount: Int = 1, names: [String] = [],
    location: Location? = nil
  ) throws(VitError) -> [ValueID] {
    try add(try registry.make(type.name), ids, resultCount: resultCount, names: names, location: location)
  }
}
