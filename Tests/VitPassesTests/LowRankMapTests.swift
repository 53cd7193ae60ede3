import Foundation
import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// What tools/fixtures/make_map_fixtures.py computed in double: a linear map of tokens by two of a lower rank.
private struct MapFixture: Decodable, Sendable, CustomTestStringConvertible {
  let inputs, outputs, rank: Int
  let scaled: Bool
  let inner, outer, bias: [Double]
  let error: Double

  var testDescription: String { "\(inputs) to \(outputs) by \(rank)\(scaled ? ", scaled" : "")" }

  static let all =
    (try? JSONDecoder().decode([MapFixture].self, from: Data(Fixture.bytes("train/maps.json")))) ?? []

  /// The fixture's stream of numbers: a linear congruential generator.
  struct Numbers {
    var state: UInt64

    mutating func take(_ count: Int, scale: Double = 1, offset: Double = 0) -> [Double] {
      (0..<count).map { _ in
        state = (state * 1_103_515_245 + 12345) % (1 << 31)
        return Double(Float(offset + scale * (Double(state) / Double(1 << 31) - 0.5)))
      }
    }
  }

  struct Samples: VitPasses.SampleSource {
    let count = 32
    let width: Int
    var shape: [Int] { [3, width] }

    func rows(_ index: Int) -> [Double] {
      var draw = Numbers(state: 100 + UInt64(index))
      return draw.take(3 * width, scale: 2, offset: 0.3)
    }

    func label(_ index: Int) -> Int? { nil }
    func name(of index: Int) -> String { "sample \(index)" }
    func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) {
      for (place, value) in rows(index).enumerated() { target[place] = Float(value) }
    }
  }

  /// The map alone, with factors behind it where it is scaled.
  func model() throws -> Hybrid {
    var (model, draw) = (ModelBuilder(), Numbers(state: 7))
    let x = model.input([.symbol("batch"), 3, .fixed(inputs)])
    let (weight, bias) = (draw.take(outputs * inputs, scale: 2), draw.take(outputs))
    var y = try model.add(
      "vit.linear",
      [
        x, model.builder.constant(weight, shape: [outputs, inputs], name: "map"),
        model.builder.constant(bias, shape: [outputs], name: "bias"),
      ])
    if scaled {
      let factors = draw.take(outputs, scale: 0.8, offset: 0.6)
      y = try model.add("vit.scale", [y, model.builder.constant(factors, shape: [outputs], name: "factors")])
    }
    return Hybrid(finding: model.finish(y))
  }

  func context(threads: Int = 1) -> PassContext {
    PassContext(
      pool: threads == 1 ? SerialPool() : ThreadPool(threads: threads), registry: .standard,
      data: Samples(width: inputs))
  }

  /// The pass that leaves this rank.
  var passes: String {
    let part = (Double(rank) + 0.01) * Double(inputs + outputs) / Double(inputs * outputs)
    return "factorise{maps=all,rank=\(min(part, 1)),tile=1}"
  }
}

@Suite("Linear maps by two of a lower rank")
struct LowRankMapTests {
  private func tensors(_ hybrid: Hybrid) throws -> [String: [Double]] {
    var found: [String: [Double]] = [:]
    for name in hybrid.graph.tensors.names { found[name] = try hybrid.graph.tensors[name]?.doubles() }
    return found
  }

  @Test("the two, and the bias behind them, are those of the reference", arguments: MapFixture.all)
  private func reference(_ fixture: MapFixture) throws {
    let teacher = try fixture.model()
    let reduced = try apply(fixture.passes, to: teacher, fixture.context())
    let found = try tensors(reduced)
    for (name, expected) in [("map.inner", fixture.inner), ("map", fixture.outer), ("bias", fixture.bias)] {
      let values = try #require(found[name])
      #expect(DepthFixture.difference(values, expected) < 1e-5, "\(name)")
    }
    let shape = [2, 3, fixture.inputs]
    try expectWhole(reduced, [shape])
    // What is missed is the sum of the squares that were left out, but for the little that the ridge adds.
    let samples = MapFixture.Samples(width: fixture.inputs)
    let x = Tensor(.f32, shape: [32, 3, fixture.inputs], values: (0..<32).flatMap(samples.rows))
    let (a, b) = (try Zoo.run(teacher.graph, [x])[0].doubles(), try Zoo.run(reduced.graph, [x])[0].doubles())
    let missed = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / 96
    #expect(abs(missed - fixture.error) < 1e-3 * fixture.error, "\(missed), \(fixture.error)")
  }

  @Test("the eigenvectors of a larger matrix are those of a smaller one", arguments: [1, 2, 3, 7, 40])
  func eigen(_ count: Int) throws {
    var random = SplitMix(seed: UInt64(count))
    let a = DoubleMatrix(count, count, (0..<count * count).map { _ in random.normal() })
    let square = a.transposed * a
    let (values, rows) = try #require(SymmetricMatrix.largeEigen(square.values, count))
    let vectors = DoubleMatrix(count, count, rows)
    let expected = square.eigenvalues
    for (x, y) in zip(values, expected) { #expect(abs(x - y) < 1e-10 * expected[0]) }
    let image = vectors * square
    for row in 0..<count {
      for column in 0..<count {
        #expect(abs(image[row, column] - values[row] * vectors[row, column]) < 1e-9 * expected[0])
      }
    }
    let unit = vectors * vectors.transposed
    for row in 0..<count {
      for column in 0..<count { #expect(abs(unit[row, column] - (row == column ? 1 : 0)) < 1e-10) }
    }
    #expect(
      try #require(SymmetricMatrix.largeEigen(.init(repeating: 0, count: count * count), count)).0
        .allSatisfy { $0 == 0 })
    #expect(SymmetricMatrix.largeEigen(.init(repeating: .nan, count: count * count), count) == nil)
  }

  @Test("they are better than without regard to the inputs, and the more so the higher the rank")
  func better() throws {
    let fixture = try #require(MapFixture.all.first)
    let (teacher, context) = (try fixture.model(), fixture.context())
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: context.samples(for: "test"), context: context)
    var last = Double.infinity
    for rank in 1...3 {
      let part = (Double(rank) + 0.01) * 16 / 63
      let reduced = try apply("factorise{maps=all,rank=\(part),tile=1}", to: teacher, context)
      let damage = try meter.measure(reduced.graph).damage
      // The best of that rank for inputs of which nothing is known, with the bias that keeps the mean: Y is Uᵣ, Z UᵣᵀW.
      let id = try #require(teacher.graph.value(named: "map"))
      let weight = try DoubleMatrix(try #require(teacher.graph.tensor(id)))
      let u = DoubleMatrix(9, 9, SymmetricMatrix.eigen((weight * weight.transposed).values, 9).vectors)
        .columns(0..<rank)
      let plain = u * u.transposed * weight
      let samples = MapFixture.Samples(width: 7)
      let rows = DoubleMatrix(96, 7, (0..<32).flatMap(samples.rows))
      let mean = DoubleMatrix(7, 1, (0..<7).map { j in (0..<96).reduce(0.0) { $0 + rows[$1, j] } / 96 })
      var other = teacher
      other.graph.setTensor(Tensor(.f32, shape: [9, 7], values: plain.values), of: id)
      let bias = try #require(teacher.graph.value(named: "bias"))
      let shift = (weight - plain) * mean
      let old = try #require(teacher.graph.tensor(bias)).doubles()
      other.graph.setTensor(
        Tensor(.f32, shape: [9], values: zip(old, shift.values).map { $0 + $1 }), of: bias)
      #expect(try damage < meter.measure(other.graph).damage && damage < last)
      last = damage
    }
  }

  @Test("maps of perceptrons, of attention and all are told apart; none grows, and others stay")
  func kinds() throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 32)
    context.heldOut = context.data
    let perceptrons = try apply("factorise{maps=perceptrons,rank=0.5,tile=1}", to: teacher, context)
    #expect(perceptrons.graph.operations.filter { $0 == "vit.linear" }.count == 9)
    #expect(perceptrons.graph.count("vit.mlp") == 0 && perceptrons.graph.count("vit.attention") == 2)
    #expect(perceptrons.layers.map(\.parameters) == teacher.layers.map(\.parameters))
    let all = try apply("factorise{maps=all,rank=0.5,tile=1}", to: teacher, context)
    #expect(all.graph.operations.filter { $0 == "vit.linear" }.count == 10)
    #expect(all.graph.parameterCount < perceptrons.graph.parameterCount)
    var codes: [String] = []
    context.report = { codes.append($0.code) }
    let none = try apply("factorise{maps=attention}", to: teacher, context)
    #expect(try none.graph.firstDifference(from: teacher.graph) == nil && codes == ["nothing-to-factorise"])
    let coarse = try apply("factorise{maps=all,tile=16}", to: teacher, context)
    #expect(try coarse.graph.firstDifference(from: teacher.graph) == nil)
    for passes in [
      "solve{images=16}", "prune{mlp=0.5,tile=4}", "merge{counts=[2,1]}", "trim", "depth{layers=[1]}",
    ] {
      _ = try apply(passes, to: perceptrons, context)
    }
    try expectWhole(perceptrons, [[2] + TinyViT.shape])
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: context.samples(for: "test"), context: context)
    let before = try meter.measure(perceptrons.graph).damage
    let tuned = try apply("fine-tune{steps=20,batch=8,rate=0.002}", to: perceptrons, context)
    #expect(try meter.measure(tuned.graph).damage < before)
  }

  @Test("maps of attention between whose parts something lies stay one layer, which can be replaced")
  func attention() throws {
    var model = ModelBuilder(seed: 6)
    let x = model.input([.symbol("batch"), 6, 8])
    func heads(_ value: ValueID) throws -> ValueID {
      try model.transpose(try model.reshape(value, [0, 0, 2, 4]), [0, 2, 1, 3])
    }
    func map(_ value: ValueID) throws -> ValueID {
      try model.add("vit.linear", [value, model.weight([8, 8]), model.weight([8], name: "bias")])
    }
    func norm(_ value: ValueID) throws -> ValueID {
      try model.add(
        "vit.layer_norm", [value, model.weight([4], name: "gain"), model.weight([4], name: "shift")])
    }
    let (q, k, v) = (try norm(heads(map(x))), try norm(heads(map(x))), try heads(map(x)))
    let core = try model.transpose(try model.add("vit.sdpa", [q, k, v]), [0, 2, 1, 3])
    let y = try map(try model.reshape(core, [0, 0, 8]))
    let teacher = Hybrid(finding: model.finish(try model.add("vit.add", [x, y])))
    #expect(teacher.layers.first?.isReplaceable ?? false)
    let context = PassContext(
      pool: SerialPool(), registry: .standard, data: RandomSamples(count: 32, shape: [6, 8], seed: 3))
    let reduced = try apply("factorise{maps=attention,rank=0.75,tile=1}", to: teacher, context)
    #expect(reduced.graph.count("vit.linear") == 8 && reduced.layers.count == 1)
    let layer = try #require(reduced.layers.first)
    #expect(layer.isReplaceable && layer.parameters < teacher.layers[0].parameters)
    try expectWhole(reduced, [[2, 6, 8]])
    #expect(try apply("swap{mixer=conv,layers=all}", to: reduced, context).replaced.count == 1)
    let same = try apply("factorise{maps=perceptrons,tile=1}", to: teacher, context)
    #expect(try same.graph.firstDifference(from: teacher.graph) == nil)
  }

  @Test("one thread and two give the same bytes")
  func threads() throws {
    let bytes = try [1, 2].map { threads in
      try apply(
        "factorise{maps=all,rank=0.5,tile=1},solve{images=8}", to: TinyViT.model(),
        TinyViT.context(threads: threads)
      ).weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test("scores stay unless they are asked for; the text says all")
  func text() throws {
    let text = try Pipeline("factorise{maps=perceptrons}").description
    #expect(text == "factorise{scores=1.0,values=1.0,maps=perceptrons,rank=0.5,images=300,tile=8}")
    #expect(try Pipeline(text).description == text)
    #expect(
      try Pipeline("factorise").description
        == "factorise{scores=0.5,values=1.0,maps=none,rank=0.5,images=300,tile=8}")
  }

  @Test(
    "what makes no sense is one usage error that says what is accepted",
    arguments: ["maps=some", "maps=all,rank=0.0", "maps=all,rank=1.5", "maps=all,rank=half"])
  func refused(_ options: String) throws {
    let error = try #require(throws: VitError.self) {
      try apply("factorise{\(options)}", to: TinyViT.model())
    }
    #expect(error.kind == .usage && error.diagnostic.message.contains("expected"))
  }
}
