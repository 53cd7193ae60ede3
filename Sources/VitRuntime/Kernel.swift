internal import CVitKernels
internal import VitIR

/// The numeric kernels: typed faces of the C functions, cut over a pool.
///
/// What every face keeps to: floating operands are all `f32` or all `f64`; the work is cut by shape alone, so that
/// results are the same to the bit for every number of workers; nothing fails and nothing is allocated but a
/// closure, unless a doc comment says so. Views may alias only where a comment says so.
public enum Kernel {
  /// The C name of the type of `view`, which must be a computed float.
  static func real(_ view: View) -> vk_real {
    precondition(view.element == .f32 || view.element == .f64, "kernels compute in f32 and f64")
    return view.element == .f64 ? VK_F64 : VK_F32
  }

  /// Elements of a task of a cheap elementwise kernel: large beside the cost of a task, small beside a cache.
  static let elementwiseGrain = 16384

  /// Runs `body(start, count)` over `0..<count` cut into tasks of `grain`.
  static func forRanges(
    _ count: Int, grain: Int, pool: any WorkPool, _ body: (_ start: Int, _ count: Int) -> Void
  ) {
    guard count > 0 else { return }
    let tasks = (count - 1) / max(1, grain) + 1
    if tasks == 1 { return body(0, count) }
    pool.run(tasks: tasks) { task, _ in
      let start = count * task / tasks
      body(start, count * (task + 1) / tasks - start)
    }
  }

  /// Rows of `width` elements that make one task of about `grain` elements.
  static func rows(ofWidth width: Int, grain: Int = elementwiseGrain) -> Int { max(1, grain / max(1, width)) }
}

extension View {
  /// The address of element `index`.
  func at(_ index: Int) -> UnsafeMutableRawPointer { base + index * element.size }
}
