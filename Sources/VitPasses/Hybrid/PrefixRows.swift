public import VitIR
internal import VitOps
internal import VitRuntime

/// How the rows of the tokens before the patches are made: `swap{prefix=…}`.
public enum PrefixRows: Hashable, Sendable {
  /// By attention where a head reads one of them and the layer's attention can be taken apart, else by the mixer.
  case automatic
  /// By the mixer, as all other rows.
  case mixer
  /// By attention, its scores by so many channels of a head (a quarter of the attention's, and at least 4, where none are
  /// given), with an output map of its own or the mixer's.
  case attend(rank: Int?, own: Bool)

  /// Reads `auto`, `mixer` or `attend{rank=8,own=true}`; throws a usage error for anything else.
  public init(_ text: String) throws(VitError) {
    let option = try NestedOption(text)
    var reader = AttributeReader(option.attributes)
    do throws(VitError) {
      switch option.name {
      case "auto": self = .automatic
      case "mixer": self = .mixer
      case "attend":
        self = .attend(rank: try reader.optionalInt("rank"), own: try reader.bool("own", default: false))
      default:
        throw VitError("expected one of auto, mixer, attend{rank=…,own=…}")
      }
      try reader.finish()
      if case .attend(let rank?, _) = self, rank < 1 {
        throw VitError("a rank of \(rank), expected at least 1")
      }
    } catch {
      throw VitError(
        "swap: option 'prefix' cannot be '\(text)': \(error.diagnostic.message)", kind: .usage,
        code: "option-value", help: "write auto, mixer, or attend with rank and own, as in attend{rank=8}")
    }
  }

  /// The text that gives this again.
  public var text: String {
    switch self {
    case .automatic: return "auto"
    case .mixer: return "mixer"
    case .attend(let rank, let own):
      var options = Attributes([("own", .bool(own))])
      options["rank"] = rank.map(Attribute.int)
      return NestedOption("attend", options).description
    }
  }
}

/// The attention of a layer's first tokens, ready to stand behind a mixer.
struct AttendedPrefix {
  /// How many of the first tokens attend.
  let count: Int
  private let attention: AttentionWeights
  private let scale: Double
  private let rank: Int
  private let own: Bool

  /// The most tokens before the patches that all attend; of more only those that a head reads.
  private static let most = 8

  /// What `rows` asks for; `nil` where the mixer makes them. Throws a usage error where attention is asked for and there is
  /// none to keep.
  init?(
    _ rows: PrefixRows, _ layer: Layer, _ node: Node, _ attention: AttentionWeights?,
    _ geometry: TokenGeometry
  ) throws(VitError) {
    if rows == .mixer { return nil }
    var obstacle: String?
    if geometry.outputs == 0 { obstacle = "no head reads a token before the patches" }
    let operation = node.operation as? VitAttention
    if operation == nil || attention == nil || node.operands.count > 9 && node.operands[9] != nil {
      obstacle =
        obstacle
        ?? "its attention is no plain one: queries are not linear maps of the tokens, or scores have a bias"
    }
    guard obstacle == nil, let operation, let attention else {
      if rows == .automatic { return nil }
      throw VitError(
        "swap: layer \(layer.index) cannot keep the attention of the first tokens: \(obstacle ?? "")",
        kind: .usage, code: "option-value", location: Location(node: layer.node), help: "ask for prefix=mixer"
      )
    }
    self.attention = attention
    count = geometry.prefix <= AttendedPrefix.most ? geometry.prefix : geometry.outputs
    scale = operation.scale ?? 1 / Double(max(1, attention.headDim)).squareRoot()
    var (wanted, own): (Int?, Bool) = (nil, false)
    if case .attend(let rank, let isOwn) = rows { (wanted, own) = (rank, isOwn) }
    rank = min(wanted ?? max(4, attention.headDim / 4), attention.headDim)
    self.own = own
  }

  /// Whether scores are by fewer channels than the attention's.
  var isReduced: Bool { rank < attention.headDim }

  /// The text that asks for it.
  var text: String { PrefixRows.attend(rank: rank, own: own).text }

  /// `region` with the attention behind it, its scores reduced by what is known of its tokens.
  func behind(
    _ region: MixerRegion, name: String, tokens: TokenMoments?, pool: any WorkPool
  ) throws -> MixerRegion {
    let (heads, dim) = (attention.heads, attention.wq.shape[1])
    let wq = try attention.wq.doubles()
    let bq = try attention.bq?.doubles() ?? [Double](repeating: 0, count: wq.count / dim)
    let wk = try keys()
    let width = attention.headDim
    let found =
      try tokens.map {
        try ScoreMoments(
          wq: wq, bq: bq, wk: wk, dim: dim, heads: heads, first: $0.first, all: $0.all, pool: pool)
      } ?? ScoreMoments(wq: wq, bq: bq, wk: wk, dim: dim, heads: heads)
    let factors =
      isReduced
      ? found.factors(width: width).map {
        ScoreFactors($0, wq: wq, bq: bq, wk: wk, dim: dim, width: width, rank: rank)
      } : nil
    let rows = heads * (factors == nil ? width : rank)
    var constants: [(name: String, tensor: Tensor)] = []
    var sources: [MixerRegion.Source] = [.tokens, .before]
    func add(_ part: String, _ tensor: Tensor) {
      sources.append(.constant(region.constants.count + constants.count))
      constants.append(("\(name).prefix.\(part)", tensor))
    }
    add("wq", Tensor(.f32, shape: [rows, dim], values: factors?.wq ?? wq))
    add("bq", Tensor(.f32, shape: [rows], values: factors?.bq ?? bq))
    add("wk", Tensor(.f32, shape: [rows, dim], values: factors?.wk ?? wk))
    // Where the mixer's channels are the attention's values in their order, one weight serves both.
    let channels = heads * attention.valueDim
    let values = region.mixer.values.flatMap { values -> (weight: Int, bias: Int)? in
      guard let weight = values.weight.flatMap(region.constant),
        let bias = region.constant(ofMixer: values.bias),
        region.constants[weight].tensor.shape == [channels, dim], attention.kvHeads == heads
      else { return nil }
      return (weight, bias)
    }
    if let values {
      sources += [.constant(values.weight), .constant(values.bias)]
    } else {
      add("wv", attention.wv)
      if let bias = attention.bv { add("bv", bias) } else { sources.append(.absent) }
    }
    let readout = region.readout
    if !own, values != nil, let weight = readout?.weight, let bias = readout?.bias,
      region.constants[weight].tensor.shape == attention.wo.shape
    {
      sources += [.constant(weight), .constant(bias)]
    } else {
      add("wo", attention.wo)
      if let bias = attention.bo { add("bo", bias) }
    }
    let operation = PrefixAttention(
      heads: heads, kvHeads: values == nil ? attention.kvHeads : heads, prefix: count, scale: scale)
    return region.appending(operation, sources, constants)
  }

  /// The keys' weight for each head of the queries.
  private func keys() throws -> [Double] {
    let wk = try attention.wk.doubles()
    let shared = attention.heads / attention.kvHeads
    guard shared > 1 else { return wk }
    let size = attention.headDim * attention.wk.shape[1]
    return (0..<attention.heads).flatMap { head in
      Array(wk[head / shared * size..<(head / shared + 1) * size])
    }
  }
}
