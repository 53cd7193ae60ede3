internal import VitIR
internal import VitRuntime

/// The maps of `vit.static` (Mixers.md §2.8): the mean of the attention's maps Ā, or least squares of the attended values on the
/// values, drawn towards it: A = (X + λĀ)(Γ + λ)⁻¹ with Γ = Σ v·vᵀ and X = Σ c·vᵀ over images and channels of a head.
struct MapFit: InteriorFit {
  private let heads, tokens: Int
  private let isSolved: Bool
  private let values: FittedValues
  private let operand: Int
  /// Γ and behind it X, `[heads, tokens, tokens]` each; empty where nothing is solved.
  private var products: [Double]
  private var maps: MeanMaps
  private var images = 0

  /// The pull towards the mean map, as a part of the mean square of the values.
  private static let ridge = 1e-3

  init(heads: Int, tokens: Int, isSolved: Bool, values: FittedValues, operand: Int) {
    (self.heads, self.tokens, self.isSolved) = (heads, tokens, isSolved)
    (self.values, self.operand) = (values, operand)
    products = [Double](repeating: 0, count: isSolved ? 2 * heads * tokens * tokens : 0)
    maps = MeanMaps(heads: heads, rows: tokens, tokens: tokens)
  }

  var readsMaps: Bool { true }

  mutating func add(_ batch: FitBatch) throws {
    guard batch.x.rank == 3, batch.x.shape[1] == tokens else {
      throw VitError(
        "a batch of \(batch.x.shape) does not fit a mixer of \(tokens) tokens", code: "mixer-fit")
    }
    let sums = TensorType(.f32, fixed: [2, isSolved ? heads : 0, tokens, tokens])
    try values.with(batch, extra: sums) { v, sums in
      images += v.shape[0]
      guard isSolved else { return }
      HeadMaps.addProducts(v, v, rows: tokens, to: sums.slice(0), pool: batch.pool)
      HeadMaps.addProducts(batch.context, v, rows: tokens, to: sums.slice(1), pool: batch.pool)
      for index in products.indices { products[index] += Double(sums.f32[index]) }
    }
    try maps.add(batch.maps)
  }

  func solve() -> [(operand: Int, tensor: Tensor)] {
    guard images > 0 else { return [] }
    var result = maps.mean
    if isSolved {
      let size = tokens * tokens
      for head in 0..<heads {
        var gram = Array(products[head * size..<(head + 1) * size])
        let diagonal = (0..<tokens).reduce(0.0) { $0 + gram[$1 * tokens + $1] } / Double(tokens)
        // Values that are always zero ask for nothing.
        if diagonal == 0 { continue }
        let pull = MapFit.ridge * diagonal
        for token in 0..<tokens { gram[token * tokens + token] += pull }
        guard let system = Cholesky(gram, order: tokens) else { return [] }
        for row in 0..<tokens {
          let range = head * size + row * tokens..<head * size + (row + 1) * tokens
          let wanted = range.map { products[heads * size + $0] + pull * result[$0] }
          result.replaceSubrange(range, with: system.solve(wanted[...]))
        }
      }
    }
    guard result.allSatisfy(\.isFinite) else { return [] }
    return [(operand, Tensor(.f32, shape: [heads, tokens, tokens], values: result))]
  }
}
