internal import VitIR
internal import VitRuntime

/// The taps of `vit.conv` by least squares (Mixers.md §2.7): of the attended values of the patches, channel by channel or head
/// by head, on what the taps read; and for the prefix's own rows the mean of the attention's.
struct TapFit: InteriorFit {
  /// The operands that are fitted.
  struct Places {
    let taps: Int
    let mean: Int?
    let before: Int?
    let rows: Int?
  }

  private let grid: TapGrid
  private let heads: Int
  private let perHead: Bool
  private let values: FittedValues
  private let operands: Places
  /// Rows of moments, as `Kernel.addTapMoments` orders them.
  private var moments: [Double]
  private var maps: MeanMaps
  private var images = 0

  /// The ridge, as a part of the mean square of the terms.
  private static let ridge = 1e-3

  init(_ grid: TapGrid, heads: Int, perHead: Bool, values: FittedValues, operands: Places) {
    (self.grid, self.heads, self.perHead, self.values) = (grid, heads, perHead, values)
    self.operands = operands
    moments = [Double](
      repeating: 0, count: grid.moments(hasMean: operands.mean != nil) * values.width)
    maps = MeanMaps(heads: heads, rows: operands.rows == nil ? 0 : grid.prefix, tokens: grid.tokens)
  }

  /// Where the prefix has rows of its own.
  var readsMaps: Bool { operands.rows != nil }

  mutating func add(_ batch: FitBatch) throws {
    guard batch.x.rank == 3, batch.x.shape[1] == grid.tokens else {
      throw VitError(
        "a batch of \(batch.x.shape) does not fit a mixer of \(grid.tokens) tokens", code: "mixer-fit")
    }
    try values.with(batch, extra: TensorType(.f32, fixed: [0])) { v, _ in
      Kernel.addTapMoments(
        grid, hasMean: operands.mean != nil, v: v, c: batch.context, to: &moments, pool: batch.pool)
      images += v.shape[0]
    }
    if readsMaps { try maps.add(batch.maps) }
  }

  func solve() -> [(operand: Int, tensor: Tensor)] {
    guard images > 0, let solution = terms() else { return [] }
    let (width, terms) = (values.width, grid.terms(hasMean: operands.mean != nil))
    func columns(_ range: Range<Int>, _ shape: [Int]) -> Tensor {
      let picked = (0..<width).flatMap { channel in range.map { solution[channel * terms + $0] } }
      return Tensor(.f32, shape: shape, values: picked)
    }
    var result = [
      (
        operand: operands.taps,
        tensor: columns(0..<grid.taps, [width, grid.kernelRows, grid.kernelColumns])
      )
    ]
    if let mean = operands.mean { result.append((mean, columns(grid.taps..<grid.taps + 1, [width]))) }
    if let before = operands.before {
      result.append((before, columns(terms - grid.prefix..<terms, [width, grid.prefix])))
    }
    if let rows = operands.rows {
      result.append(
        (rows, Tensor(.f32, shape: [heads, grid.prefix, grid.tokens], values: maps.mean)))
    }
    return result
  }

  /// The factors of the terms, `[width, terms]`; `nil` where moments are not finite.
  private func terms() -> [Double]? {
    let (width, count) = (values.width, grid.terms(hasMean: operands.mean != nil))
    let group = perHead ? width / heads : 1
    var result: [Double] = []
    for first in stride(from: 0, to: width, by: group) {
      func moment(_ row: Int) -> Double {
        (first..<first + group).reduce(0) { $0 + moments[row * width + $1] }
      }
      var matrix = [Double](repeating: 0, count: count * count)
      var row = 0
      for a in 0..<count {
        for b in 0...a {
          matrix[a * count + b] = moment(row)
          row += 1
        }
      }
      let right = (0..<count).map { moment(row + $0) }
      let diagonal = (0..<count).reduce(0.0) { $0 + matrix[$1 * count + $1] } / Double(count)
      var factors = [Double](repeating: 0, count: count)
      // Values that are always zero need no taps.
      if diagonal != 0 {
        for a in 0..<count { matrix[a * count + a] += TapFit.ridge * diagonal }
        guard let system = Cholesky(matrix, order: count) else { return nil }
        factors = system.solve(right[...])
        guard factors.allSatisfy(\.isFinite) else { return nil }
      }
      for _ in 0..<group { result += factors }
    }
    return result
  }
}
