internal import VitIR
internal import VitOps

/// Linear maps that read the same, and can be rounded so that columns make up for each other on it.
struct RoundingSite {
  /// The maps, each with the bias behind it.
  private(set) var maps: [(weight: ValueID, bias: ValueID?)]
  /// The channels that they read.
  let inputs: Int
  private let source: Source

  private enum Source {
    case value(ValueID)
    case map(MapSite)
    case heads(HeadSite)
  }

  /// Those of a model, in the order of maps of their own, then of attention's.
  static func all(in hybrid: Hybrid) throws -> [RoundingSite] {
    let maps = MapSite.all(in: hybrid, .all).map { site in
      RoundingSite(maps: [(site.weight, site.bias)], inputs: site.inputs, source: .map(site))
    }
    let heads = try HeadSite.all(in: hybrid.graph, layers: hybrid.layers).flatMap { site -> [RoundingSite] in
      let operands = hybrid.graph.nodes[site.node].operands
      func map(_ place: Int) -> (weight: ValueID, bias: ValueID?)? {
        operands[place].map { ($0, place + 1 < operands.count ? operands[place + 1] : nil) }
      }
      func inputs(_ maps: [(weight: ValueID, bias: ValueID?)]) -> Int {
        maps.first.flatMap { hybrid.graph.tensor($0.weight)?.shape.last } ?? 0
      }
      let (scores, output) = ([1, 3, 5].compactMap(map), [7].compactMap(map))
      return [
        RoundingSite(maps: scores, inputs: inputs(scores), source: .value(site.input)),
        RoundingSite(maps: output, inputs: inputs(output), source: .heads(site)),
      ].filter { $0.inputs > 0 }
    }
    // A constant that several maps read stands for more than what one of them reads.
    var uses: [ValueID: Int] = [:]
    for case let id? in (maps + heads).flatMap({ $0.maps.flatMap { [$0.weight, $0.bias] } }) {
      uses[id, default: 0] += 1
    }
    return (maps + heads).map { site in
      var own = site
      own.maps = site.maps.filter { uses[$0.weight] == 1 && $0.bias.map { uses[$0] == 1 } ?? true }
      return own
    }
  }

  /// What the maps read; adds the nodes that compute it where it is inside of one.
  func tap(_ builder: inout GraphBuilder) throws -> ValueID {
    switch source {
    case .value(let id): id
    case .map(let site): try site.tap(&builder)
    case .heads(let site): try site.tap(&builder)
    }
  }
}
