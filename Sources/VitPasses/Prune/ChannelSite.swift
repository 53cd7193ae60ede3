internal import VitIR
internal import VitOps

/// Channels between two linear maps that can go one by one: the hidden ones of a perceptron, plain or gated.
///
/// Every value between the maps is computed channel by channel, so leaving out a channel means leaving out one entry of each
/// constant before the last map, and one column of that map. Where one map gives what the gate opens and the gate itself, side by
/// side, a channel has an entry in each part of it.
struct ChannelSite {
  /// A constant in which each channel has an entry.
  struct Constant {
    let value: ValueID
    /// The axis that runs over the channels.
    let axis: Int
    /// How often it does, from the first channel to the last.
    let runs: Int
  }

  /// A node that cuts runs of the channels, and nothing else, out of an axis.
  struct Cut {
    /// The node's place.
    let node: Int
    let axis: Int
    /// The number of the run that each result is.
    let runs: [Int]

    /// The ranges of runs of `channels`.
    func ranges(_ channels: Int) -> [Range<Int>] { runs.map { $0 * channels..<($0 + 1) * channels } }
  }

  /// The node that holds the last map.
  let node: Int
  /// The channels.
  let channels: Int
  /// The last map's weight, `[outputs, channels]`, and bias.
  let weight: ValueID
  let bias: ValueID?
  /// What the last map gives.
  let result: ValueID
  /// The constants before the last map.
  let constants: [Constant]
  /// What takes the channels apart that one map gives.
  let cuts: [Cut]
  /// What the last map reads; `nil` within one operation for both maps.
  let hidden: ValueID?

  /// All sites of a graph, in the order of their last maps.
  static func all(in graph: Graph) -> [ChannelSite] {
    let finder = ChannelFinder(graph)
    return graph.nodes.indices.compactMap(finder.site)
  }

  /// The value that the last map reads; adds the nodes that compute it where there is none.
  func tap(_ builder: inout GraphBuilder) throws(VitError) -> ValueID {
    if let hidden { return hidden }
    let operands = builder.graph.nodes[node].operands
    guard let perceptron = builder.graph.nodes[node].operation as? VitMLP else {
      throw VitError("a perceptron is none", code: "invalid-graph")
    }
    return try perceptron.hidden(into: &builder, operands: operands)
  }
}

extension Hybrid {
  /// The perceptrons, each with that of the teacher and its number there: those of blocks that are gone have none. None where the
  /// two do not fit together.
  func perceptrons(beside teacher: Teacher) -> [(index: Int, own: ChannelSite, original: ChannelSite)] {
    let gone = Set(
      layers.filter(\.isRemoved).compactMap { teacher.layer($0.index) }.flatMap { layer in
        (try? ResidualBlock(layer, in: teacher.graph, teacher.layers))?.nodes ?? []
      })
    let originals = ChannelSite.all(in: teacher.graph).enumerated().filter { !gone.contains($0.element.node) }
    let own = ChannelSite.all(in: graph)
    guard own.count == originals.count else { return [] }
    return zip(own, originals).map { (index: $1.offset, own: $0, original: $1.element) }
  }
}
