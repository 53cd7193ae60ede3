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
      let system = TapSystem(terms: count) { row in
        (first..<first + group).reduce(0) { $0 + moments[row * width + $1] }
      }
      guard let factors = system.solve() else { return nil }
      for _ in 0..<group { result += factors }
    }
    return result
  }
}

/// The regression of attended values on the terms of taps, as moments: G = Σ f·fᵀ and r = Σ f·c.
struct TapSystem {
  private let terms: Int
  /// G, of which the lower triangle is filled, and r.
  private var gram: [Double]
  private let cross: [Double]

  /// The ridge, as a part of the mean square of the terms.
  private static let ridge = 1e-3

  /// A system of the rows of moments, as `Kernel.addTapMoments` orders them.
  init(terms: Int, moment: (_ row: Int) -> Double) {
    self.terms = terms
    gram = [Double](repeating: 0, count: terms * terms)
    var row = 0
    for a in 0..<terms {
      for b in 0...a {
        gram[a * terms + b] = moment(row)
        row += 1
      }
    }
    cross = (0..<terms).map { moment(row + $0) }
  }

  /// The factors, zeros where all terms are; `nil` where moments are not finite.
  func solve() -> [Double]? {
    let diagonal = (0..<terms).reduce(0.0) { $0 + gram[$1 * terms + $1] } / Double(terms)
    if diagonal == 0 { return [Double](repeating: 0, count: terms) }
    var matrix = gram
    for a in 0..<terms { matrix[a * terms + a] += TapSystem.ridge * diagonal }
    guard let factors = Cholesky(matrix, order: terms)?.solve(cross[...]), factors.allSatisfy(\.isFinite)
    else { return nil }
    return factors
  }

  /// By how much the factors make Σ c² less.
  func explained(_ factors: [Double]) -> Double {
    var result = 0.0
    for a in 0..<terms {
      result += factors[a] * (2 * cross[a] - factors[a] * gram[a * terms + a])
      for b in 0..<a { result -= 2 * factors[a] * factors[b] * gram[a * terms + b] }
    }
    return result
  }
}
