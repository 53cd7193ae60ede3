internal import VitIR
internal import VitOps
internal import VitRuntime

/// The heads of an attention layer by fewer channels: of queries and keys for the scores, of values for what they give.
///
/// Scores are products of queries and keys. What a head gives is a product, too: of its values and the columns of the output
/// map. Both keep the directions that matter most for the tokens that were looked at (see `ProductFactors`); what all values
/// have in common moves into the output's bias, for the rows of an attention map sum to 1.
struct HeadFactors {
  private let site: HeadSite
  private let scores, values: [ProductFactors]
  private let wq, bq, wk, wv, bv, wo, bo: [Double]
  /// The mean token.
  private let mean: [Double]
  private let dim, outputs: Int

  /// The factors of a layer whose tokens have the `moments`, with a one behind each, `[dim + 1, dim + 1]`, and whose outputs
  /// count by `scales`; throws where those are no numbers.
  init(_ site: HeadSite, moments: [Double], scales: [Double]?, pool: any WorkPool) throws {
    self.site = site
    let weights = site.weights
    (dim, outputs) = (weights.wq.shape[1], weights.wo.shape[0])
    func vector(_ tensor: Tensor?, _ count: Int) throws -> [Double] {
      try tensor?.doubles() ?? [Double](repeating: 0, count: count)
    }
    (wq, wk) = (try weights.wq.doubles(), try weights.wk.doubles())
    (wv, wo) = (try weights.wv.doubles(), try weights.wo.doubles())
    bq = try vector(weights.bq, weights.wq.shape[0])
    bv = try vector(weights.bv, weights.wv.shape[0])
    bo = try vector(weights.bo, outputs)
    let (width, total) = (dim + 1, max(moments.last ?? 0, .leastNormalMagnitude))
    mean = (0..<dim).map { moments[$0 * width + width - 1] / total }
    var centred = moments
    for row in 0..<dim {
      for column in 0..<dim { centred[row * width + column] -= total * mean[row] * mean[column] }
    }
    for place in 0..<dim {
      centred[place * width + dim] = 0
      centred[dim * width + place] = 0
    }
    let heads = weights.heads
    let scores = try ScoreMoments(
      wq: wq, bq: bq, wk: wk, dim: dim, heads: heads, first: moments, all: moments, pool: pool)
    let zero = [Double](repeating: 0, count: bv.count)
    let values = try ScoreMoments(
      wq: wv, bq: zero, wk: wv, dim: dim, heads: heads, first: centred, all: centred, pool: pool)
    let squares = HeadFactors.squares(wo, heads: heads, width: weights.valueDim, scales: scales)
    let products = zip(squares, values.keys).compactMap {
      ProductFactors($0, $1, width: weights.valueDim)
    }
    guard let found = scores.factors(width: weights.headDim), products.count == heads else {
      throw VitError(
        "factorise: what layer \(site.layer) reads is no number or does not vary", code: "solve-singular")
    }
    (self.scores, self.values) = (found, products)
  }

  /// For each head the products of its columns of the output map, which counts by `scales`.
  private static func squares(
    _ wo: [Double], heads: Int, width: Int, scales: [Double]?
  ) -> [ProductFactors.Moments] {
    let columns = heads * width
    return (0..<heads).map { head in
      var result = ProductFactors.Moments(repeating: 0, count: width * width)
      for row in 0..<wo.count / columns {
        let factor = scales.map { $0[row] * $0[row] } ?? 1
        let start = row * columns + head * width
        for i in 0..<width {
          let scaled = factor * wo[start + i]
          for j in 0..<width { result[i * width + j] += scaled * wo[start + j] }
        }
      }
      return result
    }
  }

  /// The mean square of what scores by `rank` channels miss, over heads.
  func scoreError(rank: Int) -> Double {
    site.scale * site.scale * scores.reduce(0) { $0 + $1.error(rank: rank) }
  }

  /// The mean square of what the layer's result misses with values by `rank` channels.
  func valueError(rank: Int) -> Double { values.reduce(0) { $0 + $1.error(rank: rank) } }

  /// The layer with so many channels in a head of queries and keys, and of values; where as many stay, the maps are as they
  /// were.
  func apply(scores rank: Int, values valueRank: Int, to graph: inout Graph) throws(VitError) {
    let (heads, old) = (site.weights.heads, graph.nodes[site.node])
    func set(_ operand: Int, _ shape: [Int], _ numbers: [Double], _ name: String) {
      let tensor = Tensor(.f32, shape: shape, values: numbers)
      if operand < graph.nodes[site.node].operands.count, let id = graph.nodes[site.node].operands[operand] {
        graph.setTensor(tensor, of: id)
      } else {
        while graph.nodes[site.node].operands.count <= operand {
          graph.nodes[site.node].operands.append(nil)
        }
        graph.nodes[site.node].operands[operand] = graph.addConstant(
          tensor, name: "layer.\(site.layer).\(name)")
      }
    }
    if rank < site.weights.headDim {
      let factors = ScoreFactors(
        scores, wq: wq, bq: bq, wk: wk, dim: dim, width: site.weights.headDim, rank: rank)
      set(1, [heads * rank, dim], factors.wq, "wq")
      if site.weights.bq != nil { set(2, [heads * rank], factors.bq, "bq") }
      set(3, [heads * rank, dim], factors.wk, "wk")
      // A key's bias adds the same to all scores of a query.
      graph.nodes[site.node].operands[4] = nil
    }
    if valueRank < site.weights.valueDim {
      narrowValues(valueRank, set)
      // Moved into the output's.
      graph.nodes[site.node].operands[6] = nil
    }
    var attributes = old.operation.attributes
    attributes["scale"] = .float(site.scale)
    attributes["head_dim"] = nil
    attributes["value_dim"] = nil
    var reader = AttributeReader(attributes)
    graph.nodes[site.node].operation = try VitAttention(attributes: &reader)
  }

  private func narrowValues(
    _ rank: Int, _ set: (_ operand: Int, _ shape: [Int], _ numbers: [Double], _ name: String) -> Void
  ) {
    let (heads, width) = (site.weights.heads, site.weights.valueDim)
    var (narrow, output) = ([Double](), [Double](repeating: 0, count: outputs * heads * rank))
    for head in 0..<heads {
      let maps = values[head].maps(rank: rank)
      narrow += ScoreFactors.product(
        maps.right, Array(wv[head * width * dim..<(head + 1) * width * dim]), rank, width, dim)
      for row in 0..<outputs {
        for place in 0..<rank {
          var sum = 0.0
          for channel in 0..<width {
            sum += wo[(row * heads + head) * width + channel] * maps.left[place * width + channel]
          }
          output[(row * heads + head) * rank + place] = sum
        }
      }
    }
    // The mean of what the layer gives stays as it was.
    let before = ScoreFactors.product(wv, mean, heads * width, dim, 1)
    let after = ScoreFactors.product(narrow, mean, heads * rank, dim, 1)
    let bias = (0..<outputs).map { row in
      var sum = bo[row]
      for channel in 0..<heads * width {
        sum += wo[row * heads * width + channel] * (before[channel] + bv[channel])
      }
      for channel in 0..<heads * rank { sum -= output[row * heads * rank + channel] * after[channel] }
      return sum
    }
    set(5, [heads * rank, dim], narrow, "wv")
    set(7, [outputs, heads * rank], output, "wo")
    set(8, [outputs], bias, "bo")
  }
}
