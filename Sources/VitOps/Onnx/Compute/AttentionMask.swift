internal import VitIR

/// What is added to attention scores, and which keys a query may not see.
struct AttentionMask {
  /// Something laid over `[batch, heads, queries, keys]` with steps that may be zero: a float is added, of a
  /// truth value or whole number zero means that the key is not seen.
  struct Term {
    var view: View
    var batch: Int
    var head: Int
    var query: Int
    var key: Int
    /// The keys that it covers; those beyond are not seen.
    var keys: Int

    /// A tensor that broadcasts to scores, the last axis aside, aligned at the last axis.
    init(_ view: View) {
      let strides = view.strides
      func step(_ back: Int) -> Int {
        let axis = view.rank - back
        return axis < 0 || view.shape[axis] == 1 ? 0 : strides[axis]
      }
      self.view = view
      (batch, head, query, key) = (step(4), step(3), step(2), 1)
      keys = view.shape.last ?? 1
    }

    /// A tensor `[batch, keys]`.
    init(items view: View) {
      self.view = view
      (batch, head, query, key) = (view.shape[1], 0, 0, 1)
      keys = view.shape[1]
    }

    /// A tensor `[batch, queries, keys]`.
    init(queries view: View) {
      self.view = view
      (batch, head, query, key) = (view.shape[1] * view.shape[2], 0, view.shape[2], 1)
      keys = view.shape[2]
    }
  }

  var terms: [Term] = []
  /// How far a query sees before and after its own position; `nil`: without limit.
  var left: Int?
  var right: Int?
  /// The key at the position of the first query.
  var offset = 0
  /// The number of keys of each item, which count from `starts`, or from the first.
  var lengths: View?
  var starts: View?
  /// Whether the last query of an item is at its last key, whatever `offset` says.
  var endsWithItem = false
  /// What is added to the score of a key that is not seen.
  var fill = -Double.infinity
  /// The score of a key beyond the limits, unless it is minus infinity already.
  var beyond = -Double.infinity
  /// Whether adding the lowest of f32 hides a key like minus infinity.
  var hidesLowest = false

  private static func entry(_ view: View, _ index: Int) -> Int {
    view.element == .i64 ? Int(view.pointer(as: Int64.self)[index]) : Int(view.pointer(as: Int32.self)[index])
  }

  /// Masks the scores of queries `first..<first + count` of one item and head, a row of `keys` each.
  func apply<T: Real>(
    _ scores: UnsafeMutablePointer<T>, item: Int, head: Int, first: Int, count: Int, queries: Int, keys: Int
  ) {
    let fill = T(fill)
    @inline(__always) func hide(_ row: UnsafeMutablePointer<T>, _ range: Range<Int>) {
      if fill.isInfinite {
        for key in range { row[key] = fill }
      } else {
        for key in range { row[key] += fill }
      }
    }
    let lowest = hidesLowest ? -T(Float.greatestFiniteMagnitude) : -T.infinity
    for term in terms {
      for index in 0..<count {
        let row = scores + index * keys
        let start = item * term.batch + head * term.head + (first + index) * term.query
        let covered = min(keys, term.keys)
        switch term.view.element {
        case .f32, .f64:
          let values = term.view.pointer(as: T.self) + start
          for key in 0..<covered {
            let value = values[key * term.key]
            row[key] += value <= lowest ? -T.infinity : value
          }
        case .i64:
          let values = term.view.pointer(as: Int64.self) + start
          for key in 0..<covered where values[key * term.key] == 0 { hide(row, key..<key + 1) }
        case .i32:
          let values = term.view.pointer(as: Int32.self) + start
          for key in 0..<covered where values[key * term.key] == 0 { hide(row, key..<key + 1) }
        default:
          let values = term.view.pointer(as: UInt8.self) + start
          for key in 0..<covered where values[key * term.key] == 0 { hide(row, key..<key + 1) }
        }
        for key in covered..<keys { row[key] = -T.infinity }
      }
    }
    let end = lengths.map { min(keys, max(0, Self.entry($0, item))) } ?? keys
    let start = starts.map { min(keys, max(0, Self.entry($0, item))) } ?? 0
    let offset = endsWithItem ? (lengths.map { Self.entry($0, item) } ?? keys) - queries : offset
    for index in 0..<count {
      let row = scores + index * keys
      if end < keys { hide(row, end..<keys) }
      if start > 0 { hide(row, 0..<start) }
      let position = first + index + offset
      func limit(_ range: Range<Int>) {
        for key in range where row[key] != -T.infinity { row[key] = T(beyond) }
      }
      if let right { limit(min(keys, max(0, position + right + 1))..<keys) }
      if let left { limit(0..<min(keys, max(0, position - left))) }
    }
  }

  /// Adds the gradient of scores as `apply` masked them to that of a term.
  static func accumulate<T: Real>(
    _ gradient: UnsafeMutablePointer<T>, into sink: Term, item: Int, head: Int, first: Int, count: Int,
    keys: Int
  ) {
    let target = sink.view.pointer(as: T.self) + item * sink.batch + head * sink.head
    for index in 0..<count {
      let row = target + (first + index) * sink.query
      for key in 0..<min(keys, sink.keys) { row[key * sink.key] += gradient[index * keys + key] }
    }
  }
}
