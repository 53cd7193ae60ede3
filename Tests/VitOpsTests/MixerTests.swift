import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

@Suite("mixers")
struct MixerTests {
  private func layout(
    dim: Int = 12, outputDim: Int = 12, width: Int = 12, heads: Int = 4,
    pattern: ScanOrder.Pattern = .bidirectional,
    rows: Int = 3, columns: Int = 4
  ) throws -> MixerLayout {
    try MixerLayout(
      dim: dim, outputDim: outputDim, width: width, heads: heads,
      order: ScanOrder(pattern, grid: .init(rows: rows, columns: columns), prefix: 1))
  }

  private func attention(
    dim: Int = 12, heads: Int = 2, kvHeads: Int = 2, valueDim: Int = 6, outputDim: Int = 12,
    lag: [[Double]] = []
  ) -> AttentionWeights {
    AttentionWeights(
      wq: .random([heads * 6, dim], seed: 1), wk: .random([kvHeads * 6, dim], seed: 2),
      wv: .random([kvHeads * valueDim, dim], seed: 3, scale: 0.3),
      wo: .random([outputDim, heads * valueDim], seed: 4, scale: 0.3),
      bv: .random([kvHeads * valueDim], seed: 5),
      bo: .random([outputDim], seed: 6), heads: heads, kvHeads: kvHeads, lag: lag)
  }

  private func run(_ mixer: any Mixer, _ layout: MixerLayout, _ parameters: [Tensor], _ x: Tensor) throws
    -> Tensor
  {
    try OpCase(mixer, inputs: [x] + parameters).run()[0]
  }

  @Test("the default number of heads serves teacher and directions")
  func defaultHeads() throws {
    func heads(_ teacher: Int, _ pattern: ScanOrder.Pattern, _ width: Int) throws -> Int {
      let order = try ScanOrder(pattern, grid: .init(rows: 2, columns: 2))
      return try MixerLayout.defaultHeads(width: width, teacherHeads: teacher, order: order)
    }
    #expect(try heads(3, .bidirectional, 192) == 6)
    #expect(try heads(6, .cross, 384) == 12)
    #expect(try heads(6, .bidirectional, 192) == 6)
    #expect(try heads(3, .forward, 96) == 3)
    let error = #expect(throws: VitError.self) { try heads(3, .cross, 100) }
    #expect(
      error?.kind == .usage
        && error?.diagnostic.help == "ask for a width of 96 channels, or for a number of heads")
  }

  @Test("heads that do not divide are usage errors")
  func badLayouts() {
    for (width, heads, pattern) in [
      (12, 5, ScanOrder.Pattern.forward), (12, 3, .bidirectional), (12, 6, .cross), (0, 1, .forward),
    ] {
      let error = #expect(throws: VitError.self) { try layout(width: width, heads: heads, pattern: pattern) }
      #expect(error?.kind == .usage)
    }
  }

  @Test("an operation takes the parameters that its mixer lists", arguments: Mixers.all.map(\.name))
  func parametersFit(_ kind: String) throws {
    let named = try Mixers.named(kind)
    for width in [12, 8] {
      let layout = try layout(outputDim: 10, width: width)
      let mixer = try named.make(layout)
      var random = SplitMix(seed: 3)
      let tensors = try mixer.initialise(layout, from: nil, random: &random)
      #expect(tensors.map(\.shape) == mixer.parameters(layout).map(\.shape))
      let y = try run(mixer, layout, tensors, .random([2, 13, 12], seed: 9))
      #expect(y.shape == [2, 13, 10])
      for value in try y.doubles() { #expect(value.isFinite && abs(value) < 1) }
    }
  }

  @Test("attributes make the same operation again", arguments: Mixers.all.map(\.name))
  func attributesRoundTrip(_ kind: String) throws {
    let operation = try Mixers.named(kind).make(layout(pattern: .cross))
    let again = try Registry.standard.make(type(of: operation).name, operation.attributes)
    #expect(again.attributes == operation.attributes)
  }

  @Test("glr starts as the attention's output of moving averages of its values")
  func glrFromAttention() throws {
    let layout = try layout(heads: 4)
    let lag = [[2.0, 5], [1.0, 50]]
    let attention = attention(lag: lag)
    var random = SplitMix(seed: 1)
    let parameters = try GLR(layout).initialise(layout, from: attention, random: &random)
    let x = Tensor.random([1, 13, 12], seed: 8)
    let y = try run(GLR(layout), layout, parameters, x)

    let (wv, bv) = (try attention.wv.doubles(), try attention.bv?.doubles() ?? [])
    let (wo, bo, tokens) = (try attention.wo.doubles(), try attention.bo?.doubles() ?? [], try x.doubles())
    var expected = (0..<13 * 12).map { bo[$0 % 12] }
    for channel in 0..<12 {
      let (direction, head) = (channel / 6, channel / 6)
      // Within a head of three channels the reach goes from a third to three times.
      let centre = min(max(1 + lag[direction][head], 1.2), 13)
      let reach = min(max(centre * [1.0 / 3, 1, 3][channel % 3], 1.2), 13)
      var state = 0.0
      for (step, token) in layout.order.directions[direction].indices.enumerated() {
        let value = bv[channel] + (0..<12).reduce(0) { $0 + wv[channel * 12 + $1] * tokens[token * 12 + $1] }
        state = step == 0 ? value : (1 - 1 / reach) * state + value / reach
        for row in 0..<12 { expected[token * 12 + row] += wo[row * 12 + channel] * state }
      }
    }
    #expect(try relativeDifference(y, Tensor(.f32, shape: [1, 13, 12], values: expected)) < 1e-5)
  }

  @Test("lstm starts near the same, up to tanh and the noise on its gates")
  func lstmFromAttention() throws {
    let layout = try layout(heads: 4)
    let attention = attention(lag: [[2, 5], [1, 50]])
    let x = Tensor.random([2, 13, 12], seed: 8)
    var random = SplitMix(seed: 1)
    let glr = try run(
      GLR(layout), layout, GLR(layout).initialise(layout, from: attention, random: &random), x)
    let lstm = try run(
      LSTM(layout), layout, LSTM(layout).initialise(layout, from: attention, random: &random), x)
    // The two differ in how a scan starts: an LSTM at zero, glr at its first value.
    let (a, b) = (try glr.doubles(), try lstm.doubles())
    let dot = zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
    let norms = (a.reduce(0) { $0 + $1 * $1 } * b.reduce(0) { $0 + $1 * $1 }).squareRoot()
    #expect(dot / norms > 0.9)
  }

  @Test("a constant input passes glr unchanged, however long the memory")
  func constantsPass() throws {
    let layout = try layout(pattern: .cross)
    var random = SplitMix(seed: 5)
    var parameters = try GLR(layout).initialise(layout, from: nil, random: &random)
    // The readout's input is what the operation gives with the identity and no bias.
    parameters[6] = Tensor(.f32, shape: [12, 12], values: (0..<144).map { $0 % 13 == 0 ? 1 : 0 })
    parameters[4] = Tensor(.f32, shape: [4, 3, 3], values: [Double](repeating: 0, count: 36))
    let x = Tensor(.f32, shape: [1, 13, 12], values: (0..<13 * 12).map { Double($0 % 12) * 0.1 })
    let s = try run(GLR(layout), layout, parameters, x).doubles()
    for index in s.indices { #expect(abs(s[index] - s[index % 12]) < 1e-5) }
  }

  @Test("a narrower mixer takes the heads that matter most, a wider one all of them")
  func headsAreChosen() throws {
    var attention = attention(dim: 12, heads: 4, kvHeads: 4, valueDim: 3)
    // Heads 0 and 2 have values a hundred times smaller.
    func faded(_ tensor: Tensor, _ stride: Int) throws -> Tensor {
      let values = try tensor.doubles().enumerated().map { $0 / stride % 2 == 0 ? $1 / 100 : $1 }
      return Tensor(.f32, shape: tensor.shape, values: values)
    }
    attention.wv = try faded(attention.wv, 36)
    attention.bv = try attention.bv.map { try faded($0, 3) }
    attention.wo = Tensor(.f32, shape: [12, 12], values: [Double](repeating: 1, count: 144))
    var random = SplitMix(seed: 1)
    let wv = try attention.wv.doubles()
    let narrow = try GLR(layout()).initialise(layout(width: 6, heads: 2), from: attention, random: &random)
    #expect(try narrow[0].doubles() == Array(wv[36..<72] + wv[108..<144]))
    #expect(try narrow[6].doubles().allSatisfy { $0 == 1 })
    let wide = try GLR(layout()).initialise(layout(width: 16, heads: 4), from: attention, random: &random)
    #expect(try Array(wide[0].doubles().prefix(144)) == wv)
    let output = try wide[6].doubles()
    #expect(output.indices.allSatisfy { $0 % 16 < 12 ? output[$0] == 1 : abs(output[$0]) <= 0.05 / 4 })
  }

  @Test("grouped values are shared by the heads of their group")
  func groupedValues() throws {
    let attention = attention(heads: 4, kvHeads: 2, valueDim: 3)
    var random = SplitMix(seed: 1)
    let wv = try attention.wv.doubles()
    let parameters = try GLR(layout()).initialise(layout(), from: attention, random: &random)
    #expect(try parameters[0].doubles() == Array(wv[..<36] + wv[..<36] + wv[36...] + wv[36...]))
  }

  @Test("timescales stay between 1.2 steps and the number of tokens")
  func timescalesAreClamped() throws {
    let layout = try layout(heads: 4)
    var random = SplitMix(seed: 1)
    let parameters = try GLR(layout).initialise(
      layout, from: attention(lag: [[0, 0], [1e9, .nan]]), random: &random)
    for logit in try parameters[3].doubles() { #expect(logit >= -1.61 && logit <= 2.49) }
  }

  @Test(
    "attention that does not fit is refused", arguments: Mixers.all.map(\.name).filter { $0 != "none" })
  func misfits(_ kind: String) throws {
    let layout = try layout()
    let mixer = try Mixers.named(kind).make(layout)
    var random = SplitMix(seed: 1)
    for wrong in [
      attention(dim: 11), attention(outputDim: 13), attention(lag: [[1, 2]]), attention(lag: [[1], [1]]),
    ] {
      #expect(throws: VitError.self) { try mixer.initialise(layout, from: wrong, random: &random) }
    }
  }

  @Test("single precision keeps up with double over many tokens", arguments: [7, 197, 577])
  func singlePrecision(_ tokens: Int) throws {
    let layout = try MixerLayout(
      dim: 32, outputDim: 32, width: 32, heads: 4,
      order: ScanOrder(.bidirectional, grid: .init(rows: 1, columns: tokens - 1), prefix: 1))
    for mixer in [GLR(layout), LSTM(layout)] as [any Mixer] {
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
    for pattern in ScanOrder.Pattern.allCases {
      let layout = try MixerLayout(
        dim: 72, outputDim: 80, width: 136, heads: 4,
        order: ScanOrder(pattern, grid: .init(rows: 5, columns: 7), prefix: 1, placement: .double))
      for mixer in [GLR(layout), LSTM(layout)] as [any Mixer] {
        var random = SplitMix(seed: 7)
        let operands =
          [Tensor.random([9, 36, 72], seed: 2)] + (try mixer.initialise(layout, from: nil, random: &random))
        let test = OpCase(mixer, inputs: operands, constantOperands: Set(1..<operands.count))
        #expect(try relativeDifference(test.run()[0], test.run(pool: pool)[0]) == 0)
        let upstream = Tensor.random([9, 36, 80], seed: 3)
        let alone = try operandGradients(
          of: mixer, operands, upstream: upstream, element: .f32, pool: SerialPool())
        let together = try operandGradients(
          of: mixer, operands, upstream: upstream, element: .f32, pool: pool)
        for case let (a?, b?) in zip(alone, together) { #expect(try relativeDifference(a, b) == 0) }
      }
    }
  }

  @Test("costs are those of the table in Mixers.md")
  func costs() throws {
    let layout = try MixerLayout(
      dim: 384, outputDim: 384, width: 192, heads: 6,
      order: ScanOrder(.bidirectional, grid: .init(rows: 14, columns: 14), prefix: 1))
    let (t, d, w, h) = (197, 384, 192, 32)
    func check(_ mixer: any Mixer, parameters: Int, flops: Int) throws {
      let shapes = mixer.parameters(layout).map(\.shape)
      #expect(shapes.reduce(0) { $0 + $1.reduce(1, *) } == parameters)
      let types = [TensorType(.f32, fixed: [1, t, d])] + shapes.map { TensorType(.f32, fixed: $0) }
      let operands = Operands(types)
      #expect(mixer.cost(operands, try mixer.resultTypes(operands)).flops == flops)
    }
    try check(
      LSTM(layout), parameters: 5 * w * d + 4 * w * h + 4 * w + d,
      flops: t * (10 * w * d + 8 * w * h + 12 * w))
    try check(
      GLR(layout), parameters: 2 * w * d + 2 * w * h + 3 * w + d, flops: t * (4 * w * d + 4 * w * h + 9 * w))
    try check(Pointwise(), parameters: d * d + d, flops: t * 2 * d * d)
    try check(NoMixer(), parameters: d, flops: t * d)
  }

  @Test("operands that do not fit are refused with numbers")
  func refusals() throws {
    let layout = try layout()
    var random = SplitMix(seed: 1)
    for mixer in [GLR(layout), LSTM(layout)] as [any Mixer] {
      let tensors = try mixer.initialise(layout, from: nil, random: &random)
      func types(_ x: TensorType, changing index: Int? = nil, to type: TensorType? = nil) throws
        -> [TensorType]
      {
        var types: [TensorType?] = [x] + tensors.map(\.type)
        if let index { types[index] = type }
        return try mixer.resultTypes(Operands(types))
      }
      let x = TensorType(.f32, [.symbol("batch"), 13, 12])
      #expect(try types(x) == [x])
      #expect(throws: VitError.self) { try types(TensorType(.f32, [1, 14, 12])) }
      #expect(throws: VitError.self) { try types(TensorType(.f32, [1, 13, 11])) }
      #expect(throws: VitError.self) { try types(TensorType(.f32, [13, 12])) }
      #expect(throws: VitError.self) { try types(TensorType(.f64, [1, 13, 12])) }
      #expect(throws: VitError.self) { try types(TensorType(.i64, [1, 13, 12])) }
      for index in 1...tensors.count {
        #expect(throws: VitError.self) { try types(x, changing: index) }
        #expect(throws: VitError.self) { try types(x, changing: index, to: TensorType(.f32, [7])) }
        #expect(throws: VitError.self) { try types(x, changing: index, to: TensorType(.f32, [])) }
      }
      for (name, value) in [
        ("heads", Attribute.int(3)), ("heads", .int(0)), ("order", .string("spiral")), ("grid", .ints([13])),
        ("grid", .ints([-1, 13])), ("prefix", .int(-1)), ("outputs", .int(2)),
        ("placement", .string("first")),
      ] {
        var attributes = mixer.attributes
        attributes[name] = value
        #expect(throws: VitError.self) { try Registry.standard.make("vit.\(mixer.kind)", attributes) }
      }
    }
  }
}
