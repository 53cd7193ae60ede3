internal import CVitKernels
public import VitIR

extension Kernel {
  /// `c ← Σ (a − aZero)·(b − bZero)` for a batch of dense products of bytes; `a` is `[batch, m, k]`, `b`
  /// `[batch, k, n]`, `c` `[batch, m, n]` in `i32`, which wraps.
  ///
  /// `a` and `b` are `i8` or `u8` each. A zero point has the type of its factor, and one element or one for each
  /// row of `a`, column of `b`. A matrix of one item is shared by all.
  public static func gemmBytes(
    m: Int, n: Int, k: Int, a: View, aZero: View? = nil, b: View, bZero: View? = nil, c: View,
    pool: any WorkPool
  ) {
    precondition(c.element == .i32 && c.count % max(1, m * n) == 0)
    precondition([a, b].allSatisfy { $0.element == .i8 || $0.element == .u8 })
    precondition(aZero.map { $0.element == a.element && ($0.count == 1 || $0.count == m) } ?? true)
    precondition(bZero.map { $0.element == b.element && ($0.count == 1 || $0.count == n) } ?? true)
    guard c.count > 0 else { return }
    let batch = c.count / (m * n)
    precondition([m * k, m * k * batch].contains(a.count) && [k * n, k * n * batch].contains(b.count))
    let pieces = max(1, min(m / 16, m * n * max(1, k) >> 20))
    pool.run(tasks: batch * pieces) { task, _ in
      let (item, piece) = (task / pieces, task % pieces)
      let (top, bottom) = (m * piece / pieces, m * (piece + 1) / pieces)
      let aItem = a.count == m * k ? 0 : item
      let bItem = b.count == k * n ? 0 : item
      var left = vk_bytes(
        base: a.at((aItem * m + top) * k), is_signed: a.element == .i8 ? 1 : 0,
        zero: aZero.map { UnsafeRawPointer($0.count == 1 ? $0.base : $0.at(top)) },
        zero_step: aZero.map { $0.count == 1 ? 0 : 1 } ?? 0)
      var right = vk_bytes(
        base: b.at(bItem * k * n), is_signed: b.element == .i8 ? 1 : 0,
        zero: bZero.map { UnsafeRawPointer($0.base) }, zero_step: bZero.map { $0.count == 1 ? 0 : 1 } ?? 0)
      vk_gemm_bytes(
        bottom - top, n, k, &left, &right,
        c.pointer(as: Int32.self) + (item * m + top) * n)
    }
  }

  /// `y ← x/scale`, rounded to the nearest whole number with halves to the even one, plus the zero point, cut to the
  /// range of `y`, which is `i8` or `u8`. NaN becomes the zero point.
  ///
  /// `scale`, of the type of `x`, and `zero`, of that of `y`, have one element, or one for each index of `axis`.
  public static func quantise(
    _ x: View, scale: View, zero: View? = nil, axis: Int = 0, into y: View, pool: any WorkPool
  ) {
    precondition(y.element == .i8 || y.element == .u8)
    let type = real(x)
    forRuns(x, y, scale: scale, zero: zero, axis: axis, pool: pool) { start, count, scale, zero in
      vk_quantise(type, count, x.at(start), scale, Int32(zero), y.element == .i8 ? 1 : 0, y.at(start))
    }
  }

  /// `y ← (x − zero)·scale`; `x` is `i8` or `u8`, and `scale` and `zero` are as in `quantise`.
  public static func dequantise(
    _ x: View, scale: View, zero: View? = nil, axis: Int = 0, into y: View, pool: any WorkPool
  ) {
    precondition(x.element == .i8 || x.element == .u8)
    let type = real(y)
    forRuns(y, x, scale: scale, zero: zero, axis: axis, pool: pool) { start, count, scale, zero in
      vk_dequantise(type, count, x.at(start), x.element == .i8 ? 1 : 0, scale, Int32(zero), y.at(start))
    }
  }

  /// Runs `body` on the runs of elements that share a scale and a zero point.
  private static func forRuns(
    _ numbers: View, _ bytes: View, scale: View, zero: View?, axis: Int, pool: any WorkPool,
    _ body: (_ start: Int, _ count: Int, _ scale: Double, _ zero: Int) -> Void
  ) {
    precondition(numbers.count == bytes.count && scale.element == numbers.element)
    precondition(zero.map { $0.element == bytes.element && $0.count == scale.count } ?? true)
    precondition(scale.count == 1 || (axis < numbers.rank && scale.count == numbers.shape[axis]))
    guard numbers.count > 0 else { return }
    let run = scale.count == 1 ? numbers.count : numbers.shape[(axis + 1)...].reduce(1, *)
    forRanges(numbers.count / run, grain: rows(ofWidth: run), pool: pool) { first, count in
      for index in first..<first + count {
        let place = index % scale.count
        let factor = numbers.element == .f64 ? scale.f64[place] : Double(scale.f32[place])
        let offset = zero.map {
          $0.element == .i8
            ? Int($0.pointer(as: Int8.self)[place]) : Int($0.pointer(as: UInt8.self)[place])
        }
        body(index * run, run, factor, offset ?? 0)
      }
    }
  }
}
