internal import VitIR
internal import VitRuntime

/// Sums of products of tokens, each with a one behind it: of those that attend, and of all. In double, in the order of the
/// batches.
struct TokenMoments {
  /// `[dim + 1, dim + 1]`, row by row.
  private(set) var first: [Double]
  private(set) var all: [Double]
  private let dim: Int
  private let count: Int

  /// No tokens of `dim` channels yet, of which the first `count` of an image attend.
  init(dim: Int, attending count: Int) {
    self.dim = dim
    self.count = count
    first = [Double](repeating: 0, count: (dim + 1) * (dim + 1))
    all = first
  }

  /// Adds a batch of tokens, `[batch, tokens, dim]`.
  mutating func add(_ x: View, pool: any WorkPool) throws {
    let (batch, tokens, width) = (x.shape[0], x.shape[1], dim + 1)
    let arena = try Arena(byteCount: 8 * (batch * tokens + width) * width + 1024, for: "reducing scores")
    let rows = arena.view(TensorType(.f64, fixed: [batch * tokens, width]), at: 0)
    let sums = arena.view(
      TensorType(.f64, fixed: [width, width]),
      at: (rows.byteCount + Arena.alignment) / Arena.alignment * Arena.alignment)
    func add(_ count: Int, to total: inout [Double]) {
      var row = 0
      for image in 0..<batch {
        for token in 0..<count {
          let source = x.f32 + (image * tokens + token) * dim
          for channel in 0..<dim { rows.f64[row * width + channel] = Double(source[channel]) }
          rows.f64[row * width + dim] = 1
          row += 1
        }
      }
      Kernel.gemm(transA: true, m: width, n: width, k: row, a: rows, b: rows, c: sums, pool: pool)
      for index in total.indices { total[index] += sums.f64[index] }
    }
    add(count, to: &first)
    add(tokens, to: &all)
  }
}
