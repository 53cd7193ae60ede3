internal import VitIR
internal import VitOps
internal import VitRuntime

extension Factorise {
  /// Puts two smaller maps in the place of each of a kind that they save weights of; `nil` where there is none.
  func factoriseMaps(of hybrid: inout Hybrid, _ context: PassContext) throws -> PassResult? {
    let sites = MapSite.all(in: hybrid, maps).compactMap { site in
      site.rank(part: rank, tile: tile).map { (site: site, rank: $0) }
    }
    guard !sites.isEmpty else { return nil }
    try Blas.require(on: context.pool)
    var factors: [MapFactors] = []
    for group in Prune.groups(sites.indices.map { ($0, sites[$0].site.inputs) }) {
      let moments = try Prune(images: images).moments(
        of: group.map { sites[$0].site.inputs }, for: Factorise.name, hybrid.graph, context
      ) { builder in
        var values: [ValueID] = []
        for place in group { values.append(try sites[place].site.tap(&builder)) }
        return values
      }
      for (place, moments) in zip(group, moments) {
        let (site, rank) = sites[place]
        factors.append(
          try MapFactors(site, rank: rank, moments: moments, in: hybrid.graph, pool: context.pool))
        context.progress(Factorise.name, factors.count, sites.count, "map \(hybrid.graph[site.weight].name)")
      }
    }
    let notes = sites.map { site, rank in
      "map '\(hybrid.graph[site.weight].name)': \(site.inputs) to \(site.outputs) channels by \(rank)"
    }
    hybrid.graph.replaceMaps(by: factors)
    try hybrid.graph.sortNodes()
    try hybrid.graph.inferTypes(pool: context.pool)
    hybrid.findLayers()
    return PassResult(changes: factors.count, notes: notes)
  }
}
