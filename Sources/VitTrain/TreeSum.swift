/// What a tree adds up.
public protocol TreeTerm {
  /// Adds what comes after it.
  mutating func add(_ later: Self)
}

extension Double: TreeTerm {
  /// Adds a number.
  public mutating func add(_ later: Double) { self += later }
}

extension Array: TreeTerm where Element: TreeTerm {
  /// Adds entry by entry; both have as many.
  public mutating func add(_ later: [Element]) {
    precondition(count == later.count)
    for index in indices { self[index].add(later[index]) }
  }
}

/// The sum of numbered terms in a tree that their numbers decide: neighbours `2i` and `2i + 1` are added, then the sums of
/// neighbouring pairs, and so on; at the end what is left over, from the right.
///
/// So terms that were summed in several places, each a run of them, add up to the same bits as in one.
public struct TreeSum<Term: TreeTerm> {
  /// The sum of the terms `place << level ..< (place + 1) << level`.
  private struct Part {
    var level: Int
    var place: Int
    var value: Term
  }

  private var parts: [Part] = []
  private var next: Int

  /// A sum whose first term has the number `first`.
  public init(first: Int = 0) { next = first }

  /// Adds the next term.
  public mutating func add(_ term: Term) {
    append(Part(level: 0, place: next, value: term))
    next += 1
  }

  /// Adds the sum of the terms that follow.
  public mutating func add(_ other: TreeSum) {
    for part in other.parts { append(part) }
    next = other.next
  }

  private mutating func append(_ part: Part) {
    var part = part
    while let last = parts.last, last.level == part.level, last.place + 1 == part.place, last.place % 2 == 0 {
      part = Part(level: part.level + 1, place: last.place / 2, value: last.value.adding(part.value))
      parts.removeLast()
    }
    parts.append(part)
  }

  /// The sum, or `nil` where there was no term.
  public var total: Term? {
    guard var sum = parts.last?.value else { return nil }
    for part in parts.dropLast().reversed() { sum = part.value.adding(sum) }
    return sum
  }
}

extension TreeTerm {
  fileprivate func adding(_ later: Self) -> Self {
    var sum = self
    sum.add(later)
    return sum
  }
}
