internal import CVitKernels
public import VitIR

/// A function of two operands, applied to each pair of elements.
public enum BinaryKind: Int32, Sendable, CaseIterable {
  case add, subtract, multiply, divide, power
  /// NaN wins; the gradient of equal operands is halved between them.
  case maximum, minimum
}

extension Kernel {
  /// `y ← f(a, b)`, or `y ← y + f(a, b)` where `adding`, with `a` and `b` broadcast to `y` (last axes align).
  ///
  /// `f32`, `f64`, `i64`, `i32`. `y` may be an operand of the same shape. Whole numbers wrap; a quotient is cut
  /// toward zero, one by 0 is 0, and a power with a negative exponent is the quotient of 1.
  public static func binary(
    _ kind: BinaryKind, _ a: View, _ b: View, into y: View, adding: Bool = false, pool: any WorkPool
  ) {
    precondition(a.element == y.element && b.element == y.element)
    guard y.count > 0 else { return }
    var walk = broadcastWalk(y.shape, y, a, b)
    switch y.element {
    case .i64: return whole(kind, adding, &walk, y.pointer(as: Int64.self), a.pointer(), b.pointer())
    case .i32: return whole(kind, adding, &walk, y.pointer(as: Int32.self), a.pointer(), b.pointer())
    default: break
    }
    let type = real(y)
    forParts(of: walk, grain: elementwiseGrain, pool: pool) { part in
      vk_binary(
        type, kind.rawValue, adding ? 1 : 0, &part.walk, y.at(part.offset.0), a.at(part.offset.1),
        b.at(part.offset.2))
    }
  }

  /// The same of floats where `y` is laid out as `a`, and `b`, of the last elements' extents, is repeated as often as `a` is
  /// longer. `y` may be `a`, or `b` where that is as long.
  public static func binary(
    _ kind: BinaryKind, _ a: View, repeating b: View, into y: View, adding: Bool = false, pool: any WorkPool
  ) {
    guard a.count > 0 else { return }
    precondition(a.element == y.element && b.element == y.element && y.count == a.count)
    precondition(b.count > 0 && a.count % b.count == 0)
    let type = real(y)
    let walk = vk_walk_repeated(a.count / b.count, b.count)
    forParts(of: walk, grain: elementwiseGrain, pool: pool) { part in
      vk_binary(
        type, kind.rawValue, adding ? 1 : 0, &part.walk, y.at(part.offset.0), a.at(part.offset.1),
        b.at(part.offset.2))
    }
  }

  /// Adds the gradients of `binary` to `da` and `db`, each of which may be absent: sums over the axes that were
  /// broadcast, in index order.
  public static func binaryGradient(
    _ kind: BinaryKind, _ a: View, _ b: View, dy: View, adding da: View?, _ db: View?, pool: any WorkPool
  ) {
    precondition(a.element == dy.element && b.element == dy.element)
    guard dy.count > 0 else { return }
    let type = real(dy)
    for (side, gradient) in [da, db].enumerated() {
      guard let gradient else { continue }
      precondition(gradient.element == dy.element && gradient.count == (side == 0 ? a : b).count)
      let walk = broadcastWalk(dy.shape, gradient.reshaped((side == 0 ? a : b).shape), a, b)
      forParts(of: walk, grain: elementwiseGrain, pool: pool) { part in
        vk_binary_gradient(
          type, kind.rawValue, Int32(side), &part.walk, gradient.at(part.offset.0), a.at(part.offset.1),
          b.at(part.offset.2), dy.at(part.offset.3))
      }
    }
  }

  /// `x ← x + y·scale` where the views have the same shape.
  public static func accumulate(_ y: View, scale: Double = 1, into x: View, pool: any WorkPool) {
    precondition(x.count == y.count && x.element == y.element)
    let type = real(x)
    forRanges(x.count, grain: elementwiseGrain, pool: pool) { start, count in
      vk_accumulate(type, count, scale, y.at(start), x.at(start))
    }
  }

  /// The walk of operands that broadcast to `shape`.
  static func broadcastWalk(_ shape: [Int], _ first: View, _ second: View, _ third: View) -> vk_walk {
    precondition(shape.count <= Int(VK_AXES))
    for operand in [first, second, third] {
      let aligned = zip(operand.shape.reversed(), shape.reversed())
      precondition(operand.rank <= shape.count && aligned.allSatisfy { $0 == $1 || $0 == 1 })
    }
    return vk_walk_broadcast(
      Int32(shape.count), shape, Int32(first.rank), first.shape, Int32(second.rank), second.shape,
      Int32(third.rank), third.shape)
  }

  /// Runs `body` on parts of the walk that write to different elements of operand 0, of about `grain` elements.
  static func forParts(
    of walk: vk_walk, grain: Int, pool: any WorkPool, _ body: (inout vk_walk_part) -> Void
  ) {
    var whole = walk
    let axis = vk_walk_longest(&whole)
    let count = Int(vk_walk_count(&whole))
    guard axis >= 0, count > grain else {
      var part = vk_walk_cut(&whole, 0, 0, vk_walk_extent(&whole, 0))
      return body(&part)
    }
    let extent = Int(vk_walk_extent(&whole, axis))
    let tasks = min(extent, count / grain)
    pool.run(tasks: tasks) { task, _ in
      var walk = walk
      let start = extent * task / tasks
      var part = vk_walk_cut(&walk, axis, start, extent * (task + 1) / tasks - start)
      body(&part)
    }
  }

  private static func whole<T: FixedWidthInteger>(
    _ kind: BinaryKind, _ adding: Bool, _ walk: inout vk_walk, _ y: UnsafeMutablePointer<T>,
    _ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>
  ) {
    for index in 0..<Int(vk_walk_count(&walk)) {
      let (i, j, k) = (vk_walk_at(&walk, 0, index), vk_walk_at(&walk, 1, index), vk_walk_at(&walk, 2, index))
      let result = kind.apply(a[j], b[k])
      y[i] = adding ? y[i] &+ result : result
    }
  }
}

extension BinaryKind {
  /// The function on whole numbers.
  func apply<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
    switch self {
    case .add: return a &+ b
    case .subtract: return a &- b
    case .multiply: return a &* b
    case .divide: return b == 0 ? 0 : a.dividedReportingOverflow(by: b).partialValue
    case .maximum: return max(a, b)
    case .minimum: return min(a, b)
    case .power:
      guard b >= 0 else { return a == 1 ? 1 : a == 0 - 1 ? (b & 1 == 0 ? 1 : a) : 0 }
      var (result, base, exponent): (T, T, T) = (1, a, b)
      while exponent > 0 {
        if exponent & 1 == 1 { result = result &* base }
        base = base &* base
        exponent >>= 1
      }
      return result
    }
  }
}
