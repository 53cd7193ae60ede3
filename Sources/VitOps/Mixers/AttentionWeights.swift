internal import Glibc
public import VitIR

/// The weights of an attention layer and what calibration found out about it: what a mixer can be initialised
/// from.
public struct AttentionWeights: Sendable {
  /// Queries, `[heads * headDim, dim]`.
  public var wq: Tensor
  /// Keys, `[kvHeads * headDim, dim]`.
  public var wk: Tensor
  /// Values, `[kvHeads * valueDim, dim]`.
  public var wv: Tensor
  /// Output, `[outputDim, heads * valueDim]`.
  public var wo: Tensor
  /// The bias of the queries.
  public var bq: Tensor?
  /// The bias of the keys.
  public var bk: Tensor?
  /// The bias of the values.
  public var bv: Tensor?
  /// The bias of the output.
  public var bo: Tensor?
  /// The number of query heads.
  public var heads: Int
  /// The number of key and value heads; divides `heads`.
  public var kvHeads: Int
  /// The mean distance, in steps of a scan, from a query to the keys that come no later:
  /// `lag[direction][head]`, for the directions of the mixer's order. Empty where it was not measured.
  public var lag: [[Double]]

  /// Weights.
  public init(
    wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, bq: Tensor? = nil, bk: Tensor? = nil, bv: Tensor? = nil,
    bo: Tensor? = nil, heads: Int, kvHeads: Int? = nil, lag: [[Double]] = []
  ) {
    self.wq = wq
    self.wk = wk
    self.wv = wv
    self.wo = wo
    self.bq = bq
    self.bk = bk
    self.bv = bv
    self.bo = bo
    self.heads = heads
    self.kvHeads = kvHeads ?? heads
    self.lag = lag
  }

  /// The channels of a query or key head.
  public var headDim: Int { wq.shape[0] / max(heads, 1) }

  /// The channels of a value head.
  public var valueDim: Int { wv.shape[0] / max(kvHeads, 1) }
}

/// Which of the teacher's value channels each inner channel of a mixer takes over, with the rows and columns
/// that go with it (Mixers.md §2).
///
/// All channels in order where the widths agree. A narrower mixer takes the heads whose part of the output is
/// largest, and of the last of them as many channels as fit; a wider one has channels left over, which have
/// no source.
struct InheritedChannels {
  /// One inner channel.
  struct Channel {
    /// The teacher's head.
    let head: Int
    /// Its place among the channels of all heads, as the attention's output map has them.
    let source: Int
    /// The row of `wv` for the channel, and its bias.
    let value: [Double]
    let valueBias: Double
    /// The column of `wo`.
    let output: [Double]
    /// The root mean square of the head's values, for tokens of unit variance.
    let rms: Double
    /// The timescale of the channel, in steps; where every head is scanned in all directions, that of the first.
    let timescale: Double
  }

  /// For each inner channel its source, or `nil`.
  let channels: [Channel?]
  /// The bias of the output.
  let outputBias: [Double]
  private let scales: Timescales
  private let lag: [[Double]]

  init(_ layout: MixerLayout, _ attention: AttentionWeights) throws {
    let (dim, outputDim) = (layout.dim, layout.outputDim)
    let (heads, groups) = (attention.heads, attention.kvHeads)
    guard heads > 0, groups > 0, heads % groups == 0, attention.wv.shape.count == 2,
      attention.wo.shape.count == 2,
      attention.wv.shape[1] == dim, attention.wv.shape[0] % groups == 0, attention.wo.shape[0] == outputDim,
      attention.wo.shape[1] == heads * attention.valueDim,
      attention.bv.map({ $0.shape == [attention.wv.shape[0]] }) ?? true,
      attention.bo.map({ $0.shape == [outputDim] }) ?? true,
      attention.lag.isEmpty
        || (attention.lag.count == layout.order.directionCount
          && attention.lag.allSatisfy { $0.count == heads })
    else {
      throw VitError(
        "attention with \(heads) heads over \(groups) groups, values \(attention.wv.shape) and"
          + " output \(attention.wo.shape) does not fit a mixer from \(dim) to \(outputDim) channels",
        code: "mixer-init")
    }
    let wv = try attention.wv.doubles()
    let wo = try attention.wo.doubles()
    let bv = try attention.bv?.doubles() ?? [Double](repeating: 0, count: attention.wv.shape[0])
    outputBias = try attention.bo?.doubles() ?? [Double](repeating: 0, count: outputDim)
    let (headWidth, total) = (attention.valueDim, attention.wo.shape[1])
    func row(_ channel: Int) -> Int {
      channel / headWidth / (heads / groups) * headWidth + channel % headWidth
    }
    func values(_ channel: Int) -> ArraySlice<Double> { wv[row(channel) * dim..<(row(channel) + 1) * dim] }
    func output(_ channel: Int) -> [Double] { (0..<outputDim).map { wo[$0 * total + channel] } }
    func squares<Numbers: Sequence<Double>>(_ numbers: Numbers) -> Double {
      numbers.reduce(0) { $0 + $1 * $1 }
    }

    // The root mean square of a head's values, for tokens of unit variance.
    let rms = (0..<heads).map { head -> Double in
      let sum = (head * headWidth..<(head + 1) * headWidth).reduce(0.0) {
        $0 + squares(values($1)) + bv[row($1)] * bv[row($1)]
      }
      return max((sum / Double(max(headWidth, 1))).squareRoot(), 1e-6)
    }
    let weight = (0..<heads).map { head in
      (head * headWidth..<(head + 1) * headWidth).reduce(0.0) { $0 + squares(output($1)) }.squareRoot()
        * rms[head]
    }
    let ranked = (0..<heads).sorted { weight[$0] == weight[$1] ? $0 < $1 : weight[$0] > weight[$1] }
    let kept = ranked.prefix((layout.width + headWidth - 1) / max(headWidth, 1))
    var sources: [Int] = []
    for (place, head) in kept.enumerated() {
      sources += (head * headWidth..<(head + 1) * headWidth).prefix(layout.width - place * headWidth)
    }
    sources.sort()

    let scales = Timescales(layout)
    self.scales = scales
    lag = attention.lag
    channels = (0..<layout.width).map { channel in
      guard channel < sources.count else { return nil }
      let source = sources[channel]
      let head = source / headWidth
      let direction = layout.splitsHeads ? layout.direction(ofHead: channel / layout.headWidth) : 0
      return Channel(
        head: head, source: source, value: Array(values(source)), valueBias: bv[row(source)],
        output: output(source), rms: rms[head],
        timescale: InheritedChannels.timescale(attention.lag, scales, head, channel, direction: direction))
    }
  }

  /// The timescale of inner channel `index` in a direction, in steps; `nil` where it has no source.
  func timescale(_ index: Int, direction: Int) -> Double? {
    channels[index].map {
      InheritedChannels.timescale(lag, scales, $0.head, index, direction: direction)
    }
  }

  private static func timescale(
    _ lag: [[Double]], _ scales: Timescales, _ head: Int, _ channel: Int, direction: Int
  ) -> Double {
    let lag = lag.isEmpty ? nil : lag[direction][head]
    return scales.spread(lag.flatMap { $0.isFinite ? 1 + $0 : nil } ?? scales.middle, channel: channel)
  }
}

/// How long channels remember, in steps: between 1.2 and the number of tokens (Mixers.md §2).
struct Timescales {
  private let headWidth: Int
  private let longest: Double

  init(_ layout: MixerLayout) {
    headWidth = layout.headWidth
    longest = max(Timescales.shortest, Double(layout.tokens))
  }

  /// The shortest.
  static let shortest = 1.2

  /// The timescale nearest to `value` that there is.
  func clamped(_ value: Double) -> Double { min(max(value, Timescales.shortest), longest) }

  /// The one in the geometric middle.
  var middle: Double { (Timescales.shortest * longest).squareRoot() }

  /// The timescale of a channel of a head whose own is `timescale`: from a third of it to three times,
  /// geometrically.
  func spread(_ timescale: Double, channel: Int) -> Double {
    let centre = clamped(timescale)
    guard headWidth > 1 else { return centre }
    let place = Double(channel % headWidth) / Double(headWidth - 1)
    return clamped(centre * pow(3, 2 * place - 1))
  }

  /// A timescale at random, uniform in its logarithm.
  func random(_ random: inout SplitMix) -> Double {
    Timescales.shortest * pow(longest / Timescales.shortest, random.uniform())
  }

  /// The number whose logistic is the decay of a timescale: σ(x) = 1 − 1/τ.
  static func decayLogit(_ timescale: Double) -> Double { log(timescale - 1) }

  /// σ(x).
  static func logistic(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
}
