internal import CVitKernels
public import VitIR

/// What a tap reads that lies beyond the border of the grid.
public enum TapBorder: String, CaseIterable, Sendable {
  /// Nothing.
  case zero
  /// The nearest patch.
  case edge
  /// The patch whose result it is, so that a constant stays one.
  case centre
}

/// Depthwise taps on a grid: where the patches lie, and which of their neighbours a patch reads.
public struct TapGrid: Hashable, Sendable {
  /// Patches above one another; at least 1.
  public let rows: Int
  /// Patches side by side; at least 1.
  public let columns: Int
  /// How many tokens come before the patches.
  public let prefix: Int
  /// Taps above one another; odd.
  public let kernelRows: Int
  /// Taps side by side; odd.
  public let kernelColumns: Int
  /// What is read beyond the border.
  public let border: TapBorder

  /// A grid.
  public init(
    rows: Int, columns: Int, prefix: Int, kernelRows: Int, kernelColumns: Int, border: TapBorder
  ) {
    precondition(rows > 0 && columns > 0 && prefix >= 0)
    precondition(kernelRows % 2 == 1 && kernelColumns % 2 == 1 && kernelRows > 0 && kernelColumns > 0)
    precondition(kernelRows * kernelColumns <= TapGrid.maximumTerms)
    self.rows = rows
    self.columns = columns
    self.prefix = prefix
    self.kernelRows = kernelRows
    self.kernelColumns = kernelColumns
    self.border = border
  }

  /// The most taps of a kernel, and the most terms that `tapMoments` takes.
  public static let maximumTerms = Int(VK_TAPS_TERMS)

  /// The number of taps.
  public var taps: Int { kernelRows * kernelColumns }

  /// The number of patches.
  public var patches: Int { rows * columns }

  /// The number of tokens.
  public var tokens: Int { prefix + patches }

  /// The terms that a patch's result is a sum of: the taps, the mean of the patches where `hasMean`, the tokens before them.
  public func terms(hasMean: Bool) -> Int { taps + (hasMean ? 1 : 0) + prefix }

  /// The rows that `tapMoments` gives: Σ fₐ·f_b for each a and b ≤ a, then Σ fₐ·c for each a.
  public func moments(hasMean: Bool) -> Int {
    let terms = terms(hasMean: hasMean)
    return terms * (terms + 1) / 2 + terms
  }

  fileprivate func grid(width: Int) -> vk_taps_grid {
    vk_taps_grid(
      rows: rows, columns: columns, prefix: prefix, kernel_rows: kernelRows, kernel_columns: kernelColumns,
      border: Int32(border == .zero ? VK_TAPS_ZERO : border == .edge ? VK_TAPS_EDGE : VK_TAPS_CENTRE),
      width: width)
  }
}

extension Kernel {
  /// Depthwise taps (Mixers.md §2.7): `c ← taps·v + mean·(mean of the patches) + Σ before·v` in the rows of patches, zero
  /// in those before them.
  ///
  /// `v` and `c` are `[items, tokens, channels]`, `taps` `[taps, channels]` row by row of the kernel, `mean` `[channels]`
  /// where there is one, `before` `[prefix, channels]`.
  public static func taps(
    _ grid: TapGrid, v: View, taps: View, mean: View?, before: View, into c: View, pool: any WorkPool
  ) {
    check(grid, v, taps, mean, before)
    precondition(c.count == v.count && c.element == v.element)
    let type = real(v)
    forTaps(grid, v, pool) { shape, item, low, channels in
      let at = item * v.shape[1] * v.shape[2] + low
      vk_taps(type, &shape, channels, v.at(at), taps.at(low), mean?.at(low), before.at(low), c.at(at))
    }
  }

  /// The gradients of `taps`, written: of `v` over `dv`, and for each item those of taps, mean (if there is one) and
  /// before over the rows of `sums`, `[items, terms, channels]`.
  public static func tapsGradient(
    _ grid: TapGrid, v: View, taps: View, mean: View?, before: View, dc: View, into dv: View, sums: View,
    pool: any WorkPool
  ) {
    check(grid, v, taps, mean, before)
    let terms = grid.terms(hasMean: mean != nil)
    precondition([dc, dv].allSatisfy { $0.count == v.count && $0.element == v.element })
    precondition(sums.count == v.shape[0] * terms * v.shape[2] && sums.element == v.element)
    let type = real(v)
    forTaps(grid, v, pool) { shape, item, low, channels in
      let at = item * v.shape[1] * v.shape[2] + low
      vk_taps_gradient(
        type, &shape, channels, v.at(at), taps.at(low), mean?.at(low), before.at(low), dc.at(at), dv.at(at),
        sums.at(item * terms * v.shape[2] + low))
    }
  }

  /// Adds to `sums`, `[moments, channels]`, the moments of the terms of `taps` and of the wanted `c` over the patches of all
  /// items, items in order; products of one item are summed in single precision. `v` and `c` are `f32`.
  public static func addTapMoments(
    _ grid: TapGrid, hasMean: Bool, v: View, c: View, to sums: inout [Double], pool: any WorkPool
  ) {
    let (channels, moments) = (v.shape[2], grid.moments(hasMean: hasMean))
    precondition(v.rank == 3 && v.shape[1] == grid.tokens && c.count == v.count)
    precondition(v.element == .f32 && c.element == .f32 && sums.count == moments * channels)
    precondition(grid.terms(hasMean: hasMean) <= TapGrid.maximumTerms)
    // As few channels as can be, so that the sums of a task stay in a cache.
    precondition(moments * tapGrain * v.element.size <= WorkScratch.byteCount)
    let width = grid.grid(width: channels)
    sums.withUnsafeMutableBufferPointer { buffer in
      let pieces = tapPieces(channels, most: tapGrain)
      pool.run(tasks: pieces) { piece, worker in
        let (low, high) = tapPiece(piece, of: pieces, channels)
        var shape = width
        let own = View(base: pool.scratch(worker), element: .f32, count: moments * (high - low)).f32
        for item in 0..<v.shape[0] {
          let at = item * v.shape[1] * channels + low
          vk_taps_moments(VK_F32, &shape, high - low, hasMean ? 1 : 0, v.at(at), c.at(at), own)
          for moment in 0..<moments {
            for channel in low..<high {
              buffer[moment * channels + channel] += Double(own[moment * (high - low) + channel - low])
            }
          }
        }
      }
    }
  }

  /// Channels that a task takes at the most: few enough that what it reads of an image of some hundred patches stays in a
  /// cache of the second level.
  private static let tapChannels = 192
  /// Tasks take whole vectors of channels.
  private static let tapGrain = 16

  private static func check(_ grid: TapGrid, _ v: View, _ taps: View, _ mean: View?, _ before: View) {
    precondition(v.rank == 3 && v.shape[1] == grid.tokens)
    precondition(taps.count == grid.taps * v.shape[2] && taps.element == v.element)
    precondition(mean.map { $0.count == v.shape[2] && $0.element == v.element } ?? true)
    precondition(before.count == grid.prefix * v.shape[2] && before.element == v.element)
  }

  private static func tapPieces(_ channels: Int, most: Int) -> Int { (channels + most - 1) / most }

  private static func tapPiece(_ piece: Int, of pieces: Int, _ channels: Int) -> (low: Int, high: Int) {
    let blocks = (channels + tapGrain - 1) / tapGrain
    return (
      blocks * piece / pieces * tapGrain, min(channels, blocks * (piece + 1) / pieces * tapGrain)
    )
  }

  /// Runs `body` on the item, the first channel and the channels of each task.
  private static func forTaps(
    _ grid: TapGrid, _ v: View, _ pool: any WorkPool,
    _ body: (_ grid: inout vk_taps_grid, _ item: Int, _ low: Int, _ channels: Int) -> Void
  ) {
    guard v.count > 0 else { return }
    let shape = grid.grid(width: v.shape[2])
    let pieces = tapPieces(v.shape[2], most: tapChannels)
    pool.run(tasks: v.shape[0] * pieces) { task, _ in
      let (low, high) = tapPiece(task % pieces, of: pieces, shape.width)
      var shape = shape
      body(&shape, task / pieces, low, high - low)
    }
  }
}
