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
    /// The channels of a layer's mixer; 0 for its attention, where that may stay.
    case mixer(layer: Int)

    /// The layer whose attention it is a part of.
    var attention: Int? {
      switch self {
      case .scores(let layer), .values(let layer): layer
      case .channels, .mixer: nil
      }
    }
  }

  /// Which part.
  let part: Part
  /// Its sizes, falling; first that which it has.
  let sizes: [Int]
  /// For each size the damage that it does alone, and the cost of the model.
  let damages, costs: [Double]
  /// Makes it as small as the size at a place, in the teacher's graph.
  let apply: (_ place: Int, _ graph: inout Graph) throws -> Void
  /// For a mixer what stands there at each size; `nil` for the attention.
  var mixers: [MixerNode?] = []

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
}
