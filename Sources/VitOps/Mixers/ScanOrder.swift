public import VitIR

/// A rearrangement of `0..<count`: place `t` holds `indices[t]`.
public struct Permutation: Hashable, Sendable, CustomStringConvertible {
  /// What stands at each place.
  public let indices: [Int]

  /// A permutation; `indices` holds each of `0..<indices.count` once.
  public init(_ indices: [Int]) {
    var seen = [Bool](repeating: false, count: indices.count)
    for index in indices {
      precondition(indices.indices.contains(index) && !seen[index], "\(indices) is no permutation")
      seen[index] = true
    }
    self.indices = indices
  }

  /// How many places there are.
  public var count: Int { indices.count }

  /// What stands at a place.
  public subscript(place: Int) -> Int { indices[place] }

  /// The permutation that undoes this one: at place `i` the place at which this one has `i`.
  public var inverse: Permutation {
    var result = indices
    for (place, index) in indices.enumerated() { result[index] = place }
    return Permutation(result)
  }

  /// The same things, last first.
  public var reversed: Permutation { Permutation(indices.reversed()) }

  /// The indices as a list.
  public var description: String { indices.description }
}

/// In which order the scans of a mixer read the tokens (Mixers.md §0): a value, made of permutations.
///
/// Tokens lie as the teacher has them: `prefix` tokens, of which the first `outputs` are read by a head
/// (class, distillation) and the others are registers, then the patches of `grid` row by row. A mixer has one
/// direction or several.
public struct ScanOrder: Hashable, Sendable {
  /// Which ways the patches are walked.
  public enum Pattern: String, CaseIterable, Sendable {
    /// Row by row.
    case forward
    /// Row by row, and the same reversed.
    case bidirectional
    /// Row by row and column by column, each also reversed.
    case cross
  }

  /// Where the output tokens are read.
  public enum Placement: String, CaseIterable, Sendable {
    /// After the patches, in every direction: they see the whole image.
    case last
    /// Between the two halves of the patches; a reversed direction reverses the whole sequence.
    case middle
    /// Before the patches and again after them, where their results are taken.
    case double
  }

  /// The rows and columns of patches.
  public struct Grid: Hashable, Sendable {
    /// Patches above one another.
    public var rows: Int
    /// Patches side by side.
    public var columns: Int

    /// A grid.
    public init(rows: Int, columns: Int) {
      self.rows = rows
      self.columns = columns
    }

    /// The number of patches.
    public var count: Int { rows * columns }
  }

  /// The ways the patches are walked.
  public var pattern: Pattern
  /// The patches.
  public var grid: Grid
  /// How many tokens come before the patches.
  public var prefix: Int
  /// How many of them, from the first on, are output tokens.
  public var outputs: Int
  /// Where the output tokens are read.
  public var placement: Placement

  /// An order; throws a usage error where the numbers contradict one another.
  public init(
    _ pattern: Pattern, grid: Grid, prefix: Int = 0, outputs: Int? = nil, placement: Placement = .last
  ) throws(VitError) {
    let outputs = outputs ?? min(prefix, 1)
    guard grid.rows >= 0, grid.columns >= 0, prefix >= 0, outputs >= 0, outputs <= prefix else {
      throw VitError(
        "a scan over a grid of \(grid.rows) by \(grid.columns) patches, \(prefix) tokens before them and"
          + " \(outputs) of these read by a head is impossible", kind: .usage, code: "scan-order")
    }
    let (patches, overflow) = grid.rows.multipliedReportingOverflow(by: grid.columns)
    guard !overflow, patches <= ScanOrder.maximumTokens, prefix <= ScanOrder.maximumTokens - patches else {
      throw VitError(
        "a scan over \(grid.rows) by \(grid.columns) patches with \(prefix) tokens before them is too long,"
          + " expected at most \(ScanOrder.maximumTokens) tokens",
        kind: .usage, code: "scan-order")
    }
    self.pattern = pattern
    self.grid = grid
    self.prefix = prefix
    self.outputs = outputs
    self.placement = placement
  }

  /// The most tokens that a scan can have.
  public static let maximumTokens = 1 << 16

  /// The number of tokens.
  public var tokens: Int { prefix + grid.count }

  /// The number of rows that a scan reads: the tokens, and with `double` a copy of each output token behind
  /// them.
  public var rows: Int { tokens + (placement == .double ? outputs : 0) }

  /// The token whose values a row holds.
  public func token(ofRow row: Int) -> Int { row < tokens ? row : row - tokens }

  /// The row whose result is a token's.
  public func row(ofToken token: Int) -> Int {
    placement == .double && token < outputs ? tokens + token : token
  }

  /// The number of directions.
  public var directionCount: Int {
    switch pattern {
    case .forward: 1
    case .bidirectional: 2
    case .cross: 4
    }
  }

  /// The directions: step `t` of one reads row `direction[t]`.
  public var directions: [Permutation] {
    let columns = grid.columns
    let byRow = (0..<grid.count).map { prefix + $0 }
    func forthAndBack(_ patches: [Int]) -> [Permutation] {
      let forth = sequence(patches)
      return [forth, placement == .middle ? forth.reversed : sequence(patches.reversed())]
    }
    switch pattern {
    case .forward: return [sequence(byRow)]
    case .bidirectional: return forthAndBack(byRow)
    case .cross:
      let byColumn = (0..<columns).flatMap { column in
        (0..<grid.rows).map { row in prefix + row * columns + column }
      }
      return forthAndBack(byRow) + forthAndBack(byColumn)
    }
  }

  private func sequence(_ patches: [Int]) -> Permutation {
    let heads = Array(0..<outputs)
    let registers = Array(outputs..<prefix)
    switch placement {
    case .last: return Permutation(registers + patches + heads)
    case .middle:
      let half = patches.count / 2
      return Permutation(patches[..<half] + registers + heads + patches[half...])
    case .double: return Permutation(heads + registers + patches + heads.map { tokens + $0 })
    }
  }
}

extension ScanOrder {
  /// Takes the attributes `order`, `grid`, `prefix`, `outputs` and `placement`.
  init(_ reader: inout AttributeReader) throws(VitError) {
    let pattern = try reader.choice("order", default: Pattern.forward)
    let grid = try reader.ints("grid")
    guard grid.count == 2 else {
      throw VitError("attribute 'grid' has \(grid.count) numbers, expected rows and columns")
    }
    let prefix = try reader.int("prefix", default: 0)
    let outputs = try reader.optionalInt("outputs")
    let placement = try reader.choice("placement", default: Placement.last)
    do {
      try self.init(
        pattern, grid: Grid(rows: grid[0], columns: grid[1]), prefix: prefix, outputs: outputs,
        placement: placement)
    } catch {
      throw VitError(error.diagnostic.message, code: error.diagnostic.code)
    }
  }

  /// The attributes that `init` takes.
  var attributes: [(String, Attribute)] {
    [
      ("order", .string(pattern.rawValue)), ("grid", .ints([grid.rows, grid.columns])),
      ("prefix", .int(prefix)),
      ("outputs", .int(outputs)), ("placement", .string(placement.rawValue)),
    ]
  }
}
