import Testing
import VitData
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// Samples of random numbers with labels, decided by a seed.
struct RandomSamples: VitPasses.SampleSource {
  var count: Int
  var shape: [Int]
  var seed: UInt64 = 1
  var classes: Int? = nil

  func label(_ index: Int) -> Int? { classes.map { index % $0 } }

  func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) throws {
    var random = SplitMix(seed: seed).split(index)
    for place in target.indices { target[place] = Float(random.normal()) }
    guard let variant else { return }
    var noise = SplitMix(seed: variant)
    for place in target.indices { target[place] += Float(0.05 * noise.normal()) }
  }
}

/// Builds small graphs, their weights decided by a seed.
struct ModelBuilder {
  var builder: GraphBuilder
  var random: SplitMix

  init(_ name: String = "model", seed: UInt64 = 1) {
    builder = GraphBuilder(Graph(name: name), registry: .standard)
    random = SplitMix(seed: seed)
  }

  mutating func input(_ shape: Shape, name: String = "x") -> ValueID {
    builder.graph.addInput(TensorType(.f32, shape), name: name)
  }

  mutating func weight(_ shape: [Int], name: String = "weight", scale: Double? = nil) -> ValueID {
    let scale = scale ?? 1 / Double(shape.last ?? 1).squareRoot()
    let values = (0..<shape.reduce(1, *)).map { _ in random.normal() * scale }
    return builder.graph.addConstant(Tensor(.f32, shape: shape, values: values), name: name)
  }

  mutating func number(_ value: Double) -> ValueID { builder.constant([value], shape: []) }

  mutating func integers(_ values: [Int]) -> ValueID { builder.integers(values) }

  @discardableResult
  mutating func add(_ name: String, _ operands: [ValueID?], _ attributes: [(String, Attribute)] = [])
    throws -> ValueID
  {
    try builder.add(name, operands, attributes)
  }

  mutating func transpose(_ x: ValueID, _ order: [Int]) throws -> ValueID {
    try add("onnx.Transpose", [x], [("perm", .ints(order))])
  }

  mutating func reshape(_ x: ValueID, _ shape: [Int]) throws -> ValueID {
    try add("onnx.Reshape", [x, integers(shape)])
  }

  /// `x·weight + bias`, as exporters write it.
  mutating func linear(_ x: ValueID, _ inputs: Int, _ outputs: Int, bias: Bool = true) throws -> ValueID {
    let product = try add(
      "onnx.MatMul", [x, weight([inputs, outputs], scale: 1 / Double(inputs).squareRoot())])
    return bias ? try add("onnx.Add", [product, weight([outputs], name: "bias", scale: 0.3)]) : product
  }

  mutating func split(_ x: ValueID, _ parts: Int, axis: Int) throws -> [ValueID] {
    let extent = builder.graph.type(x).shape
    let size = (extent[axis < 0 ? axis + extent.count : axis].fixedValue ?? parts) / parts
    return try builder.add(
      builder.registry.make("onnx.Split", Attributes([("axis", .int(axis))])),
      [x, integers([Int](repeating: size, count: parts))], resultCount: parts)
  }

  /// The graph with these outputs.
  mutating func finish(_ outputs: ValueID...) -> Graph {
    builder.graph.outputs = outputs.enumerated().map { ("y\($0.offset)", $0.element) }
    return builder.graph
  }
}

/// A vision transformer of raised operations on images [batch, 3, 8, 8] in 16 patches: what selection and
/// training work on.
enum TinyViT {
  static let shape = [3, 8, 8]
  static let width = 16
  static let heads = 2
  static let classes = 5

  static func graph(
    layers: Int = 2, classToken: Bool = true, layerScale: [Double]? = nil, seed: UInt64 = 1
  ) throws -> Graph {
    var model = ModelBuilder("tiny", seed: seed)
    let image = model.input([.symbol("batch"), 3, 8, 8], name: "image")
    var x = try model.add(
      "vit.patch_embed",
      [image, model.weight([width, 3, 2, 2], scale: 0.3), model.weight([width], scale: 0.1)])
    if classToken {
      let batch = try model.add(
        "onnx.Gather", [try model.add("onnx.Shape", [image]), model.integers([0])], [("axis", .int(0))])
      let shape = try model.add("onnx.Concat", [batch, model.integers([1, width])], [("axis", .int(0))])
      let token = try model.add(
        "onnx.Expand", [model.weight([1, 1, width], name: "token", scale: 1), shape])
      x = try model.add("onnx.Concat", [token, x], [("axis", .int(1))])
    }
    let tokens = classToken ? 17 : 16
    x = try model.add("vit.add", [x, model.weight([1, tokens, width], name: "positions", scale: 0.5)])
    for _ in 0..<layers {
      x = try block(&model, x, layerScale)
    }
    x = try norm(&model, x)
    let pooled =
      classToken
      ? try model.add("onnx.Gather", [x, model.builder.integers([0], shape: [])], [("axis", .int(1))])
      : try model.add("onnx.ReduceMean", [x, model.integers([1])], [("keepdims", .int(0))])
    let logits = try model.add(
      "vit.linear", [pooled, model.weight([classes, width]), model.weight([classes], scale: 0.1)])
    model.builder.graph.outputs = [("logits", logits)]
    return model.builder.graph
  }

  private static func norm(_ model: inout ModelBuilder, _ x: ValueID) throws -> ValueID {
    let gain = model.builder.constant((0..<width).map { 1 + 0.02 * Double($0) }, shape: [width], name: "gain")
    return try model.add(
      "vit.layer_norm", [x, gain, model.weight([width], name: "shift", scale: 0.1)],
      [("epsilon", .float(1e-6))])
  }

  private static func block(
    _ model: inout ModelBuilder, _ x: ValueID, _ layerScale: [Double]?
  ) throws -> ValueID {
    let normal = try norm(&model, x)
    func map(_ model: inout ModelBuilder, _ scale: Double) -> [ValueID?] {
      [model.weight([width, width], scale: scale), model.weight([width], name: "bias", scale: 0.1)]
    }
    var attended = try model.add(
      "vit.attention",
      [normal] + map(&model, 0.5) + map(&model, 0.5) + map(&model, 0.3) + map(&model, 0.3),
      [("heads", .int(heads))])
    if let layerScale {
      let factors = model.builder.constant(layerScale, shape: [width], name: "factors")
      attended = try model.add("vit.scale", [attended, factors])
    }
    let middle = try model.add("vit.add", [x, attended])
    let inner = try model.add(
      "vit.mlp",
      [
        try norm(&model, middle), model.weight([2 * width, width]), model.weight([2 * width], scale: 0.1),
        model.weight([width, 2 * width]), model.weight([width], scale: 0.1),
      ])
    return try model.add("vit.add", [middle, inner])
  }

  /// The same with its layers.
  static func model(
    layers: Int = 2, classToken: Bool = true, layerScale: [Double]? = nil
  ) throws -> Hybrid {
    Hybrid(finding: try graph(layers: layers, classToken: classToken, layerScale: layerScale))
  }

  /// A context with data of its own for training and judging.
  static func context(
    threads: Int = 1, seed: UInt64 = 7, count: Int = 24, heldOut: Int = 16, labelled: Bool = false
  ) -> PassContext {
    let pool: any WorkPool = threads == 1 ? SerialPool() : ThreadPool(threads: threads)
    let context = PassContext(
      pool: pool, registry: .standard, seed: seed,
      data: RandomSamples(count: count, shape: shape, seed: 3, classes: labelled ? classes : nil))
    context.heldOut = RandomSamples(
      count: heldOut, shape: shape, seed: 4, classes: labelled ? classes : nil)
    return context
  }
}

/// Runs a pipeline on a model.
func apply(
  _ pipeline: String, to hybrid: Hybrid, _ context: PassContext = TinyViT.context()
) throws -> Hybrid {
  var hybrid = hybrid
  try Pipeline(pipeline).run(on: &hybrid, context: context)
  try hybrid.checkInvariants()
  try Verifier.verify(hybrid.graph, registry: .standard)
  return hybrid
}

/// Runs passes that know nothing of layers on a graph.
func apply(_ pipeline: String, to graph: Graph, _ context: PassContext = TinyViT.context()) throws -> Graph {
  try apply(pipeline, to: Hybrid(graph), context).graph
}

extension Hybrid {
  /// The bytes of all constants by name.
  func weightBytes() throws -> [String: [UInt8]] { try graph.weightBytes() }
}

extension Graph {
  /// The names of the nodes' operations, in order.
  var operations: [String] { nodes.map(\.name) }

  /// How many nodes are of this operation.
  func count(_ name: String) -> Int { nodes.filter { $0.name == name }.count }

  /// The names and bytes of all constants, in order of the names.
  func weightBytes() throws -> [String: [UInt8]] {
    var result: [String: [UInt8]] = [:]
    for name in tensors.names {
      guard let tensor = tensors[name] else { continue }
      result[name] = try tensor.storage.withBytes { Array($0) }
    }
    return result
  }
}

/// The largest difference between the outputs of two graphs on random inputs of these shapes, over their
/// largest magnitude.
func outputDifference(_ a: Graph, _ b: Graph, _ shapes: [[Int]], seed: UInt64 = 11) throws -> Double {
  let inputs = shapes.enumerated().map { Tensor.random($0.element, seed: seed + UInt64($0.offset)) }
  let (x, y) = (try Zoo.run(a, inputs), try Zoo.run(b, inputs))
  guard x.count == y.count else { return .infinity }
  return try zip(x, y).reduce(0) { max($0, try relativeDifference($1.0, $1.1, floor: 1e-3)) }
}

extension TinyViT {
  /// Layers of which the second has the first one's queries and keys, and its tokens, too: the first block does so much of
  /// what it did, or nothing.
  static func twins(layers: Int = 2, doing part: Double = 0) throws -> Hybrid {
    var teacher = try model(layers: layers)
    // The second block's tokens are the first's where the first block does nothing.
    let nodes = teacher.graph.nodes.filter { $0.operation is VitAttention }
    let zeroed =
      [nodes[0].operands[7], nodes[0].operands[8]]
      + (teacher.graph.nodes.first { $0.operation is VitMLP }.map { [$0.operands[3], $0.operands[4]] } ?? [])
    for case let id? in zeroed {
      let tensor = try #require(teacher.graph.tensor(id))
      teacher.graph.setTensor(
        Tensor(.f32, shape: tensor.shape, values: try tensor.doubles().map { part * $0 }), of: id)
    }
    let norms = teacher.graph.nodes.filter { $0.name == "vit.layer_norm" }
    let pairs =
      (1...4).map { (nodes[0].operands[$0], nodes[1].operands[$0]) }
      + (1...2).map { (norms[0].operands[$0], norms[2].operands[$0]) }
    for case let (from?, to?) in pairs {
      teacher.graph.setTensor(try #require(teacher.graph.tensor(from)), of: to)
    }
    return teacher
  }
}
