internal import VitIR

/// Two operands laid over the row-major elements of a result: the result as a list of runs in which the
/// operands advance by constant steps.
///
/// Axes that both operands run through together are one axis here, so that equal shapes make a single run.
struct Broadcasting {
  /// The extents after neighbouring axes were joined, the innermost last.
  let shape: [Int]
  /// The first operand's step along each.
  let first: [Int]
  /// The second operand's step along each.
  let second: [Int]

  /// Elements of one task, about.
  private static let grain = 32768

  /// Operands of shapes `a` and `b`, which broadcast to `result`.
  init(_ a: [Int], _ b: [Int], to result: [Int]) {
    self.init(shape: result, first: Self.steps(a, result.count), second: Self.steps(b, result.count))
  }

  /// Operands with the given steps along the axes of `result`, which may be zero.
  init(shape result: [Int], first x: [Int], second y: [Int]) {
    var shape: [Int] = []
    var first: [Int] = []
    var second: [Int] = []
    for axis in result.indices.reversed() where result[axis] != 1 {
      if let extent = shape.last, let s = first.last, let t = second.last,
        x[axis] == s * extent, y[axis] == t * extent
      {
        shape[shape.count - 1] = extent * result[axis]
      } else {
        shape.append(result[axis])
        first.append(x[axis])
        second.append(y[axis])
      }
    }
    if shape.isEmpty { (shape, first, second) = ([1], [0], [0]) }
    self.shape = shape.reversed()
    self.first = first.reversed()
    self.second = second.reversed()
  }

  /// Row-major steps of `shape` along `rank` axes, zero where it is repeated.
  private static func steps(_ shape: [Int], _ rank: Int) -> [Int] {
    var result = [Int](repeating: 0, count: rank)
    var step = 1
    for (axis, extent) in shape.enumerated().reversed() {
      if extent != 1 { result[axis + rank - shape.count] = step }
      step *= extent
    }
    return result
  }

  /// The length of a run.
  var length: Int { shape[shape.count - 1] }
  /// The number of runs.
  var runs: Int { shape.dropLast().reduce(1, *) }
  /// The operands' steps within a run.
  var steps: (Int, Int) { (first[first.count - 1], second[second.count - 1]) }

  /// Where the operands are at the beginning of a run.
  func offsets(_ run: Int) -> (Int, Int) {
    var (rest, a, b) = (run, 0, 0)
    for axis in stride(from: shape.count - 2, through: 0, by: -1) {
      let (quotient, index) = rest.quotientAndRemainder(dividingBy: shape[axis])
      a += index * first[axis]
      b += index * second[axis]
      rest = quotient
    }
    return (a, b)
  }

  /// Calls `body(result, first, second, count)` with the offsets of pieces that cover the result once, in
  /// parallel.
  func forEachPiece(_ pool: any WorkPool, _ body: (Int, Int, Int, Int) -> Void) {
    let (length, runs, steps) = (length, runs, steps)
    guard length > 0, runs > 0 else { return }
    let pieces = (length + Self.grain - 1) / Self.grain
    let group = max(1, Self.grain / length)
    pool.run(tasks: (runs + group - 1) / group * pieces) { task, _ in
      let (block, piece) = task.quotientAndRemainder(dividingBy: pieces)
      let start = piece * Self.grain
      let count = min(length - start, Self.grain)
      for run in block * group..<min(runs, (block + 1) * group) {
        let (a, b) = offsets(run)
        body(run * length + start, a + start * steps.0, b + start * steps.1, count)
      }
    }
  }

  /// Calls `body` as `forEachPiece` does, so that no two concurrent calls see one element of the first
  /// operand, and all calls for one element come in the order of the result: for sums into that operand.
  func forEachPieceOwningFirst(_ pool: any WorkPool, _ body: (Int, Int, Int, Int) -> Void) {
    guard length > 0, runs > 0 else { return }
    if !first.contains(0) { return forEachPiece(pool, body) }
    let (length, runs, steps) = (length, runs, steps)
    let width = steps.0 == 0 || runs * length < Self.grain ? length : 64
    pool.run(tasks: (length + width - 1) / width) { task, _ in
      let start = task * width
      let count = min(length - start, width)
      for run in 0..<runs {
        let (a, b) = offsets(run)
        body(run * length + start, a + start * steps.0, b + start * steps.1, count)
      }
    }
  }
}

/// `y[i] ← f(a[i], b[i])` over a run; the steps of `a` and `b` may be zero.
@inline(__always)
func mapRun<A, B, C>(
  _ count: Int, _ a: UnsafeMutablePointer<A>, _ aStep: Int, _ b: UnsafeMutablePointer<B>, _ bStep: Int,
  _ y: UnsafeMutablePointer<C>, _ f: (A, B) -> C
) {
  switch (aStep, bStep) {
  case (1, 1): for i in 0..<count { y[i] = f(a[i], b[i]) }
  case (1, 0):
    let right = b[0]
    for i in 0..<count { y[i] = f(a[i], right) }
  case (0, 1):
    let left = a[0]
    for i in 0..<count { y[i] = f(left, b[i]) }
  default: for i in 0..<count { y[i] = f(a[i * aStep], b[i * bStep]) }
  }
}

extension Broadcasting {
  /// `y ← f(a, b)`.
  @inline(__always)
  func map<A, B, C>(
    _ a: View, _ b: View, _ y: View, _ pool: any WorkPool, as types: (A.Type, B.Type, C.Type),
    _ f: (A, B) -> C
  ) {
    let (left, right, result) = (a.pointer(as: A.self), b.pointer(as: B.self), y.pointer(as: C.self))
    let steps = steps
    forEachPiece(pool) { at, i, j, count in
      mapRun(count, left + i, steps.0, right + j, steps.1, result + at, f)
    }
  }

  /// `da ← da + dy·slope(a, b, y)`, summed over what was repeated; the first operand is the one that is
  /// differentiated.
  @inline(__always)
  func accumulate<T: Real, B>(
    _ a: View, _ b: View, _ dy: View, into da: View, _ pool: any WorkPool, as types: (T.Type, B.Type),
    _ slope: (T, B) -> T
  ) {
    let (left, right) = (a.pointer(as: T.self), b.pointer(as: B.self))
    let (source, sink) = (dy.pointer(as: T.self), da.pointer(as: T.self))
    let (s, t) = steps
    forEachPieceOwningFirst(pool) { at, i, j, count in
      if s == 1 {
        if t == 1 {
          for k in 0..<count { sink[i + k] += source[at + k] * slope(left[i + k], right[j + k]) }
        } else {
          for k in 0..<count { sink[i + k] += source[at + k] * slope(left[i + k], right[j + k * t]) }
        }
      } else if s == 0 {
        var sum: T = 0
        for k in 0..<count { sum += source[at + k] * slope(left[i], right[j + k * t]) }
        sink[i] += sum
      } else {
        for k in 0..<count { sink[i + k * s] += source[at + k] * slope(left[i + k * s], right[j + k * t]) }
      }
    }
  }

  /// The same with the operands' roles exchanged.
  var swapped: Broadcasting { Broadcasting(shape: shape, first: second, second: first) }

}

/// The shape that all of these shapes broadcast to.
func broadcastAll(_ shapes: [Shape]) throws(VitError) -> Shape {
  var result: Shape = []
  for shape in shapes { result = try broadcast(result, shape) }
  return result
}
