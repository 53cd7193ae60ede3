internal import Glibc
public import VitIR
internal import VitRuntime

extension SSD {
  /// From attention: its values, and keys and queries whose products are `1 + s` for its scores `s`, the first order of the
  /// softmax's eˢ; a convolution that changes nothing, decays of each head's reach, open gates, its output map. With fewer
  /// channels for keys than the attention has, those that keep most of the scores; with an activation behind the
  /// convolution its keys and queries as they are. Else at random, with decays of all timescales.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    let start = try SSDStart(self, layout, attention)
    let (dim, inner) = (layout.dim, copies * layout.width)
    var tensors = start.values(&random) + start.keysAndQueries(&random)
    tensors += [FirstValues.constant([heads, dim]), start.rates(&random)]
    if form.isGated {
      tensors += [FirstValues.constant([inner, dim]), FirstValues.constant([inner], FirstValues.openGate)]
    }
    if form.taps > 0 {
      let channels = inner + 2 * keyWidth
      tensors.append(start.taps(channels, &random))
      tensors.append(FirstValues.constant([channels]))
    }
    if form.write == .delta { tensors.append(FirstValues.constant([heads])) }
    if form.hasSkip { tensors.append(FirstValues.constant([heads], attention == nil ? 1 : 0)) }
    if form.norm != .none { tensors.append(FirstValues.constant([inner], 1)) }
    if form.directions == .full { tensors += [start.merge(), FirstValues.constant([layout.width])] }
    return tensors + start.output(&random)
  }
}

/// First values of a state space mixer.
private struct SSDStart {
  private let mixer: SSD
  private let layout: MixerLayout
  private let attention: AttentionWeights?
  private let inherited: InheritedChannels?
  private let scales: Timescales
  /// The timescale of each head that is scanned, in steps; `nil` where it has no source.
  private let reach: [Double?]

  init(_ mixer: SSD, _ layout: MixerLayout, _ attention: AttentionWeights?) throws {
    self.mixer = mixer
    self.layout = layout
    self.attention = attention
    let scales = Timescales(layout)
    self.scales = scales
    let inherited = try attention.map { try InheritedChannels(layout, $0) }
    self.inherited = inherited
    if let attention {
      guard attention.headDim > 0, attention.wq.shape == [attention.heads * attention.headDim, layout.dim],
        attention.wk.shape == [attention.kvHeads * attention.headDim, layout.dim],
        attention.bq.map({ $0.shape == [attention.wq.shape[0]] }) ?? true
      else {
        throw VitError(
          "attention with queries \(attention.wq.shape) and keys \(attention.wk.shape) does not fit a mixer of"
            + " \(layout.dim) channels", code: "mixer-init")
      }
    }
    reach = (0..<mixer.heads).map { scanned in
      let head = scanned % layout.heads
      guard let attention, let source = inherited?.channels[head * layout.headWidth]?.head else { return nil }
      let direction = mixer.copies > 1 ? scanned / layout.heads : layout.direction(ofHead: head)
      let lag = attention.lag.isEmpty ? nil : attention.lag[direction][source]
      return scales.clamped(lag.flatMap { $0.isFinite ? 1 + $0 : nil } ?? scales.middle)
    }
  }

  /// The same for each direction, where each has all channels.
  private func repeated(_ values: [Double], _ shape: [Int]) -> Tensor {
    let all = (0..<mixer.copies).flatMap { _ in values }
    return Tensor(.f32, shape: [shape[0] * mixer.copies] + shape.dropFirst(), values: all)
  }

  func values(_ random: inout SplitMix) -> [Tensor] {
    let (dim, width) = (layout.dim, layout.width)
    var weight = (0..<width * dim).map { _ in random.normal() / Double(dim).squareRoot() }
    var bias = [Double](repeating: 0, count: width)
    for index in 0..<width {
      guard let channel = inherited?.channels[index] else { continue }
      weight.replaceSubrange(index * dim..<(index + 1) * dim, with: channel.value)
      bias[index] = channel.valueBias
    }
    return [repeated(weight, [width, dim]), repeated(bias, [width])]
  }

  /// The attention's heads whose values the heads of a group have, each once.
  private func sources(ofGroup group: Int) -> [Int] {
    var found: [Int] = []
    for head in 0..<layout.heads where head * mixer.groups / layout.heads == group {
      for channel in head * layout.headWidth..<(head + 1) * layout.headWidth {
        guard let source = inherited?.channels[channel]?.head, !found.contains(source) else { continue }
        found.append(source)
      }
    }
    return found
  }

  func keysAndQueries(_ random: inout SplitMix) -> [Tensor] {
    let (dim, state) = (layout.dim, mixer.state)
    var (keys, queries) = (Features(dim), Features(dim))
    // Products of unit variance.
    let deviation = (1 / Double(dim)).squareRoot() / Double(state).squareRoot().squareRoot()
    for group in 0..<mixer.groups {
      let first = keys.bias.count
      let sources = sources(ofGroup: group)
      if let attention, let maps = ScoreMaps(attention, sources) {
        let isExact = sources.count == 1 && mixer.form.activation == .none
        if isExact {
          keys.append(Features.constant(dim), scale: 1)
          queries.append(Features.constant(dim), scale: 1 / mixer.scale)
        }
        let (k, q) = isExact ? maps.reduced(to: state - 1) : maps.spread(over: state)
        keys.append(k, scale: 1)
        queries.append(q, scale: 1 / mixer.scale)
      }
      // What is left: nothing at first, but with a gradient.
      let isAlone = keys.bias.count == first
      while keys.bias.count < first + state {
        keys.append((0..<dim).map { _ in random.normal() * (isAlone ? deviation : 0) }, 0)
        queries.append((0..<dim).map { _ in random.normal() * deviation / mixer.scale }, 0)
      }
    }
    return [
      repeated(keys.weight, [mixer.groups * state, dim]), repeated(keys.bias, [mixer.groups * state]),
      repeated(queries.weight, [mixer.groups * state, dim]), repeated(queries.bias, [mixer.groups * state]),
    ]
  }

  /// Rates that give each head's decay.
  func rates(_ random: inout SplitMix) -> Tensor {
    let bias = reach.map { reach -> Double in
      let kept = 1 - 1 / (reach ?? scales.random(&random))
      if mixer.form.write == .delta { return log(expm1(-log(kept))) }
      let share = pow(kept, SSDShape.normaliser)
      return log(share / (1 - share))
    }
    return Tensor(.f32, shape: [mixer.heads], values: bias)
  }

  /// Taps that change nothing, or random ones in front of an activation, behind which nothing can stay as it was.
  func taps(_ channels: Int, _ random: inout SplitMix) -> Tensor {
    let count = mixer.form.taps
    if mixer.form.activation != .none {
      return FirstValues.uniform([channels, count], bound: 1 / Double(count).squareRoot(), &random)
    }
    return Tensor(
      .f32, shape: [channels, count], values: (0..<channels * count).map { $0 % count == count - 1 ? 1 : 0 })
  }

  /// What makes a mean of a decayed sum: where values are written whole and nothing normalises them later.
  private func share(_ head: Int) -> Double {
    guard mixer.form.write == .one, mixer.form.norm == .none, let reach = reach[head] else { return 1 }
    return 1 / reach
  }

  /// The mean of the directions.
  func merge() -> Tensor {
    let (heads, width, copies) = (layout.heads, layout.headWidth, mixer.copies)
    var values = [Double](repeating: 0, count: heads * width * copies * width)
    for head in 0..<heads {
      for copy in 0..<copies {
        let factor = share(copy * heads + head) / Double(copies)
        for index in 0..<width { values[((head * width + index) * copies + copy) * width + index] = factor }
      }
    }
    return Tensor(.f32, shape: [heads, width, copies * width], values: values)
  }

  func output(_ random: inout SplitMix) -> [Tensor] {
    let (rows, width) = (layout.outputDim, layout.width)
    let bound = FirstValues.timidOutput / Double(width).squareRoot()
    var weight = (0..<rows * width).map { _ in (2 * random.uniform() - 1) * bound }
    for column in 0..<width {
      guard let channel = inherited?.channels[column] else { continue }
      let factor = mixer.copies > 1 ? 1 : share(column / layout.headWidth)
      for row in 0..<rows { weight[row * width + column] = channel.output[row] * factor }
    }
    return [Tensor(.f32, shape: [rows, width], values: weight), FirstValues.outputBias(layout, inherited)]
  }
}

/// Rows of a linear map with their biases.
struct Features {
  private let dim: Int
  private(set) var weight: [Double] = []
  private(set) var bias: [Double] = []

  init(_ dim: Int) { self.dim = dim }

  /// One that is 1 for every token.
  static func constant(_ dim: Int) -> Features {
    var result = Features(dim)
    result.append([Double](repeating: 0, count: dim), 1)
    return result
  }

  var count: Int { bias.count }

  func row(_ index: Int) -> ArraySlice<Double> { weight[index * dim..<(index + 1) * dim] }

  mutating func append(_ row: some Sequence<Double>, _ bias: Double) {
    weight.append(contentsOf: row)
    self.bias.append(bias)
  }

  mutating func append(_ other: Features, scale: Double) {
    weight.append(contentsOf: other.weight.map { $0 * scale })
    bias.append(contentsOf: other.bias.map { $0 * scale })
  }
}

/// The queries, already scaled, and keys of some of an attention's heads. A bias of the keys is left out: it changes no
/// softmax.
struct ScoreMaps {
  private let dim: Int
  private let keys: [Features]
  private let queries: [Features]

  /// The maps of these heads; `nil` where there are none, or their numbers cannot be read.
  init?(_ attention: AttentionWeights, _ heads: [Int]) {
    guard !heads.isEmpty, let wq = try? attention.wq.doubles(), let wk = try? attention.wk.doubles() else {
      return nil
    }
    let (width, dim) = (attention.headDim, attention.wq.shape[1])
    let bq = (try? attention.bq?.doubles()) ?? [Double](repeating: 0, count: attention.wq.shape[0])
    let scale = 1 / Double(width).squareRoot()
    self.dim = dim
    queries = heads.map { head in
      var rows = Features(dim)
      for row in head * width..<(head + 1) * width {
        rows.append(wq[row * dim..<(row + 1) * dim].map { $0 * scale }, bq[row] * scale)
      }
      return rows
    }
    keys = heads.map { head in
      let group = head / (attention.heads / attention.kvHeads)
      var rows = Features(dim)
      for row in group * width..<(group + 1) * width { rows.append(wk[row * dim..<(row + 1) * dim], 0) }
      return rows
    }
  }

  /// As many channels as they are asked for, taken from all heads in turn.
  func spread(over count: Int) -> (keys: Features, queries: Features) {
    var (k, q) = (Features(dim), Features(dim))
    let width = keys[0].count
    for index in 0..<min(count, width * keys.count) {
      let (head, row) = (index % keys.count, index / keys.count)
      k.append(keys[head].row(row), keys[head].bias[row])
      q.append(queries[head].row(row), queries[head].bias[row])
    }
    return (k, q)
  }

  /// The first head's channels; where they are more than `rank`, so many of their combinations that the scores of tokens
  /// with independent channels of unit variance change least.
  ///
  /// With W_K W_Kᵀ = E Λ Eᵀ, L = E Λ^(1/2) and Lᵀ W_Q W_Qᵀ L = Y Σ² Yᵀ the singular values of W_Qᵀ W_K are Σ, and W_Q′ = Σ^(−1/2) Yᵀ Lᵀ W_Q
  /// and W_K′ = Σ^(1/2) Yᵀ L⁻¹ W_K give the product of least rank that is nearest to it.
  func reduced(to rank: Int) -> (keys: Features, queries: Features) {
    let (k, q) = (keys[0], queries[0])
    let width = k.count
    guard rank < width else { return (k, q) }
    func gram(_ rows: Features, biased: Bool) -> [Double] {
      (0..<width * width).map { index in
        let (i, j) = (index / width, index % width)
        let product = zip(rows.row(i), rows.row(j)).reduce(0.0) { $0 + $1.0 * $1.1 }
        return product + (biased ? rows.bias[i] * rows.bias[j] : 0)
      }
    }
    let (spread, axes) = SymmetricMatrix.eigen(gram(k, biased: false), width)
    let roots = spread.map { $0.squareRoot() }
    let left = axes.indices.map { axes[$0] * roots[$0 % width] }
    let inner = gram(q, biased: true)
    // Lᵀ G L.
    var (right, both) = (
      [Double](repeating: 0, count: width * width), [Double](repeating: 0, count: width * width)
    )
    for i in 0..<width {
      for m in 0..<width {
        for j in 0..<width { right[i * width + j] += inner[i * width + m] * left[m * width + j] }
      }
    }
    for m in 0..<width {
      for i in 0..<width {
        for j in 0..<width { both[i * width + j] += left[m * width + i] * right[m * width + j] }
      }
    }
    let (squares, vectors) = SymmetricMatrix.eigen(both, width)
    var (reducedKeys, reducedQueries) = (Features(dim), Features(dim))
    for index in 0..<rank {
      let value = squares[index].squareRoot().squareRoot()
      guard value > 1e-9 * max(1, squares[0].squareRoot().squareRoot()) else { break }
      let y = (0..<width).map { vectors[$0 * width + index] }
      // L y for the queries, and for the keys E Λ^(−1/2) y, where keys have such an axis at all.
      var (forQueries, forKeys) = ([Double](repeating: 0, count: width), [Double](repeating: 0, count: width))
      for i in 0..<width {
        for j in 0..<width where roots[j] > 1e-7 * roots[0] {
          forQueries[i] += left[i * width + j] * y[j]
          forKeys[i] += axes[i * width + j] * y[j] / roots[j]
        }
      }
      func combined(_ rows: Features, _ factors: [Double], _ scale: Double) -> (row: [Double], bias: Double) {
        var (row, bias) = ([Double](repeating: 0, count: dim), 0.0)
        for (place, factor) in factors.enumerated() {
          for (column, value) in rows.row(place).enumerated() { row[column] += scale * factor * value }
          bias += scale * factor * rows.bias[place]
        }
        return (row, bias)
      }
      let (key, query) = (combined(k, forKeys, value), combined(q, forQueries, 1 / value))
      reducedKeys.append(key.row, key.bias)
      reducedQueries.append(query.row, query.bias)
    }
    return (reducedKeys, reducedQueries)
  }
}
