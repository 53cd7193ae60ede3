import Foundation
import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

@Suite("state space mixers")
struct SSDTests {
  static let kinds = ["mamba", "retention", "ssd"]

  private func layout(
    dim: Int = 12, width: Int = 12, heads: Int = 2, pattern: ScanOrder.Pattern = .bidirectional,
    rows: Int = 3,
    columns: Int = 4, ownsPrefix: Bool = true
  ) throws -> MixerLayout {
    try MixerLayout(
      dim: dim, outputDim: dim, width: width, heads: heads,
      order: ScanOrder(pattern, grid: .init(rows: rows, columns: columns), prefix: 1), ownsPrefix: ownsPrefix)
  }

  private func make(_ kind: String, _ layout: MixerLayout, _ options: KeyValuePairs<String, Attribute> = [:])
    throws
    -> any Mixer
  {
    try Mixers.named(kind).make(layout, Attributes(options.map { ($0.key, $0.value) }))
  }

  /// Attention of two heads of six channels.
  private func attention(lag: [[Double]] = []) -> AttentionWeights {
    AttentionWeights(
      wq: .random([12, 12], seed: 1, scale: 0.4), wk: .random([12, 12], seed: 2, scale: 0.4),
      wv: .random([12, 12], seed: 3, scale: 0.3), wo: .random([12, 12], seed: 4, scale: 0.3),
      bq: .random([12], seed: 5), bk: .random([12], seed: 6), bv: .random([12], seed: 7),
      bo: .random([12], seed: 8),
      heads: 2, lag: lag)
  }

  private func operand(_ mixer: any Mixer, _ layout: MixerLayout, _ name: String) throws -> Int {
    try #require(mixer.parameters(layout).firstIndex { $0.name == name })
  }

  private func run(_ mixer: any Mixer, _ parameters: [Tensor], _ x: Tensor) throws -> [Double] {
    try OpCase(mixer, inputs: [x] + parameters).run()[0].doubles()
  }

  @Test("each kind has the form of its paper")
  func kindsDiffer() throws {
    let layout = try layout(dim: 16, width: 16, heads: 4)
    func names(_ kind: String, _ options: KeyValuePairs<String, Attribute> = [:]) throws -> [String] {
      try make(kind, layout, options).parameters(layout).map(\.name)
    }
    let maps = ["wv", "bv", "wk", "bk", "wq", "bq", "wd", "bd"]
    #expect(try names("ssd") == maps + ["taps", "btaps", "skip", "wo", "bo"])
    #expect(try names("retention") == maps + ["norm", "wo", "bo"])
    #expect(
      try names("mamba")
        == maps + ["wz", "bz", "taps", "btaps", "a", "skip", "norm", "m", "bm", "wo", "bo"])
    func keys(_ kind: String) throws -> Int {
      let mixer = try make(kind, layout)
      return mixer.parameters(layout)[try operand(mixer, layout, "wk")].shape[0]
    }
    // Half a head's channels for each of four; as many as it has; 256 for each of two directions.
    #expect(try (keys("ssd"), keys("retention"), keys("mamba")) == (8, 16, 512))
    #expect(try make("ssd", layout).values == MixerReadout(weight: 1, bias: 2))
    #expect(try make("ssd", layout, ["gate": .bool(true)]).values == nil)
    #expect(try make("mamba", layout).values == nil && make("retention", layout).values == nil)
    for kind in Self.kinds { #expect(try make(kind, layout).kind == kind) }
    // Three heads cannot be shared by two directions, but each may have all three.
    #expect(throws: VitError.self) { try self.layout(heads: 3) }
    let odd = try MixerLayout(
      dim: 12, outputDim: 12, width: 12, heads: 3, order: layout.order, splitsHeads: false)
    #expect(throws: VitError.self) { try make("ssd", odd) }
    let mixer = try make("mamba", odd)
    var random = SplitMix(seed: 1)
    let parameters = try mixer.initialise(odd, from: nil, random: &random)
    let again = try Registry.standard.make("vit.ssd", mixer.attributes)
    let y = try OpCase(again, inputs: [Tensor.random([1, 13, 12], seed: 2)] + parameters).run()
    #expect(y[0].shape == [1, 13, 12])
  }

  @Test(
    "options that make no sense are refused with those that do",
    arguments: [
      ("groups", Attribute.int(3), "groups=3 does not divide 4 heads"),
      ("groups", .int(1), "groups=1 cannot be shared evenly by 2 directions that split the heads"),
      ("groups", .int(0), "'groups' is 0, expected at least one"),
      ("state", .int(0), "'state' is 0, expected 1 to 4096 channels"),
      ("state", .int(1 << 40), "expected 1 to 4096 channels"),
      ("conv", .int(17), "'conv' is 17, expected 0 to 16 taps"),
      ("conv", .int(-1), "expected 0 to 16 taps"), ("act", .string("relu"), "silu"),
      ("write", .string("two"), "delta"), ("norm", .string("layer"), "head"),
      ("form", .string("half"), "full"),
      (
        "taps", .int(3),
        "its options are 'state', 'groups', 'conv', 'act', 'write', 'norm', 'gate', 'skip', 'form'"
      ),
    ])
  func refusals(_ name: String, _ value: Attribute, _ text: String) throws {
    let layout = try layout(width: 12, heads: 4)
    let error = #expect(throws: VitError.self) { try make("ssd", layout, [name: value]) }
    #expect(error?.kind == .usage)
    #expect(
      error.map { ($0.diagnostic.message + ($0.diagnostic.help ?? "")).contains(text) } == true,
      "\(error as Any)")
  }

  @Test("attributes that make no sense are refused, whatever they are")
  func badAttributes() throws {
    let mixer = try make("mamba", layout())
    for (name, value) in [
      ("kind", Attribute.string("s4")), ("state", .int(-1)), ("groups", .int(5)), ("conv", .int(99)),
      ("heads", .int(0)),
    ] {
      var attributes = mixer.attributes
      attributes[name] = value
      #expect(throws: VitError.self) { try Registry.standard.make("vit.ssd", attributes) }
    }
    var attributes = mixer.attributes
    attributes["state"] = nil
    #expect(throws: VitError.self) { try Registry.standard.make("vit.ssd", attributes) }
  }

  @Test("with one more key channel than the attention has, a value's weight is 1 + its score, decayed")
  func startsAsFirstOrder() throws {
    let layout = try layout(pattern: .bidirectional)
    let attention = attention(lag: [[2, 5], [1, 3]])
    var random = SplitMix(seed: 1)
    let mixer = try make("ssd", layout, ["state": .int(7)])
    let x = Tensor.random([1, 13, 12], seed: 9)
    let y = try run(mixer, mixer.initialise(layout, from: attention, random: &random), x)
    func map(_ weight: Tensor, _ bias: Tensor?, _ token: Int, _ row: Int) throws -> Double {
      let (w, b, x) = (try weight.doubles(), try bias?.doubles(), try x.doubles())
      return (b?[row] ?? 0) + (0..<12).reduce(0) { $0 + w[row * 12 + $1] * x[token * 12 + $1] }
    }
    let (wo, bo) = (try attention.wo.doubles(), try #require(attention.bo).doubles())
    var expected = (0..<13 * 12).map { bo[$0 % 12] }
    for head in 0..<2 {
      let reach = 1 + attention.lag[head][head]
      let order = layout.order.directions[head].indices
      for (step, token) in order.enumerated() {
        for (earlier, source) in order[...step].enumerated() {
          var score = 0.0
          for row in head * 6..<(head + 1) * 6 {
            score += try map(attention.wq, attention.bq, token, row) * map(attention.wk, nil, source, row)
          }
          let weight = pow(1 - 1 / reach, Double(step - earlier)) * (1 + score / 6.squareRoot()) / reach
          for channel in head * 6..<(head + 1) * 6 {
            let value = try map(attention.wv, attention.bv, source, channel)
            for row in 0..<12 { expected[token * 12 + row] += wo[row * 12 + channel] * weight * value }
          }
        }
      }
    }
    let size = expected.reduce(0) { max($0, abs($1)) }
    for (a, b) in zip(y, expected) { #expect(abs(a - b) < 1e-5 * size) }
  }

  @Test("fewer key channels keep the scores' largest directions")
  func reducedScores() throws {
    let layout = try layout(pattern: .forward)
    func product(_ state: Int) throws -> [Double] {
      let mixer = try make("ssd", layout, ["state": .int(state)])
      var random = SplitMix(seed: 1)
      let parameters = try mixer.initialise(layout, from: attention(), random: &random)
      let (k, q) = (try parameters[2].doubles(), try parameters[4].doubles())
      // Of the first head, without the constant.
      return (0..<144).map { place -> Double in
        let (row, column) = (place / 12, place % 12)
        var sum = 0.0
        for feature in 1..<state { sum += q[feature * 12 + row] * k[feature * 12 + column] }
        return sum
      }
    }
    func squares(_ numbers: [Double]) -> Double { numbers.reduce(0) { $0 + $1 * $1 } }
    let all = try product(7)
    var shares: [Double] = []
    for state in 2...6 {
      let kept = try product(state)
      // What is kept and what is lost are at right angles, up to what the bias of the queries turns.
      let lost = squares(zip(all, kept).map { $0 - $1 })
      #expect(abs(lost + squares(kept) - squares(all)) < 0.2 * squares(all))
      shares.append(lost)
    }
    #expect(shares == shares.sorted(by: >) && shares[4] < 0.1 * squares(all))
  }

  private func view(_ tensor: Tensor) throws -> View {
    let view = View(
      base: .allocate(byteCount: tensor.count * 4, alignment: 64), element: .f32, shape: tensor.shape)
    for (index, value) in try tensor.doubles().enumerated() { view.f32[index] = Float(value) }
    return view
  }

  @Test("the fit rids keys of their mean, and again gives the same")
  func centredKeys() throws {
    let layout = try layout()
    let mixer = try make("ssd", layout, ["state": .int(5)])
    var random = SplitMix(seed: 1)
    var parameters = try mixer.initialise(layout, from: attention(), random: &random)
    let batches = [Tensor.random([3, 13, 12], seed: 3), .random([2, 13, 12], seed: 4)]
    for _ in 0..<2 {
      var fit = try #require(try mixer.fit(layout, parameters))
      #expect(!fit.readsMaps)
      for batch in batches {
        let view = try view(batch)
        defer { view.base.deallocate() }
        try fit.add(FitBatch(x: view, context: view, pool: SerialPool()))
      }
      let found = fit.solve()
      #expect(found.map(\.operand) == [4])
      parameters[3] = found[0].tensor
      let (weight, bias, x) = (
        try parameters[2].doubles(), try parameters[3].doubles(), try batches.flatMap { try $0.doubles() }
      )
      for row in 0..<10 {
        var sum = 0.0
        for place in 0..<65 * 12 { sum += x[place] * weight[row * 12 + place % 12] }
        let mean: Double = sum / 65 + bias[row]
        #expect(abs(mean - (row % 5 == 0 ? 1 : 0)) < 1e-5)
      }
    }
    #expect(try make("mamba", layout, ["form": .string("split"), "groups": .int(2)]).fit(layout, []) == nil)
  }

  @Test("the fit finds the merge that gave what it is fitted to", arguments: [true, false])
  func mergeIsFitted(ownsPrefix: Bool) throws {
    let layout = try layout(ownsPrefix: ownsPrefix)
    for mixer in [
      try make("mamba", layout, ["state": .int(8)]),
      try make("ssd", layout, ["form": .string("full"), "conv": .int(0)]),
    ] {
      var random = SplitMix(seed: 1)
      var parameters = try mixer.initialise(layout, from: attention(), random: &random)
      let (m, bm) = (try operand(mixer, layout, "m"), try operand(mixer, layout, "bm"))
      let wo = try operand(mixer, layout, "wo")
      parameters[wo] = Tensor(.f32, shape: [12, 12], values: (0..<144).map { $0 % 13 == 0 ? 1 : 0 })
      parameters[wo + 1] = Tensor(.f32, shape: [12], values: [Double](repeating: 0, count: 12))
      let x = Tensor.random([8, 13, 12], seed: 5)
      let tokens = try view(x)
      defer { tokens.base.deallocate() }
      // The keys as the fit will have them.
      var first = try #require(try mixer.fit(layout, parameters))
      try first.add(FitBatch(x: tokens, context: tokens, pool: SerialPool()))
      for (operand, tensor) in first.solve() where operand == 4 { parameters[3] = tensor }
      let start = parameters
      parameters[m] = .random([2, 6, 12], seed: 6)
      parameters[bm] = .random([12], seed: 7)
      let wanted = try run(mixer, parameters, x)
      let context = try view(Tensor(.f32, shape: [8, 13, 12], values: wanted))
      defer { context.base.deallocate() }
      var results: [[[Double]]] = []
      for pool in [SerialPool(), ThreadPool(threads: 3)] as [any WorkPool] {
        var fit = try #require(try mixer.fit(layout, start))
        try fit.add(FitBatch(x: tokens, context: context, pool: pool))
        var fitted = start
        for (operand, tensor) in fit.solve() { fitted[operand - 1] = tensor }
        let found = try run(mixer, fitted, x)
        var (error, size) = (0.0, 0.0)
        for (a, b) in zip(found, wanted) {
          error += (a - b) * (a - b)
          size += b * b
        }
        #expect(error < 2e-3 * size)
        results.append(try fitted.map { try $0.doubles() })
      }
      #expect(results[0] == results[1])
    }
  }

  @Test("single precision keeps up with double over many tokens", arguments: kinds, [7, 197])
  func singlePrecision(_ kind: String, _ tokens: Int) throws {
    let layout = try MixerLayout(
      dim: 32, outputDim: 32, width: 32, heads: 4,
      order: ScanOrder(.bidirectional, grid: .init(rows: 1, columns: tokens - 1), prefix: 1))
    let mixer = try make(kind, layout, ["state": .int(16)])
    var random = SplitMix(seed: 7)
    let operands =
      [Tensor.random([2, tokens, 32], seed: 2)] + (try mixer.initialise(layout, from: nil, random: &random))
    let test = OpCase(mixer, inputs: operands)
    // A norm of little magnifies the rounding of what it divides.
    #expect(try relativeDifference(test.run()[0], test.inDouble.run()[0]) < 2e-4)
    let upstream = Tensor.random([2, tokens, 32], seed: 3)
    let single = try operandGradients(
      of: mixer, operands, upstream: upstream, element: .f32, pool: SerialPool())
    let double = try operandGradients(
      of: mixer, operands, upstream: upstream, element: .f64, pool: SerialPool())
    for (index, pair) in zip(single, double).enumerated() {
      guard case (let a?, let b?) = pair else { continue }
      #expect(try relativeDifference(a, b, floor: 1e-2) < 1e-3, "operand \(index)")
    }
  }

  @Test("work that is cut into many tasks gives the same bits on one thread and three", arguments: kinds)
  func sameBitsWhenCut(_ kind: String) throws {
    let pool = ThreadPool(threads: 3)
    for pattern in ScanOrder.Pattern.allCases {
      let layout = try MixerLayout(
        dim: 72, outputDim: 80, width: 136, heads: 4,
        order: ScanOrder(pattern, grid: .init(rows: 5, columns: 17), prefix: 1, placement: .double))
      let mixer = try make(kind, layout, ["state": .int(24)])
      var random = SplitMix(seed: 7)
      let operands =
        [Tensor.random([3, 86, 72], seed: 2)] + (try mixer.initialise(layout, from: nil, random: &random))
      let test = OpCase(mixer, inputs: operands, constantOperands: Set(1..<operands.count))
      #expect(try relativeDifference(test.run()[0], test.run(pool: pool)[0]) == 0)
      let upstream = Tensor.random([3, 86, 80], seed: 3)
      let alone = try operandGradients(
        of: mixer, operands, upstream: upstream, element: .f32, pool: SerialPool())
      let together = try operandGradients(of: mixer, operands, upstream: upstream, element: .f32, pool: pool)
      for case (let a?, let b?) in zip(alone, together) { #expect(try relativeDifference(a, b) == 0) }
    }
  }
}
