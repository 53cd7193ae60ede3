package import VitIR
internal import VitRuntime

/// How much of attended values the best taps of a `conv` miss: what its closed form leaves, before anything is swapped.
///
/// The taps are those of the default kernel, shared by the channels of a head, with mean and prefix (Mixers.md §2.7).
package struct TapError: Sendable {
  private let grid: TapGrid
  private let heads: Int
  /// Rows of moments, as `Kernel.addTapMoments` orders them, with a column for each head.
  private var moments: [Double]
  /// Σ c² over the patches, for each head.
  private var squares: [Double]

  /// Nothing yet; `nil` where there are no patches, or too many tokens before them.
  package init?(grid patches: ScanOrder.Grid, prefix: Int, heads: Int) {
    guard patches.count > 0, heads > 0 else { return nil }
    let kernel = ConvMixer.kernel(on: patches)
    grid = TapGrid(
      rows: patches.rows, columns: patches.columns, prefix: prefix, kernelRows: kernel[0],
      kernelColumns: kernel[1], border: .zero)
    guard grid.terms(hasMean: true) <= TapGrid.maximumTerms else { return nil }
    self.heads = heads
    moments = [Double](repeating: 0, count: grid.moments(hasMean: true) * heads)
    squares = [Double](repeating: 0, count: heads)
  }

  /// Takes values and attended values of some images into account, `[images, tokens, width]`, `f32`.
  package mutating func add(_ v: View, _ c: View, pool: any WorkPool) {
    let width = v.shape[2]
    precondition(width % heads == 0 && c.shape == v.shape)
    let (rows, own) = (grid.moments(hasMean: true), width / heads)
    var sums = [Double](repeating: 0, count: rows * width)
    Kernel.addTapMoments(grid, hasMean: true, v: v, c: c, to: &sums, pool: pool)
    for index in sums.indices { moments[index / width * heads + index % width / own] += sums[index] }
    let (values, tokens) = (c.f32, grid.tokens)
    for row in 0..<c.shape[0] * tokens where row % tokens >= grid.prefix {
      for head in 0..<heads {
        var sum = 0.0
        for place in row * width + head * own..<row * width + (head + 1) * own {
          sum += Double(values[place]) * Double(values[place])
        }
        squares[head] += sum
      }
    }
  }

  /// Takes into account what another has seen of the same layer.
  package mutating func add(_ later: TapError) {
    for index in moments.indices { moments[index] += later.moments[index] }
    for head in 0..<heads { squares[head] += later.squares[head] }
  }

  /// Σ(c − ĉ)²/Σc² over the patches; `nil` where nothing was seen, or numbers are not finite.
  package var relative: Double? {
    let terms = grid.terms(hasMean: true)
    var (left, all) = (0.0, 0.0)
    for head in 0..<heads {
      let system = TapSystem(terms: terms) { moments[$0 * heads + head] }
      guard let factors = system.solve() else { return nil }
      left += max(0, squares[head] - system.explained(factors))
      all += squares[head]
    }
    return all > 0 && all.isFinite ? left / all : nil
  }
}
