public import VitIR
internal import VitRuntime

/// `vit.ssd(x, wv, bv, wk, bk, wq, bq, wd, bd, wz?, bz?, taps?, btaps?, a?, skip?, norm?, m?, bm?, wo, bo)`: linear attention
/// whose state decays from token to token (Mixers.md §2.4), as Mamba-2 and retention have it.
///
/// Values, keys, queries and rates are linear maps of the tokens; the first three pass a causal convolution. Along the
/// scan the state of a head takes up each value under its key, `S ← e^g·S + k·(β·v)ᵀ`, and gives `o = scale·Sᵀ·q + skip·v`.
/// Norm, gate, merge of the directions and the output map follow. Which operands there are follows from the form.
///
/// With G directions, H heads and J groups: `wv` is `[width, dim]`, `wk` and `wq` `[J·state, dim]`, `wd` `[H, dim]`, `wz`
/// `[width, dim]`, `taps` `[width + 2·J·state, conv]`, `a` and `skip` `[H]`, `norm` `[width]`, `wo` `[outputDim, width]`;
/// where every direction has all channels, all but the last are G times as long, direction by direction, and `m` is
/// `[H, width/H, G·width/H]`.
public struct SSD: Mixer {
  /// The operation's name.
  public static let name = "vit.ssd"
  /// What it computes.
  public static let summary = "Linear attention with a state that decays along the tokens, computed in chunks"
  /// A use of it.
  public static let example =
    "(f32[1, 4, 2], f32[2, 2], f32[2], f32[2, 2], f32[2], f32[2, 2], f32[2], f32[2, 2], f32[2], "
    + "f32[6, 4], f32[6], f32[2], f32[2, 2], f32[2]) {grid = [2, 2], heads = 2, state = 1, groups = 2}"

  private(set) var scan: MixerScan
  /// The form, with all its numbers.
  let form: SSDForm
  let state: Int
  let groups: Int

  static let values = LinearMap(weight: 1, bias: 2)
  static let keys = LinearMap(weight: 3, bias: 4)
  static let queries = LinearMap(weight: 5, bias: 6)
  static let rates = LinearMap(weight: 7, bias: 8)

  /// The operation for a layout; throws a usage error where the form does not go with it.
  public init(_ layout: MixerLayout, _ form: SSDForm) throws(VitError) {
    let form = form.resolved(for: layout)
    try form.check(heads: layout.heads, directions: layout.order.directionCount, kind: .usage)
    self.form = form
    scan = MixerScan(layout)
    state = form.state ?? 1
    groups = form.groups ?? 1
  }

  /// Takes heads, order and form.
  public init(attributes: inout AttributeReader) throws(VitError) {
    form = try SSDForm(&attributes, attributes.choice("kind", default: SSDForm.Kind.ssd))
    scan = try MixerScan(&attributes, splitsHeads: form.directions == .split)
    guard let state = form.state, let groups = form.groups else {
      throw VitError("expected attributes 'state' and 'groups'", code: "attribute-missing")
    }
    try form.check(heads: scan.heads, directions: scan.order.directionCount, kind: .input)
    (self.state, self.groups) = (state, groups)
  }

  /// Heads, order and form.
  public var attributes: Attributes {
    scan.attributes.merging(Attributes([("kind", .string(form.kind.rawValue))])).merging(form.attributes)
  }

  /// `ssd`, `mamba` or `retention`.
  public var kind: String { form.kind.rawValue }

  /// How often every channel is there: once, or once for each direction.
  var copies: Int { form.directions == .full ? scan.order.directionCount : 1 }
  /// Heads that are scanned, in all directions.
  var heads: Int { scan.heads * copies }
  /// The channels of all keys.
  var keyWidth: Int { groups * copies * state }
  /// The factor of the result of the scan.
  var scale: Double { form.kind == .retention ? 1 / Double(state).squareRoot() : 1 }
  /// Whether values, keys and queries change between their maps and the scan.
  var isConvolved: Bool { form.taps > 0 || form.activation != .none }
  /// Whether the result of the scan changes before it is merged or mapped.
  var isShaped: Bool { form.isGated || form.norm != .none }

  /// Where the operands stand that some forms do not have.
  struct Places {
    var gate: LinearMap?
    var taps: Int?, tapBias: Int?, speed: Int?, skip: Int?, norm: Int?, merge: Int?, mergeBias: Int?
    var output: LinearMap

    init(_ form: SSDForm) {
      var next = 9
      func take(_ isThere: Bool) -> Int? {
        guard isThere else { return nil }
        next += 1
        return next - 1
      }
      if let weight = take(form.isGated), let bias = take(true) {
        gate = LinearMap(weight: weight, bias: bias)
      }
      taps = take(form.taps > 0)
      tapBias = take(form.taps > 0)
      speed = take(form.write == .delta)
      skip = take(form.hasSkip)
      norm = take(form.norm != .none)
      merge = take(form.directions == .full)
      mergeBias = take(form.directions == .full)
      output = LinearMap(weight: next, bias: next + 1)
    }
  }

  /// Where the operands of this form stand.
  var places: Places { Places(form) }

  /// The maps whose results stand side by side: values, keys, queries, rates and gates.
  var maps: [LinearMap] {
    [Self.values, Self.keys, Self.queries, Self.rates] + (places.gate.map { [$0] } ?? [])
  }

  /// Maps, convolution, decays, skip, norm, merge, output: those of the form.
  public func parameters(_ layout: MixerLayout) -> [MixerParameter] {
    let (dim, inner) = (layout.dim, copies * layout.width)
    var result: [MixerParameter] = []
    func map(_ name: String, _ out: Int) {
      result.append(MixerParameter("w\(name)", [out, dim], decay: true))
      result.append(MixerParameter("b\(name)", [out], decay: false))
    }
    map("v", inner)
    map("k", keyWidth)
    map("q", keyWidth)
    map("d", heads)
    if form.isGated { map("z", inner) }
    if form.taps > 0 {
      result.append(MixerParameter("taps", [inner + 2 * keyWidth, form.taps], decay: true))
      result.append(MixerParameter("btaps", [inner + 2 * keyWidth], decay: false))
    }
    if form.write == .delta { result.append(MixerParameter("a", [heads], decay: false)) }
    if form.hasSkip { result.append(MixerParameter("skip", [heads], decay: false)) }
    if form.norm != .none { result.append(MixerParameter("norm", [inner], decay: false)) }
    if form.directions == .full {
      let width = layout.headWidth
      result.append(MixerParameter("m", [layout.heads, width, copies * width], decay: true))
      result.append(MixerParameter("bm", [layout.width], decay: false))
    }
    result.append(MixerParameter("wo", [layout.outputDim, layout.width], decay: true))
    result.append(MixerParameter("bo", [layout.outputDim], decay: false))
    return result
  }

  /// The output map.
  public var readout: MixerReadout? {
    MixerReadout(weight: places.output.weight, bias: places.output.bias)
  }

  /// The output map where every direction has all channels: it is the attention's.
  public var frozen: [Int] {
    form.directions == .full ? [places.output.weight, places.output.bias] : []
  }

  /// As its form says.
  public var splitsHeads: Bool { form.directions == .split }

  /// The map of values, where each of its channels goes its way alone and unbent to the output map.
  public var values: MixerReadout? {
    form.directions == .split && !isShaped && form.activation == .none
      ? MixerReadout(weight: Self.values.weight, bias: Self.values.bias) : nil
  }

  /// The same scan over fewer tokens, their sizes apart.
  public func merged(patches: Int) throws(VitError) -> (any Mixer)? {
    var mixer = self
    mixer.scan = try scan.merged(patches: patches)
    return mixer
  }

  /// `[batch, tokens, outputDim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let width = try operands.float(Self.values.weight, "wv", rank: 2...2).shape[0]
    guard let inner = width.fixedValue, inner % copies == 0 else {
      throw VitError("'wv' has \(width) rows, expected a multiple of \(copies)", code: "operand-shape")
    }
    return try scan.resultTypes(self, operands, width: .fixed(inner / copies), bias: places.output.bias)
  }

  /// Images, and the channels of the result; tokens are scanned.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    mixing(operands, tokens: .aligned)
  }

  /// Weights, biases and factors.
  public func role(of index: Int) -> OperandRole {
    let places = places
    switch index {
    case 0: return .data
    case places.taps, places.merge, places.output.weight: return .weight
    case places.speed, places.tapBias, places.mergeBias: return .bias
    case places.skip, places.norm: return .gain
    default: return index % 2 == 1 && index < (places.taps ?? places.output.weight) ? .weight : .bias
    }
  }

  /// The sizes of the scan.
  func shape(inner: Int) -> SSDShape {
    SSDShape(
      heads: heads, groups: groups * copies, state: state, width: inner / heads,
      isDelta: form.write == .delta,
      scale: scale)
  }

  /// What stands between maps and scan.
  func causal(inner: Int) -> CausalShape {
    CausalShape(parts: [inner, keyWidth, keyWidth], taps: form.taps, isSilu: form.activation == .silu)
  }

  /// What stands between scan and merge.
  func gate(inner: Int) -> GateShape {
    switch form.norm {
    case .none: GateShape(width: inner, isJoint: false)
    case .head: GateShape(width: inner / heads, isJoint: false)
    case .all: GateShape(width: inner / copies, isJoint: true)
    }
  }

  /// The channels that are scanned.
  func inner(_ operands: Operands) -> Int { operands[Self.values.weight]?.extents[0] ?? 0 }

  /// Columns of values, keys, queries, rates and gates side by side.
  func columns(inner: Int) -> Int { inner + 2 * keyWidth + heads + (form.isGated ? inner : 0) }

  /// The products, the scan's included, and what is done to each channel.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0] else { return Cost() }
    let (inner, width) = (inner(operands), inner(operands) / copies)
    guard inner > 0 else { return Cost() }
    var products = 2 * x.width * columns(inner: inner) + 2 * width * results[0].width
    if form.directions == .full { products += 2 * inner * (width / scan.heads) }
    let causal = isConvolved ? (2 * form.taps + 4) * (inner + 2 * keyWidth) : 0
    let shaped = (form.isGated ? 4 * inner : 0) + (form.norm != .none ? 4 * inner : 0)
    let core = x.extents[0] * shape(inner: inner).flops(steps: scan.order.rows)
    return Cost(
      flops: x.rows * (products + causal + shaped + 2 * inner) + core, bytes: operands.bytes(results))
  }
}
