import Foundation
import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

/// `conv` and `static`: mixers that apply fixed weights to the attention's values.
@Suite("mixers with fixed weights")
struct TapMixerTests {
  private func layout(
    rows: Int = 3, columns: Int = 4, prefix: Int = 1, dim: Int = 12, width: Int = 12, heads: Int = 4,
    ownsPrefix: Bool = true
  ) throws -> MixerLayout {
    try MixerLayout(
      dim: dim, outputDim: 12, width: width, heads: heads,
      order: ScanOrder(.bidirectional, grid: .init(rows: rows, columns: columns), prefix: prefix),
      ownsPrefix: ownsPrefix, splitsHeads: false)
  }

  private func mixer(_ kind: String, _ layout: MixerLayout, _ options: [(String, Attribute)] = []) throws
    -> any Mixer
  {
    try Mixers.named(kind).make(layout, Attributes(options))
  }

  private let attention = AttentionWeights(
    wq: .random([12, 12], seed: 1), wk: .random([12, 12], seed: 2), wv: .random([12, 12], seed: 3),
    wo: .random([12, 12], seed: 4), bv: .random([12], seed: 5), bo: .random([12], seed: 6), heads: 2)

  // MARK: Kernels

  @Test(
    "the kernel is as large as the grid has axes to see",
    arguments: [
      (3, 4, Attribute.string("auto"), [3, 3]), (1, 7, .string("auto"), [1, 5]),
      (7, 1, .string("auto"), [3, 1]),
      (1, 1, .string("auto"), [1, 1]), (3, 4, .int(5), [5, 5]), (1, 7, .int(3), [1, 3]),
      (3, 4, .ints([5, 3]), [5, 3]), (1, 7, .ints([3, 3]), [3, 3]), (3, 4, .ints([3]), [3, 3]),
    ])
  func kernels(_ rows: Int, _ columns: Int, _ option: Attribute, _ extents: [Int]) throws {
    let layout = try layout(rows: rows, columns: columns)
    let mixer = try mixer("conv", layout, [("kernel", option)])
    #expect(mixer.attributes["kernel"] == .ints(extents))
    #expect(mixer.parameters(layout).first { $0.name == "k" }?.shape == [12] + extents)
  }

  @Test(
    "options that make no sense are usage errors with what is expected",
    arguments: [
      ("conv", "kernel", Attribute.int(4)), ("conv", "kernel", .int(17)), ("conv", "kernel", .ints([])),
      ("conv", "kernel", .ints([3, 3, 3])), ("conv", "kernel", .ints([-3, 3])), ("conv", "kernel", .float(3)),
      ("conv", "border", .string("wrap")), ("conv", "share", .string("all")), ("conv", "mean", .int(2)),
      ("conv", "taps", .int(3)), ("static", "fit", .string("best")), ("static", "rank", .int(3)),
    ])
  func wrongOptions(_ kind: String, _ name: String, _ value: Attribute) throws {
    let error = #expect(throws: VitError.self) { try mixer(kind, layout(), [(name, value)]) }
    #expect(error?.kind == .usage)
    #expect(error?.diagnostic.message.hasPrefix("mixer \(kind): ") == true)
  }

  @Test(
    "attributes that a file could hold are refused where they contradict one another",
    arguments: [
      ("grid", Attribute.ints([0, 4])), ("grid", .ints([4])), ("grid", .ints([-1, -12])),
      ("grid", .ints([.max, .max])), ("prefix", .int(-1)), ("prefix", .int(.max)), ("heads", .int(0)),
      ("heads", .int(.max)), ("kernel", .ints([2, 2])), ("kernel", .ints([3])), ("kernel", .ints([17, 1])),
      ("prefix", .int(0)), ("border", .string("wrap")), ("share", .string("")), ("rows", .int(3)),
    ])
  func wrongAttributes(_ name: String, _ value: Attribute) throws {
    var attributes = try mixer("conv", layout()).attributes
    attributes[name] = value
    #expect(throws: VitError.self) { try Registry.standard.make("vit.conv", attributes) }
  }

  @Test("so are those of a static mixer", arguments: [0, -1, .max])
  func wrongHeads(_ heads: Int) throws {
    #expect(throws: VitError.self) {
      try Registry.standard.make("vit.static", Attributes([("heads", .int(heads))]))
    }
  }

  @Test("operands that do not fit are refused", arguments: ["conv", "static"])
  func refusals(_ kind: String) throws {
    let layout = try layout()
    let mixer = try mixer(kind, layout)
    var random = SplitMix(seed: 1)
    let tensors = try mixer.initialise(layout, from: nil, random: &random)
    func types(_ x: TensorType, changing index: Int? = nil, to type: TensorType? = nil) throws -> [TensorType]
    {
      var types: [TensorType?] = [x] + tensors.map(\.type)
      if let index { types[index] = type }
      return try mixer.resultTypes(Operands(types))
    }
    let x = TensorType(.f32, [.symbol("batch"), 13, 12])
    #expect(try types(x) == [x])
    for wrong in [
      TensorType(.f32, [1, 14, 12]), TensorType(.f32, [1, 13, 11]), TensorType(.f32, [13, 12]),
      TensorType(.f64, [1, 13, 12]), TensorType(.i64, [1, 13, 12]),
    ] { #expect(throws: VitError.self) { try types(wrong) } }
    for index in 1...tensors.count {
      #expect(throws: VitError.self) { try types(x, changing: index) }
      #expect(throws: VitError.self) { try types(x, changing: index, to: TensorType(.f32, [7])) }
      #expect(throws: VitError.self) { try types(x, changing: index, to: TensorType(.f32, [])) }
    }
  }

  @Test("a static mixer is refused where the number of tokens is not known")
  func staticNeedsTokens() throws {
    let layout = try layout()
    var random = SplitMix(seed: 1)
    let mixer = try mixer("static", layout)
    let tensors = try mixer.initialise(layout, from: nil, random: &random)
    let x = TensorType(.f32, [1, .symbol("tokens"), 12])
    let error = #expect(throws: VitError.self) {
      try mixer.resultTypes(Operands([x] + tensors.map(\.type)))
    }
    #expect(error?.diagnostic.message.contains("one number of tokens") == true)
    #expect(error?.diagnostic.help != nil)
  }

  @Test("a mixer that stands before another for the prefix has no rows for it, and gives the bias there")
  func prefixOfAnother() throws {
    let layout = try layout(prefix: 2, ownsPrefix: false)
    let mixer = try mixer("conv", layout)
    #expect(mixer.parameters(layout).map(\.name) == ["wv", "bv", "k", "m", "pi", "wo", "bo"])
    var random = SplitMix(seed: 1)
    let tensors = try mixer.initialise(layout, from: attention, random: &random)
    let y = try OpCase(mixer, inputs: [.random([1, 14, 12], seed: 7)] + tensors).run()[0].doubles()
    let bias = try tensors[6].doubles()
    #expect(Array(y[..<24]) == bias + bias)
  }

  @Test("first values are the attention's own where it has any", arguments: ["conv", "static"])
  func startsFromAttention(_ kind: String) throws {
    let layout = try layout()
    let mixer = try mixer(kind, layout)
    var random = SplitMix(seed: 1)
    let tensors = try mixer.initialise(layout, from: attention, random: &random)
    let (values, readout) = (try #require(mixer.values), try #require(mixer.readout))
    func operand(_ index: Int?) throws -> [Double] { try tensors[try #require(index) - 1].doubles() }
    #expect(try operand(values.weight) == attention.wv.doubles())
    #expect(try operand(values.bias) == attention.bv?.doubles())
    #expect(try operand(readout.weight) == attention.wo.doubles())
    #expect(try operand(readout.bias) == attention.bo?.doubles())
  }

  @Test(
    "with taps that add up to one, constants pass a border of centre or edge", arguments: ["centre", "edge"])
  func constantsPass(_ border: String) throws {
    let layout = try layout(prefix: 0)
    let mixer = try mixer("conv", layout, [("border", .string(border)), ("mean", .bool(false))])
    var random = SplitMix(seed: 1)
    var tensors = try mixer.initialise(layout, from: attention, random: &random)
    tensors[3] = Tensor(.f32, shape: [12, 12], values: (0..<144).map { $0 % 13 == 0 ? 1 : 0 })
    tensors[4] = Tensor(.f32, shape: [12], values: [Double](repeating: 0, count: 12))
    let x = Tensor(.f32, shape: [1, 12, 12], values: (0..<144).map { Double($0 % 12) * 0.1 })
    let c = try OpCase(mixer, inputs: [x] + tensors).run()[0].doubles()
    for index in c.indices { #expect(abs(c[index] - c[index % 12]) < 1e-5) }
  }

  @Test("costs count products, taps, mean, prefix and rows")
  func costs() throws {
    let layout = try MixerLayout(
      dim: 384, outputDim: 384, width: 384, heads: 6,
      order: ScanOrder(.forward, grid: .init(rows: 14, columns: 14), prefix: 1))
    let (t, n, d) = (197, 196, 384)
    func check(_ mixer: any Mixer, parameters: Int, flops: Int) throws {
      let shapes = mixer.parameters(layout).map(\.shape)
      #expect(shapes.reduce(0) { $0 + $1.reduce(1, *) } == parameters)
      let operands = Operands(
        [TensorType(.f32, fixed: [2, t, d])] + shapes.map { TensorType(.f32, fixed: $0) })
      #expect(mixer.cost(operands, try mixer.resultTypes(operands)).flops == 2 * flops)
    }
    try check(
      mixer("conv", layout), parameters: 2 * d * d + 2 * d + d * 11 + 6 * t,
      flops: t * 4 * d * d + n * d * 20 + 2 * d + 2 * t * d)
    try check(
      mixer("static", layout), parameters: 2 * d * d + 2 * d + 6 * t * t, flops: t * 4 * d * d + 2 * t * t * d
    )
  }

  @Test("single precision keeps up with double over many tokens", arguments: [7, 197, 577])
  func singlePrecision(_ tokens: Int) throws {
    let layout = try MixerLayout(
      dim: 32, outputDim: 32, width: 32, heads: 4,
      order: ScanOrder(.bidirectional, grid: .init(rows: 2, columns: (tokens - 1) / 2), prefix: 1))
    for kind in ["conv", "static"] {
      let mixer = try mixer(kind, layout)
      var random = SplitMix(seed: 7)
      let operands =
        [Tensor.random([2, tokens, 32], seed: 2)] + (try mixer.initialise(layout, from: nil, random: &random))
      let test = OpCase(mixer, inputs: operands)
      #expect(try relativeDifference(test.run()[0], test.inDouble.run()[0]) < 1e-5)
      let upstream = Tensor.random([2, tokens, 32], seed: 3)
      let single = try operandGradients(
        of: mixer, operands, upstream: upstream, element: .f32, pool: SerialPool())
      let double = try operandGradients(
        of: mixer, operands, upstream: upstream, element: .f64, pool: SerialPool())
      for case let (a?, b?) in zip(single, double) { #expect(try relativeDifference(a, b) < 1e-5) }
    }
  }

  @Test("work that is cut into many tasks gives the same bits on one thread and three")
  func sameBitsWhenCut() throws {
    let pool = ThreadPool(threads: 3)
    let layout = try MixerLayout(
      dim: 72, outputDim: 80, width: 408, heads: 4,
      order: ScanOrder(.forward, grid: .init(rows: 5, columns: 7), prefix: 1))
    for kind in ["conv", "static"] {
      let mixer = try mixer(kind, layout)
      var random = SplitMix(seed: 7)
      let operands =
        [Tensor.random([5, 36, 72], seed: 2)] + (try mixer.initialise(layout, from: nil, random: &random))
      let test = OpCase(mixer, inputs: operands, constantOperands: Set(1..<operands.count))
      #expect(try relativeDifference(test.run()[0], test.run(pool: pool)[0]) == 0)
      let upstream = Tensor.random([5, 36, 80], seed: 3)
      let alone = try operandGradients(
        of: mixer, operands, upstream: upstream, element: .f32, pool: SerialPool())
      let together = try operandGradients(
        of: mixer, operands, upstream: upstream, element: .f32, pool: pool)
      for case let (a?, b?) in zip(alone, together) { #expect(try relativeDifference(a, b) == 0) }
    }
  }
}
