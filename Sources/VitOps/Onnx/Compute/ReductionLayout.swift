internal import VitIR

/// How a row-major tensor is reduced over some of its axes: its axes joined into runs that are kept or reduced.
struct ReductionLayout {
  /// A run of neighbouring axes.
  private struct Axis {
    var extent: Int
    var step: Int
    var isReduced: Bool
  }

  private let kept: [Axis]
  private let reduced: [Axis]
  private let inner: Axis
  /// The number of elements of a result.
  let results: Int
  /// How many elements each of them is made from.
  let terms: Int

  private static let grain = 16384

  /// A tensor of `shape`, reduced over the axes for which `isReduced` is true.
  init(_ shape: [Int], _ isReduced: [Bool]) {
    var axes: [Axis] = []
    for index in shape.indices.reversed() where shape[index] != 1 {
      if let last = axes.last, last.isReduced == isReduced[index] {
        axes[axes.count - 1].extent *= shape[index]
      } else {
        let step = axes.last.map { $0.step * $0.extent } ?? 1
        axes.append(Axis(extent: shape[index], step: step, isReduced: isReduced[index]))
      }
    }
    axes.reverse()
    results = axes.reduce(1) { $1.isReduced ? $0 : $0 * $1.extent }
    terms = axes.reduce(1) { $1.isReduced ? $0 * $1.extent : $0 }
    inner = axes.popLast() ?? Axis(extent: 1, step: 1, isReduced: true)
    kept = axes.filter { !$0.isReduced }
    reduced = axes.filter(\.isReduced)
  }

  private static func offset(_ index: Int, _ axes: [Axis]) -> Int {
    var (rest, result) = (index, 0)
    for axis in axes.reversed() {
      let (quotient, place) = rest.quotientAndRemainder(dividingBy: axis.extent)
      result += place * axis.step
      rest = quotient
    }
    return result
  }

  /// `y ← finish(join(… join(initial, x) …))`; `join` must not mind the order, which shape alone decides.
  @inline(__always)
  func reduce<T>(
    _ x: View, into y: View, _ pool: any WorkPool, initial: T, term: (T) -> T, join: (T, T) -> T,
    finish: (T) -> T
  ) {
    let (source, target) = (x.pointer(as: T.self), y.pointer(as: T.self))
    let outer = kept.reduce(1) { $0 * $1.extent }
    let repeats = reduced.reduce(1) { $0 * $1.extent }
    let length = inner.extent
    if inner.isReduced {
      let group = max(1, Self.grain / max(1, terms))
      pool.run(tasks: (outer + group - 1) / group) { task, _ in
        for result in task * group..<min(outer, (task + 1) * group) {
          let base = source + Self.offset(result, kept)
          var total = initial
          for index in 0..<repeats {
            let row = base + Self.offset(index, reduced)
            // Eight sums side by side: faster, and nearer to the truth.
            var (a, b, c, d) = (initial, initial, initial, initial)
            var (e, f, g, h) = (initial, initial, initial, initial)
            var i = 0
            while i + 8 <= length {
              a = join(a, term(row[i]))
              b = join(b, term(row[i + 1]))
              c = join(c, term(row[i + 2]))
              d = join(d, term(row[i + 3]))
              e = join(e, term(row[i + 4]))
              f = join(f, term(row[i + 5]))
              g = join(g, term(row[i + 6]))
              h = join(h, term(row[i + 7]))
              i += 8
            }
            while i < length {
              a = join(a, term(row[i]))
              i += 1
            }
            total = join(total, join(join(join(a, b), join(c, d)), join(join(e, f), join(g, h))))
          }
          target[result] = finish(total)
        }
      }
    } else {
      let width = max(16, min(length, Self.grain / max(1, terms)))
      let pieces = (length + width - 1) / width
      pool.run(tasks: outer * pieces) { task, _ in
        let (result, piece) = task.quotientAndRemainder(dividingBy: max(1, pieces))
        let start = piece * width
        let count = min(length - start, width)
        let base = source + Self.offset(result, kept) + start
        let row = target + result * length + start
        for i in 0..<count { row[i] = initial }
        for index in 0..<repeats {
          let from = base + Self.offset(index, reduced)
          for i in 0..<count { row[i] = join(row[i], term(from[i])) }
        }
        for i in 0..<count { row[i] = finish(row[i]) }
      }
    }
  }
}
