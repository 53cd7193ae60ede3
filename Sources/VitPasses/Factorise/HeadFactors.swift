internal import VitIR
internal import VitOps
internal import VitRuntime

/// The heads of an attention layer by fewer channels: of queries and keys for the scores, of values for what they give. Heads that
/// share keys and values go on sharing them.
struct HeadFactors {
  private let site: HeadSite
  private let scores: [ProductFactors]
  private let values: ValueFactors
  private let wq, bq, wk: [Double]
  private let dim: Int

  /// The factors of a layer whose tokens have the `moments`, with a one behind each, `[dim + 1, dim + 1]`, and whose outputs
  /// count by `scales`; throws where those are no numbers.
  init(_ site: HeadSite, moments: [Double], scales: [Double]?, pool: any WorkPool) throws {
    self.site = site
    let weights = site.weights
    dim = weights.wq.shape[1]
    (wq, wk) = (try weights.wq.doubles(), try weights.wk.doubles())
    bq = try weights.bq?.doubles() ?? [Double](repeating: 0, count: weights.wq.shape[0])
    let scores = try ScoreMoments(
      wq: wq, bq: bq, wk: wk, dim: dim, heads: weights.heads, first: moments, all: moments, pool: pool)
    guard let found = scores.factors(width: weights.headDim),
      let values = try ValueFactors(weights, moments: moments, scales: scales, pool: pool)
    else {
      throw VitError(
        "factorise: what layer \(site.layer) reads is no number or does not vary", code: "solve-singular")
    }
    (self.scores, self.values) = (found, values)
  }

  /// The mean square of what scores by `rank` channels miss, over heads.
  func scoreError(rank: Int) -> Double {
    site.scale * site.scale * scores.reduce(0) { $0 + $1.error(rank: rank) }
  }

  /// The mean square of what the layer's result misses with values by `rank` channels.
  func valueError(rank: Int) -> Double { values.error(rank: rank) }

  /// The layer with so many channels in a head of queries and keys, and of values; where as many stay, the maps are as they
  /// were.
  func apply(scores rank: Int, values valueRank: Int, to graph: inout Graph) throws {
    let (heads, keys, old) = (site.weights.heads, site.weights.kvHeads, graph.nodes[site.node])
    func set(_ operand: Int, _ tensor: Tensor?, _ name: String) {
      while graph.nodes[site.node].operands.count <= operand { graph.nodes[site.node].operands.append(nil) }
      guard let tensor else {
        graph.nodes[site.node].operands[operand] = nil
        return
      }
      if let id = graph.nodes[site.node].operands[operand] {
        graph.setTensor(tensor, of: id)
      } else {
        graph.nodes[site.node].operands[operand] = graph.addConstant(
          tensor, name: "layer.\(site.layer).\(name)")
      }
    }
    if rank < site.weights.headDim {
      let factors = ScoreFactors(
        scores, wq: wq, bq: bq, wk: wk, dim: dim, width: site.weights.headDim, rank: rank)
      set(1, Tensor(.f32, shape: [heads * rank, dim], values: factors.wq), "wq")
      if site.weights.bq != nil { set(2, Tensor(.f32, shape: [heads * rank], values: factors.bq), "bq") }
      set(3, Tensor(.f32, shape: [keys * rank, dim], values: factors.wk), "wk")
      // A key's bias adds the same to all scores of a query.
      set(4, nil, "bk")
    }
    if valueRank < site.weights.valueDim {
      let narrow = try values.narrowed(site.weights, rank: valueRank)
      set(5, narrow.wv, "wv")
      set(6, narrow.bv, "bv")
      set(7, narrow.wo, "wo")
      set(8, narrow.bo, "bo")
    }
    var attributes = old.operation.attributes
    attributes["scale"] = .float(site.scale)
    attributes["head_dim"] = nil
    attributes["value_dim"] = nil
    var reader = AttributeReader(attributes)
    graph.nodes[site.node].operation = try VitAttention(attributes: &reader)
  }
}
