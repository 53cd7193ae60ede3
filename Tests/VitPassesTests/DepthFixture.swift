import Foundation
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// What tools/fixtures/make_depth_fixtures.py computed in double: a vision transformer of four blocks on images [batch, 3, 4, 4],
/// whose layers 1 and 2 share a map, or whose blocks are gone.
struct DepthFixture: Decodable, Sendable {
  /// Whether branches are scaled channel by channel.
  let scaled: Bool
  /// Logits of the first two images.
  let teacher, shared, sharedSolved, removed, linear: [Double]
  let correlations: [Pair]
  let sharedMaps, linearMaps: [Map]

  /// How alike the mean maps of two layers are.
  struct Pair: Decodable, Sendable {
    let a, b: Int
    let value: Double
  }

  /// A solved map of a layer.
  struct Map: Decodable, Sendable {
    let layer: Int
    let weight, bias: [Double]
  }

  /// Both cases: without factors, and with them.
  static func all() throws -> [DepthFixture] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode([DepthFixture].self, from: Data(Fixture.bytes("train/depth.json")))
  }

  static let (width, hidden, tokens) = (6, 8, 5)

  /// Its images.
  static func context(threads: Int = 1) -> PassContext {
    let pool: any WorkPool = threads == 1 ? SerialPool() : ThreadPool(threads: threads)
    return PassContext(pool: pool, registry: .standard, data: FixtureImages(count: 64))
  }

  /// The teacher.
  func model() throws -> Hybrid {
    var (model, draw) = (ModelBuilder("depth"), FixtureNumbers(state: 1))
    let (width, hidden) = (Self.width, Self.hidden)
    func constant(_ shape: [Int], _ name: String, scale: Double = 1, offset: Double = 0) -> ValueID {
      model.builder.graph.addConstant(
        Tensor(.f32, shape: shape, values: draw.take(shape.reduce(1, *), scale: scale, offset: offset)),
        name: name)
    }
    func norm(_ x: ValueID, _ weights: [ValueID]) throws -> ValueID {
      try model.add("vit.layer_norm", [x] + weights, [("epsilon", .float(1e-6))])
    }
    func branch(_ stream: ValueID, _ result: ValueID, _ factors: ValueID) throws -> ValueID {
      try model.add("vit.add", [stream, scaled ? try model.add("vit.scale", [result, factors]) : result])
    }
    let image = model.input([.symbol("batch"), 3, 4, 4], name: "image")
    let patch = [constant([width, 3, 2, 2], "patch"), constant([width], "patch.bias")]
    let token = constant([1, 1, width], "token", scale: 2)
    let positions = constant([1, Self.tokens, width], "positions")
    let batch = try model.add(
      "onnx.Gather", [try model.add("onnx.Shape", [image]), model.integers([0])], [("axis", .int(0))])
    let shape = try model.add("onnx.Concat", [batch, model.integers([1, width])], [("axis", .int(0))])
    var x = try model.add("vit.patch_embed", [image] + patch)
    x = try model.add(
      "onnx.Concat", [try model.add("onnx.Expand", [token, shape]), x], [("axis", .int(1))])
    x = try model.add("vit.add", [x, positions])
    for _ in 0..<4 {
      let first = [constant([width], "gain", offset: 1), constant([width], "shift")]
      let maps = (0..<4).flatMap { _ in
        [constant([width, width], "map", scale: 3), constant([width], "map.bias")]
      }
      let factors = constant([width], "factors", scale: 0.8, offset: 0.6)
      let second = [constant([width], "gain", offset: 1), constant([width], "shift")]
      let inner = [constant([hidden, width], "w1", scale: 2), constant([hidden], "b1")]
      let outer = [constant([width, hidden], "w2", scale: 2), constant([width], "b2")]
      let others = constant([width], "factors", scale: 0.8, offset: 0.6)
      let attended = try model.add("vit.attention", [try norm(x, first)] + maps, [("heads", .int(2))])
      x = try branch(x, attended, factors)
      x = try branch(x, try model.add("vit.mlp", [try norm(x, second)] + inner + outer), others)
    }
    x = try norm(x, [constant([width], "gain", offset: 1), constant([width], "shift")])
    let first = try model.add(
      "onnx.Gather", [x, model.builder.integers([0], shape: [])], [("axis", .int(1))])
    let head = [constant([4, width], "head", scale: 3), constant([4], "head.bias")]
    let logits = try model.add("vit.linear", [first] + head)
    var graph = model.finish(logits)
    graph.removeDeadNodes()
    return Hybrid(finding: graph)
  }

  /// The logits that a model gives for the first two images.
  static func logits(_ graph: Graph) throws -> [Double] {
    let images = (0..<2).flatMap { FixtureImages.image($0) }
    return try Zoo.run(graph, [Tensor(.f32, shape: [2, 3, 4, 4], values: images)])[0].doubles()
  }

  /// The largest difference over the largest magnitude of what is expected.
  static func difference(_ found: [Double], _ expected: [Double]) -> Double {
    guard found.count == expected.count else { return .infinity }
    let size = expected.map(abs).max() ?? 0
    return zip(found, expected).map { abs($0 - $1) }.reduce(0, max) / max(size, 1e-12)
  }
}

/// The fixture's stream of numbers: a linear congruential generator.
private struct FixtureNumbers {
  var state: UInt64

  mutating func take(_ count: Int, scale: Double = 1, offset: Double = 0) -> [Double] {
    (0..<count).map { _ in
      state = (state * 1_103_515_245 + 12345) % (1 << 31)
      return Double(Float(offset + scale * (Double(state) / Double(1 << 31) - 0.5)))
    }
  }
}

/// The fixture's images.
private struct FixtureImages: VitPasses.SampleSource {
  let count: Int
  let shape = [3, 4, 4]

  static func image(_ index: Int) -> [Double] {
    var draw = FixtureNumbers(state: 100 + UInt64(index))
    return draw.take(48, scale: 4)
  }

  func label(_ index: Int) -> Int? { nil }
  func name(of index: Int) -> String { "image \(index)" }
  func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) {
    for (place, value) in Self.image(index).enumerated() { target[place] = Float(value) }
  }
}
