internal import VitIR

/// A part of a model that can be made smaller in steps.
struct ReductionSlot {
  /// Which part.
  enum Part {
    /// The hidden channels of a perceptron, by its number.
    case channels(perceptron: Int)
    /// The channels of queries and keys in each head of a layer, by its number.
    case scores(layer: Int)
    /// The channels of values in each head of a layer.
    case values(layer: Int)
    /// What stands in a layer's place.
    case mixer(layer: Int)
    /// The patches behind a layer.
    case patches(layer: Int)
    /// A layer with the perceptron behind it.
    case block(layer: Int)
    /// The queries and keys of a layer.
    case map(layer: Int)

    /// The layer whose attention it is a part of.
    var attention: Int? {
      switch self {
      case .scores(let layer), .values(let layer): layer
      case .channels, .mixer, .patches, .block, .map: nil
      }
    }
  }

  /// What makes it smaller.
  enum Change {
    /// Channels go from the teacher's graph, as many as the size at a place says.
    case surgery((_ place: Int, _ graph: inout Graph) throws -> Void)
    /// One of these stands there, or the attention, which is `nil`.
    case mixers([MixerNode?])
    /// So many patches are merged as the sizes say.
    case merging
    /// A linear map stands in the place of the whole.
    case map(BlockMap)
    /// The attention map of a layer before is used.
    case sharing(SharedMap)
  }

  /// Which part.
  let part: Part
  /// The place of its node in the teacher's graph.
  let node: Int
  /// Its sizes, first that which it has: channels, or blocks, which fall; or merged patches, which rise.
  let sizes: [Int]
  /// For each size the damage that it does alone, and the cost of the model with it.
  let damages, costs: [Double]
  /// What makes it smaller.
  let change: Change

  /// What stands there at each size, where that is a mixer or the attention.
  var mixers: [MixerNode?] { if case .mixers(let mixers) = change { mixers } else { [] } }

  /// Whether patches are merged.
  var isMerging: Bool { if case .merging = change { true } else { false } }

  /// What stands in the place of the whole block.
  var map: BlockMap? { if case .map(let map) = change { map } else { nil } }

  /// How it uses the map of a layer before.
  var sharing: SharedMap? { if case .sharing(let map) = change { map } else { nil } }

  /// Into how many parts channels are cut.
  private static let parts = 8

  /// The sizes of `channels`: eighths of them, in multiples of `tile`.
  static func sizes(_ channels: Int, tile: Int) -> [Int] {
    var sizes = [channels]
    for part in (1..<parts).reversed() {
      let exact = Double(part * channels) / Double(parts * tile)
      let size = tile * max(1, Int(exact.rounded()))
      if let last = sizes.last, size < last { sizes.append(size) }
    }
    return sizes
  }

  /// How many of `patches` may be merged behind one layer: none, and multiples of a thirty-second up to a half.
  static func merges(_ patches: Int) -> [Int] {
    Array(stride(from: 0, through: patches / 2, by: max(1, patches / 32)))
  }
}
