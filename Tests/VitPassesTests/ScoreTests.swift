import FoundationEssentials
import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

struct ScoreTests {
  struct Expected: Decodable {
    var entropy: Double
    var gini: Double
    var hoyer: Double
    var top_mass: Double
    var top_tenth: Double
    var distance: Double
    var prefix_mass: Double
    var output_entropy: Double?
    var lag: [Double]
    var dependence: Double?
    var cosine: Double?
    var drop: Double?
  }

  struct Map: Decodable {
    var rows: Int
    var columns: Int
    var prefix: Int
    var outputs: Int
    var map: [Float]
    var expected: Expected
  }

  private func fixture<Value: Decodable>(_ name: String) throws -> Value {
    try JSONDecoder().decode(Value.self, from: Data(Fixture.bytes("score/" + name)))
  }

  /// Whether a number is another within one part in 100,000.
  private func near(_ a: Double?, _ b: Double?, _ bound: Double = 1e-5) -> Bool {
    guard let a, let b else { return a == nil && b == nil }
    return abs(a - b) <= bound * max(1, abs(b))
  }

  @Test("the indices of a map are those that NumPy computes, pairs for Gini, with prefix tokens or without")
  func maps() throws {
    let maps: [Map] = try fixture("maps.json")
    for map in maps {
      let geometry = TokenGeometry(
        grid: .init(rows: map.rows, columns: map.columns), prefix: map.prefix, outputs: map.outputs)
      let reader = try MapReader(tokens: map.rows * map.columns + map.prefix, geometry: geometry)
      let found = map.map.withUnsafeBufferPointer { buffer in
        buffer.baseAddress.map { reader.statistics($0, sorting: true) }
      }
      let result = try #require(found)
      let expected = map.expected
      #expect(near(result.entropy, expected.entropy))
      #expect(near(result.gini, expected.gini))
      #expect(near(result.hoyer, expected.hoyer))
      #expect(near(result.topMass, expected.top_mass))
      #expect(near(result.topTenth, expected.top_tenth))
      #expect(near(result.distance, expected.distance))
      #expect(near(result.prefixMass, expected.prefix_mass))
      #expect(near(result.outputEntropy.isNaN ? nil : result.outputEntropy, expected.output_entropy))
      for (a, b) in zip(result.lag, expected.lag) { #expect(near(a, b)) }
    }
    #expect(maps.map(\.prefix) == [0, 1, 3])
  }

  @Test("a uniform map is not sparse at all, one key alone is as sparse as can be, empty rows do not count")
  func extremes() throws {
    let geometry = TokenGeometry(grid: .init(rows: 2, columns: 5), prefix: 0, outputs: 0)
    let reader = try MapReader(tokens: 10, geometry: geometry)
    func statistics(_ map: [Float]) throws -> HeadStatistics {
      try map.withUnsafeBufferPointer { buffer in
        reader.statistics(try #require(buffer.baseAddress), sorting: true)
      }
    }
    let even = try statistics([Float](repeating: 0.1, count: 100))
    for value in [even.entropy, even.gini, even.hoyer] { #expect(abs(value) < 1e-6) }
    #expect(abs(even.topMass - 0.1) < 1e-9)
    var single = (0..<100).map { Float($0 / 10 == $0 % 10 ? 1 : 0) }
    let own = try statistics(single)
    for value in [own.entropy, own.gini, own.hoyer] { #expect(abs(value - 1) < 1e-6) }
    #expect(abs(own.topMass - 0.9) < 1e-9)
    #expect(own.distance == 0)
    #expect(own.lag == [0, 0, 0, 0])
    for place in 0..<50 { single[place] = 0 }
    #expect(try statistics(single).entropy == own.entropy)
  }

  /// Pictures in bytes, prepared.
  private struct Pictures: VitPasses.SampleSource {
    let images: [Double]
    let count: Int
    let shape = [1, 28, 28]
    init() throws {
      let tensor = try NPY.read(Fixture.path("score/images.npy"))
      images = try tensor.doubles()
      count = tensor.shape[0]
    }
    func label(_ index: Int) -> Int? { nil }
    func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) {
      for place in target.indices {
        target[place] = Float((images[index * target.count + place] / 255 - 0.286) / 0.353)
      }
    }
  }

  @Test("the scores of the bundled teacher are those from ONNX Runtime's maps, on one thread and on two")
  func teacher() throws {
    let expected: [Expected] = try fixture("teacher.json")
    let model = try Zoo.read(path: Fixture.path("teacher/fashion-vit.onnx")).graph
    let raised = try apply("fold,raise,dce", to: Hybrid(model))
    func scored(_ pool: any WorkPool) throws -> Hybrid {
      let context = PassContext(pool: pool, registry: .standard, data: try Pictures())
      return try apply("score{images=12}", to: raised, context)
    }
    let layers = try scored(SerialPool()).layers
    try #require(layers.count == expected.count)
    for (layer, wanted) in zip(layers, expected) {
      func number(_ name: String) -> Double? { layer.score(name) }
      #expect(near(number("entropy"), wanted.entropy))
      #expect(near(number("gini"), wanted.gini))
      #expect(near(number("hoyer"), wanted.hoyer))
      // One key more or less, where nine tenths are just reached, is a step.
      #expect(near(number("top_mass"), wanted.top_mass, 1e-4))
      #expect(near(number("top_tenth"), wanted.top_tenth))
      #expect(near(number("distance"), wanted.distance))
      #expect(near(number("prefix_mass"), wanted.prefix_mass))
      #expect(near(number("output_entropy"), wanted.output_entropy))
      #expect(near(number("dependence"), wanted.dependence))
      #expect(near(number("cosine"), wanted.cosine))
      #expect(near(number("drop"), wanted.drop, 1e-4))
      guard case .floats(let lag)? = layer.scores["lag"] else {
        Issue.record("layer \(layer.index) has no lag")
        continue
      }
      #expect(lag.count == 4 * layer.heads && lag.count == wanted.lag.count)
      for (a, b) in zip(lag, wanted.lag) { #expect(near(a, b)) }
      guard case .floats(let heads)? = layer.scores["entropy.heads"] else {
        Issue.record("layer \(layer.index) has no heads")
        continue
      }
      #expect(near(heads.reduce(0, +) / Double(heads.count), wanted.entropy))
    }
    let again = try scored(ThreadPool(threads: 2))
    #expect(layers == again.layers)
  }

  /// What a split over processes may rely on: the images of a micro-batch are its place alone, each micro-batch is gathered
  /// for itself, and they are added in a tree that their numbers decide. So the threads that share the work of a micro-batch
  /// change no bit of a score, the damage of a dropped layer included; nor does what else the data hold.
  @Test("scores have the same bits for every number of threads, and on the same images among more")
  func fixedTree() throws {
    func scores(_ pool: any WorkPool, count: Int) throws -> [Attributes] {
      let data = RandomSamples(count: count, shape: TinyViT.shape, classes: TinyViT.classes)
      let context = PassContext(pool: pool, registry: .standard, data: data)
      return try apply("score{images=27}", to: try TinyViT.model(layers: 3), context).layers.map(\.scores)
    }
    let alone = try scores(SerialPool(), count: 27)
    #expect(alone.count == 3 && alone.allSatisfy { $0["drop"] != nil && $0["entropy"] != nil })
    for scores in alone {
      guard case .float(let missed)? = scores["conv"] else {
        Issue.record("a layer has no error of taps")
        continue
      }
      #expect(missed > 0 && missed < 1)
    }
    for threads in 1...3 { #expect(try scores(ThreadPool(threads: threads), count: 27) == alone) }
    #expect(try scores(ThreadPool(threads: 2), count: 64) == alone)
  }

  @Test("a layer whose maps cannot be read gets no lag and no index, rather than zeros")
  func leavesOut() throws {
    let graph = try AttentionGraph.plain(
      scores: { try $0.model.reshape($1, [0, 0, 5, 1, 5]) },
      probabilities: { try $0.model.reshape($1, [0, 0, 5, 5]) })
    let context = PassContext(
      pool: SerialPool(), registry: .standard, data: RandomSamples(count: 2, shape: [5, 8]))
    let layers = try apply("score{drop=false}", to: Hybrid(finding: graph), context).layers
    #expect(layers.count == 1)
    for layer in layers {
      #expect(layer.scores["lag"] == nil)
      #expect(layer.score("entropy") == nil)
      #expect(layer.score("conv") == nil)
    }
  }

  @Test("scoring changes nothing that the model computes, and needs no square map")
  func touchesNothing() throws {
    let model = try TinyViT.model()
    let scored = try apply("score{images=5}", to: model)
    #expect(try model.graph.firstDifference(from: scored.graph) == nil)
    #expect(scored.layers.allSatisfy { $0.score("entropy") != nil && $0.score("drop") != nil })
    #expect(scored.layers.map(\.forgotten) == model.layers)
    let fast = try apply("score{images=5,drop=false}", to: model)
    #expect(fast.layers.allSatisfy { $0.score("drop") == nil })
    let pooled = try apply("fold,raise", to: Hybrid(try AttentionGraph.pooled(.firstToken)))
    let context = PassContext(
      pool: SerialPool(), registry: .standard, data: RandomSamples(count: 2, shape: [5, 8]))
    var copy = pooled
    let result = try Pipeline("score").run(on: &copy, context: context)
    #expect(result[0].notes == ["the model has no attention layers"])
  }
}
