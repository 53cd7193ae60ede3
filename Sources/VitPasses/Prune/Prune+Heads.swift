internal import VitIR
internal import VitOps

extension Prune {
  /// Takes whole heads out of attention layers; `nil` where no layer can do without any.
  func pruneHeads(of hybrid: inout Hybrid, _ context: PassContext) throws -> PassResult? {
    let sites = try HeadSite.all(in: hybrid.graph, layers: hybrid.layers)
      .filter { $0.canLoseHeads(in: hybrid.graph) }
    let kept = try heads(keptOf: sites, layers: hybrid.layers.map(\.index))
    guard !sites.isEmpty else { return nil }
    let chosen = sites.indices.filter { kept[$0] < sites[$0].weights.heads }
    var (notes, scores): ([String], [Int: Attributes]) = ([], [:])
    for group in Prune.groups(chosen.map { ($0, sites[$0].channels) }) {
      let own = group.map { sites[$0] }
      let moments = try self.moments(of: own.map(\.channels), hybrid.graph, context) { builder in
        try own.map { try $0.tap(&builder) }
      }
      for (place, moments) in zip(group, moments) {
        let site = sites[place]
        let surgery = try HeadSurgery(
          site, in: hybrid.graph, moments: moments, keeping: kept[place], compensate, pool: context.pool)
        try surgery.apply(to: &hybrid.graph)
        if let layer = hybrid.place(of: site.layer) {
          scores[site.layer] = surgery.scores(hybrid.layers[layer].scores)
        }
        notes.append("layer \(site.layer): \(kept[place]) of \(site.weights.heads) heads")
        context.progress(Prune.name, notes.count, chosen.count, "heads of layer \(site.layer)")
      }
    }
    guard !chosen.isEmpty else { return PassResult() }
    hybrid.graph.removeDeadNodes()
    try hybrid.graph.inferTypes(pool: context.pool)
    hybrid.findLayers()
    for (layer, scores) in scores {
      if let place = hybrid.place(of: layer) { hybrid.layers[place].scores = scores }
    }
    return PassResult(changes: chosen.count, notes: notes)
  }

  /// How many heads stay in each layer; throws a usage error where a list is not for this model.
  private func heads(keptOf sites: [HeadSite], layers: [Int]) throws(VitError) -> [Int] {
    guard let headCounts else {
      return sites.map { site in
        let (all, keys) = (site.weights.heads, site.weights.kvHeads)
        return all / keys * min(keys, max(1, Int(((heads ?? 1) * Double(keys)).rounded())))
      }
    }
    let choices = layers.map { layer -> [Int] in
      guard let weights = sites.first(where: { $0.layer == layer })?.weights else { return [0] }
      return [0] + (1...weights.kvHeads).map { $0 * weights.heads / weights.kvHeads }
    }
    guard headCounts.count == layers.count, zip(headCounts, choices).allSatisfy({ $1.contains($0) }) else {
      let accepted = choices.map { "\($0)" }.joined(separator: ", ")
      throw VitError(
        "prune: option 'heads' is \(headCounts), expected one number for each of \(layers.count) layers, of \(accepted)",
        kind: .usage, code: "option-value",
        help: "0 leaves a layer as it is; heads that share keys go together")
    }
    return sites.map { site in
      let count = layers.firstIndex(of: site.layer).map { headCounts[$0] } ?? 0
      return count == 0 ? site.weights.heads : count
    }
  }
}

extension HeadSite {
  /// What the output map reads.
  fileprivate var channels: Int { weights.heads * weights.valueDim }
}
