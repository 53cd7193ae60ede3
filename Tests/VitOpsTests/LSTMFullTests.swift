import Foundation
import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

@Suite("the long short-term memory with full directions")
struct LSTMFullTests {
  private func layout(
    dim: Int = 12, width: Int = 12, heads: Int = 2, outputDim: Int = 12,
    pattern: ScanOrder.Pattern = .bidirectional, rows: Int = 3, columns: Int = 4, ownsPrefix: Bool = true,
    placement: ScanOrder.Placement = .last
  ) throws -> MixerLayout {
    try MixerLayout(
      dim: dim, outputDim: outputDim, width: width, heads: heads,
      order: ScanOrder(pattern, grid: .init(rows: rows, columns: columns), prefix: 1, placement: placement),
      ownsPrefix: ownsPrefix, splitsHeads: false)
  }

  private func narrowLayout() throws -> MixerLayout {
    try MixerLayout(
      dim: 12, outputDim: 12, width: 12, heads: 4,
      order: ScanOrder(.bidirectional, grid: .init(rows: 3, columns: 4), prefix: 1))
  }

  private func attention(dim: Int = 12, heads: Int = 2, valueDim: Int = 6, lag: [[Double]] = [])
    -> AttentionWeights
  {
    AttentionWeights(
      wq: .random([heads * 6, dim], seed: 1), wk: .random([heads * 6, dim], seed: 2),
      wv: .random([heads * valueDim, dim], seed: 3, scale: 0.3),
      wo: .random([12, heads * valueDim], seed: 4, scale: 0.3), bv: .random([heads * valueDim], seed: 5),
      bo: .random([12], seed: 6), heads: heads, kvHeads: heads, lag: lag)
  }

  private func run(_ layout: MixerLayout, _ parameters: [Tensor], _ x: Tensor) throws -> Tensor {
    try OpCase(LSTMFull(layout), inputs: [x] + parameters).run()[0]
  }

  private func identity(_ width: Int) -> Tensor {
    Tensor(.f32, shape: [width, width], values: (0..<width * width).map { $0 % (width + 1) == 0 ? 1 : 0 })
  }

  private func zeros(_ shape: [Int]) -> Tensor {
    Tensor(.f32, shape: shape, values: [Double](repeating: 0, count: shape.reduce(1, *)))
  }

  @Test("the form is asked for by an option, the narrow one without it")
  func forms() throws {
    let kind = try Mixers.named("lstm")
    let full = Attributes([("form", .string("full"))])
    #expect(try kind.make(layout(), full) is LSTMFull)
    #expect(try kind.make(narrowLayout()) is LSTM)
    #expect(try kind.options() == Attributes([("form", .string("narrow"))]))
    #expect(try kind.defaultWidth() == 0.5 && kind.defaultWidth(full) == 1)
    #expect(try kind.splitsHeads() && !kind.splitsHeads(full))
    let error = #expect(throws: VitError.self) { try kind.options(Attributes([("form", .string("wide"))])) }
    #expect(error?.kind == .usage)
    #expect(
      error?.diagnostic.message
        == "mixer lstm: attribute 'form' is 'wide', expected one of 'narrow', 'full'")
  }

  @Test("any number of heads goes with any order", arguments: ScanOrder.Pattern.allCases)
  func headsAreFree(_ pattern: ScanOrder.Pattern) throws {
    let layout = try layout(width: 15, heads: 3, pattern: pattern)
    #expect(
      try MixerLayout.defaultHeads(width: 15, teacherHeads: 3, order: layout.order, splitsHeads: false) == 3)
    let again = try Registry.standard.make("vit.lstm_full", LSTMFull(layout).attributes)
    #expect(again.attributes == LSTMFull(layout).attributes)
    let error = #expect(throws: VitError.self) { try self.layout(width: 16, heads: 3, pattern: pattern) }
    #expect(error?.kind == .usage)
  }

  @Test(
    "it starts as the attention's output of the mean, over directions, of moving averages of its values",
    arguments: ScanOrder.Pattern.allCases)
  func fromAttention(_ pattern: ScanOrder.Pattern) throws {
    let layout = try layout(pattern: pattern)
    let directions = layout.order.directions
    let lag = [[2.0, 5], [1.0, 50], [3.0, 0], [4.0, 7]].prefix(directions.count)
    let attention = attention(lag: Array(lag))
    var random = SplitMix(seed: 1)
    var parameters = try LSTMFull(layout).initialise(layout, from: attention, random: &random)
    #expect(try parameters[7].doubles() == attention.wo.doubles())
    // Without the noise on the gates, which is there to be trained.
    parameters[2] = Tensor(
      .f32, shape: parameters[2].shape,
      values: try parameters[2].doubles().enumerated().map { $0 / 36 % 4 == 2 ? $1 : 0 })
    let x = Tensor.random([1, 13, 12], seed: 8, scale: 0.2)
    let y = try run(layout, parameters, x)

    let (wv, bv) = (try attention.wv.doubles(), try attention.bv?.doubles() ?? [])
    let (wo, bo, tokens) = (try attention.wo.doubles(), try attention.bo?.doubles() ?? [], try x.doubles())
    var expected = (0..<13 * 12).map { bo[$0 % 12] }
    for channel in 0..<12 {
      for (direction, order) in directions.enumerated() {
        let centre = min(max(1 + lag[direction][channel / 6], 1.2), 13)
        let place = Double(channel % 6) / 5
        let reach = min(max(centre * pow(3, 2 * place - 1), 1.2), 13)
        var state = 0.0
        for token in order.indices {
          let value =
            bv[channel] + (0..<12).reduce(0) { $0 + wv[channel * 12 + $1] * tokens[token * 12 + $1] }
          state += (value - state) / reach
          for row in 0..<12 {
            expected[token * 12 + row] += wo[row * 12 + channel] * state / Double(directions.count)
          }
        }
      }
    }
    // tanh is not quite linear.
    #expect(try relativeDifference(y, Tensor(.f32, shape: [1, 13, 12], values: expected)) < 0.05)
  }

  /// A fit after one batch of tokens and attended values.
  private func fitted(
    _ layout: MixerLayout, _ parameters: [Tensor], _ x: Tensor, _ context: Tensor, parts: Int = 1,
    pool: any WorkPool = SerialPool()
  ) throws -> [Tensor]? {
    var fit = try #require(try LSTMFull(layout).fit(layout, parameters))
    #expect(!fit.readsMaps)
    for part in 0..<parts {
      try withView(x, part, of: parts) { x in
        try withView(context, part, of: parts) { context in
          try fit.add(FitBatch(x: x, context: context, pool: pool))
        }
      }
    }
    let found = fit.solve()
    if found.isEmpty { return nil }
    #expect(found.map(\.operand) == [6, 7])
    var result = parameters
    for (operand, tensor) in found { result[operand - 1] = tensor }
    return result
  }

  private func withView(_ tensor: Tensor, _ part: Int, of parts: Int, _ body: (View) throws -> Void) throws {
    let count = tensor.shape[0] / parts
    let memory = View(
      base: .allocate(byteCount: tensor.count * 4, alignment: 64), element: .f32, shape: tensor.shape)
    defer { memory.base.deallocate() }
    for (index, value) in try tensor.doubles().enumerated() { memory.f32[index] = Float(value) }
    try body(memory.slice(part * count..<(part + 1) * count))
  }

  /// What the mixer merges: its output with the identity behind it.
  private func merged(_ layout: MixerLayout, _ parameters: [Tensor], _ x: Tensor) throws -> [Double] {
    var parameters = parameters
    (parameters[7], parameters[8]) = (identity(layout.width), zeros([layout.width]))
    return try run(layout, parameters, x).doubles()
  }

  @Test("the merge is fitted to attended values, whatever the placement, in one batch or several")
  func fit() throws {
    for placement in ScanOrder.Placement.allCases {
      let layout = try layout(placement: placement)
      var random = SplitMix(seed: 2)
      let parameters = try LSTMFull(layout).initialise(layout, from: attention(), random: &random)
      let x = Tensor.random([40, 13, 12], seed: 7)
      // Attended values that another merge gives.
      var other = parameters
      other[5] = .random([2, 6, 12], seed: 11, scale: 3)
      other[6] = .random([12], seed: 12)
      let context = try merged(layout, other, x)
      let target = Tensor(.f32, shape: [40, 13, 12], values: context)
      let found = try #require(try fitted(layout, parameters, x, target))
      func error(_ values: [Double]) -> Double {
        zip(values, context).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      }
      let (before, after) = (error(try merged(layout, parameters, x)), error(try merged(layout, found, x)))
      #expect(after < 0.02 * before, "\(placement)")
      let pieces = try #require(try fitted(layout, parameters, x, target, parts: 4))
      #expect(try relativeDifference(pieces[5], found[5]) < 1e-6)
      let threads = try #require(
        try fitted(layout, parameters, x, target, parts: 4, pool: ThreadPool(threads: 3)))
      #expect(try relativeDifference(pieces[5], threads[5]) == 0)
    }
  }

  @Test("a merge that is best already stays")
  func fixedPoint() throws {
    let layout = try layout()
    var random = SplitMix(seed: 2)
    let parameters = try LSTMFull(layout).initialise(layout, from: attention(), random: &random)
    let x = Tensor.random([20, 13, 12], seed: 7)
    let target = Tensor(.f32, shape: [20, 13, 12], values: try merged(layout, parameters, x))
    let found = try #require(try fitted(layout, parameters, x, target))
    #expect(try relativeDifference(found[5], parameters[5]) < 1e-4)
    #expect(try found[6].doubles().allSatisfy { abs($0) < 1e-5 })
  }

  @Test("rows of the prefix count as much as the patches, or not at all where something else writes them")
  func rowWeights() throws {
    var random = SplitMix(seed: 2)
    let parameters = try LSTMFull(layout()).initialise(layout(), from: attention(), random: &random)
    let x = Tensor.random([30, 13, 12], seed: 7)
    let context = try Tensor.random([30, 13, 12], seed: 9).doubles()
    let shifted = context.enumerated().map { $1 + ($0 / 12 % 13 == 0 ? 5 : 0) }
    func bias(_ values: [Double], ownsPrefix: Bool) throws -> [Double] {
      let layout = try layout(ownsPrefix: ownsPrefix)
      let found = try fitted(layout, parameters, x, Tensor(.f32, shape: [30, 13, 12], values: values))
      return try merged(layout, try #require(found), x)
    }
    let alone = try bias(context, ownsPrefix: false)
    #expect(try bias(shifted, ownsPrefix: false) == alone)
    // Half of all weight asks for 5 more: the mean of the weighted results follows.
    let (a, b) = (try bias(context, ownsPrefix: true), try bias(shifted, ownsPrefix: true))
    var moved = 0.0
    for index in a.indices { moved += (b[index] - a[index]) * (index / 12 % 13 == 0 ? 12 : 1) }
    #expect(abs(moved / Double(30 * 24 * 12) - 2.5) < 0.01)
  }

  @Test(
    "nothing is fitted where the attended values have another width, or there are none; misfits are refused")
  func nothingToFit() throws {
    let layout = try layout()
    var random = SplitMix(seed: 2)
    let parameters = try LSTMFull(layout).initialise(layout, from: attention(), random: &random)
    let x = Tensor.random([2, 13, 12], seed: 7)
    #expect(try fitted(layout, parameters, x, .random([2, 13, 18], seed: 1)) == nil)
    #expect(try fitted(layout, parameters, x, .random([2, 13, 12], seed: 1), parts: 0) == nil)
    #expect(throws: VitError.self) { try fitted(layout, parameters, x, .random([2, 12, 12], seed: 1)) }
    #expect(throws: VitError.self) { try LSTMFull(layout).fit(layout, Array(parameters.dropLast())) }
    // Attended values that are not finite leave the merge as it is.
    let endless = Tensor(.f32, shape: [2, 13, 12], values: [Double](repeating: .infinity, count: 312))
    #expect(try fitted(layout, parameters, x, endless) == nil)
  }

  @Test("layer-wise distillation leaves the output map alone, which is the readout")
  func frozen() throws {
    let mixer = LSTMFull(try layout())
    let readout = try #require(mixer.readout)
    #expect(mixer.frozen == [readout.weight, readout.bias])
    #expect(LSTM(try narrowLayout()).frozen.isEmpty)
  }

  @Test("parameters and operations are those of the table in Mixers.md")
  func cost() throws {
    for (pattern, g) in [(ScanOrder.Pattern.forward, 1), (.bidirectional, 2), (.cross, 4)] {
      let (t, d, w, h) = (197, 192, 64, 3)
      let layout = try layout(
        dim: d, width: d, heads: h, outputDim: d, pattern: pattern, rows: 14, columns: 14)
      let mixer = LSTMFull(layout)
      let shapes = mixer.parameters(layout).map(\.shape)
      #expect(
        shapes.reduce(0) { $0 + $1.reduce(1, *) } == 2 * d * d + 9 * g * d * w + (2 + 4 * g) * d + d)
      let operands = Operands(
        [TensorType(.f32, fixed: [1, t, d])] + shapes.map { TensorType(.f32, fixed: $0) })
      #expect(
        mixer.cost(operands, try mixer.resultTypes(operands)).flops
          == t * (4 * d * d + 18 * g * d * w + 12 * g * d))
    }
  }

  @Test("single precision keeps up with double over many tokens", arguments: [7, 197, 577])
  func singlePrecision(_ tokens: Int) throws {
    let layout = try layout(dim: 32, width: 32, heads: 4, outputDim: 32, rows: 1, columns: tokens - 1)
    let mixer = LSTMFull(layout)
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

  @Test("work that is cut into many tasks gives the same bits on one thread and three")
  func sameBitsWhenCut() throws {
    let pool = ThreadPool(threads: 3)
    for pattern in ScanOrder.Pattern.allCases {
      let layout = try layout(
        dim: 72, width: 120, heads: 3, outputDim: 80, pattern: pattern, rows: 5, columns: 7,
        placement: .double)
      let mixer = LSTMFull(layout)
      var random = SplitMix(seed: 7)
      let operands =
        [Tensor.random([9, 36, 72], seed: 2)] + (try mixer.initialise(layout, from: nil, random: &random))
      let test = OpCase(mixer, inputs: operands, constantOperands: Set(1..<operands.count))
      #expect(try relativeDifference(test.run()[0], test.run(pool: pool)[0]) == 0)
      let upstream = Tensor.random([9, 36, 80], seed: 3)
      let alone = try operandGradients(
        of: mixer, operands, upstream: upstream, element: .f32, pool: SerialPool())
      let together = try operandGradients(of: mixer, operands, upstream: upstream, element: .f32, pool: pool)
      for case let (a?, b?) in zip(alone, together) { #expect(try relativeDifference(a, b) == 0) }
    }
  }

  @Test("operands that do not fit are refused")
  func refusals() throws {
    let layout = try layout()
    let mixer = LSTMFull(layout)
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
    for wrong in [[1, 14, 12], [1, 13, 11], [13, 12]] {
      #expect(throws: VitError.self) { try types(TensorType(.f32, fixed: wrong)) }
    }
    #expect(throws: VitError.self) { try types(TensorType(.f64, [1, 13, 12])) }
    for index in 1...tensors.count {
      #expect(throws: VitError.self) { try types(x, changing: index) }
      #expect(throws: VitError.self) { try types(x, changing: index, to: TensorType(.f32, [7])) }
      #expect(throws: VitError.self) { try types(x, changing: index, to: TensorType(.f32, [])) }
    }
    for (name, value) in [("heads", Attribute.int(5)), ("heads", .int(0)), ("order", .string("spiral"))] {
      var attributes = mixer.attributes
      attributes[name] = value
      // Five heads are legal, but do not divide the width.
      #expect(throws: VitError.self) {
        let made = try Registry.standard.make("vit.lstm_full", attributes)
        _ = try made.resultTypes(Operands([x] + tensors.map(\.type)))
      }
    }
  }
}
