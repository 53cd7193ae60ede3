/// Which axes of an operation's operands and results run side by side, as the letters of an einsum say it.
///
/// An axis that no letter names is mixed: nothing is said of how its entries depend on others. No letters at
/// all: the operation mixes everything.
public struct AxisMap: Hashable, Sendable {
  /// One letter: an axis that some operands and results have in common.
  public struct Letter: Hashable, Sendable {
    /// How the entries along it belong together.
    public enum Kind: Hashable, Sendable {
      /// Entry i of each result is computed from the entries i of the operands that have the axis, and from
      /// all of those that have not, the same way for every i: entries can change places, be left out or repeated.
      case parallel
      /// Entry i of the results belongs to entry i of the operands, but others have a part in it (softmax,
      /// a window, a scan), or its number i.
      case aligned
      /// Operands and results hold ranges of entries, which are moved as they are: `starts` say which.
      case ranges
    }

    /// How the entries belong together.
    public var kind: Kind
    /// The axis of each operand, `nil` where it has none; operands behind the last have none.
    public var operands: [Int?]
    /// The axis of each result.
    public var results: [Int?]
    /// Of `ranges`: the first entry that each operand holds; zero behind the last.
    public var operandStarts: [Dimension]
    /// Of `ranges`: the first entry that each result holds.
    public var resultStarts: [Dimension]

    /// A letter.
    public init(
      _ kind: Kind, _ operands: [Int?], _ results: [Int?], operandStarts: [Dimension] = [],
      resultStarts: [Dimension] = []
    ) {
      self.kind = kind
      self.operands = operands
      self.results = results
      self.operandStarts = operandStarts
      self.resultStarts = resultStarts
    }

    /// The axis of an operand.
    public func axis(ofOperand index: Int) -> Int? { index < operands.count ? operands[index] : nil }

    /// The axis of a result.
    public func axis(ofResult index: Int) -> Int? { index < results.count ? results[index] : nil }
  }

  /// The letters.
  public var letters: [Letter]
  /// Whether result 0 has the elements of operand 0 in their order, under other extents.
  public var regroups: Bool
  /// Whether an operand may have one entry along a letter for all that the others have.
  public var broadcasts: Bool

  /// A map of these letters.
  public init(_ letters: [Letter] = [], regroups: Bool = false, broadcasts: Bool = false) {
    self.letters = letters
    self.regroups = regroups
    self.broadcasts = broadcasts
  }

  /// Nothing runs side by side.
  public static let mixed = AxisMap()

  /// The letter of a result's axis, that of an operand first.
  public func letter(ofResult result: Int = 0, axis: Int) -> Letter? {
    let found = letters.filter { $0.axis(ofResult: result) == axis }
    return found.first { $0.operands.contains { $0 != nil } } ?? found.first
  }

  // MARK: Maps that many operations share

  /// Each element of the results from those at its place in the operands that `indices` lists, which broadcast.
  public static func pointwise(
    _ operands: Operands, _ results: [TensorType], of indices: [Int]? = nil
  ) -> AxisMap {
    guard let shape = results.first?.shape else { return .mixed }
    let letters = shape.indices.map { axis in
      Letter(
        .parallel, broadcastAxes(operands, indices ?? Array(0..<operands.count), axis, of: shape),
        results.map { $0.rank == shape.count ? axis : nil })
    }
    return AxisMap(letters, broadcasts: true)
  }

  /// For each operand its axis that broadcasts to `axis` of `shape`; `nil` where it is none of `indices`, has
  /// no such axis, or is repeated along it.
  public static func broadcastAxes(
    _ operands: Operands, _ indices: [Int], _ axis: Int, of shape: Shape
  ) -> [Int?] {
    (0..<operands.count).map { index in
      guard indices.contains(index), let own = operands[index]?.shape else { return nil }
      let place = axis - (shape.count - own.count)
      guard place >= 0, own[place] == shape[axis] || own[place] != 1 else { return nil }
      return place
    }
  }

  /// Operand 0 and all results of its rank have the same axes; those in `aligned` are looked along.
  public static func rows(
    _ operands: Operands, _ results: [TensorType], aligned: (Int) -> Bool
  ) -> AxisMap {
    guard let rank = operands[0]?.rank else { return .mixed }
    return AxisMap(
      (0..<rank).map { axis in
        Letter(
          aligned(axis) ? .aligned : .parallel, [axis],
          results.map { $0.rank == rank && (!aligned(axis) || $0.shape[axis] != 1) ? axis : nil })
      })
  }

  /// The first axes of operand 0 and the results, up to `count`, run side by side.
  public static func leading(_ count: Int, _ results: [TensorType]) -> AxisMap {
    AxisMap((0..<max(0, count)).map { axis in Letter(.parallel, [axis], results.map { _ in axis }) })
  }

  /// This map with one more letter.
  public func adding(_ letter: Letter) -> AxisMap {
    AxisMap(letters + [letter], regroups: regroups, broadcasts: broadcasts)
  }
}

/// Where a value holds entries that belong together, images for one: along an axis, each once after every
/// `outer`-th part of that axis.
public struct AxisPlace: Hashable, Sendable {
  /// The axis.
  public var axis: Int
  /// How many parts of the axis lie outside of the entries.
  public var outer: Int

  /// A place; the whole axis unless parts of it lie outside.
  public init(axis: Int, outer: Int = 1) {
    self.axis = axis
    self.outer = outer
  }

  /// Where `count` entries at this place of `source` may be among the same elements under the extents
  /// `target`.
  ///
  /// In memory the entries lie apart by what the axes before theirs hold; the same must be so in the result.
  public func regrouped(from source: Shape, to target: Shape, count: Dimension) -> [AxisPlace] {
    let before = source[..<axis].reduce(.fixed(outer), *)
    var places: [AxisPlace] = []
    for (index, extent) in target.enumerated() {
      let leading = target[..<index].reduce(.fixed(1), *)
      guard let rest = before.exactlyDivided(by: leading)?.fixedValue, rest > 0,
        rest == 1 || (extent.fixedValue ?? 1) % rest == 0
      else { continue }
      if count != 1, extent.exactlyDivided(by: .fixed(rest) * count) == nil { continue }
      places.append(AxisPlace(axis: index, outer: rest))
    }
    return places
  }
}
