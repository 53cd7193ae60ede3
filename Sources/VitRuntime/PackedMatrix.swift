internal import CVitKernels
public import VitIR

/// The right factor of products, rearranged once for the instruction set at hand: weights that do not change.
public final class PackedMatrix: Sendable {
  /// Rows, over which products sum.
  public let k: Int
  /// Columns.
  public let n: Int
  /// The type of the elements.
  public let element: ElementType
  /// The packed elements. Written by `init` alone.
  let memory: View
  private let isPlain: Bool

  /// Packs the `[k, n]` matrix `b`, or the transpose of the `[n, k]` matrix `b`; rows of `b` start `ldb` apart.
  public init(_ b: View, transposed: Bool = false, k: Int, n: Int, ldb: Int? = nil) {
    self.k = k
    self.n = n
    element = b.element
    isPlain = b.element == .f64 || vk_level() == VK_BASE
    let type = Kernel.real(b)
    let count = vk_gemm_packed_count(type, k, n)
    memory = View(
      base: .allocate(byteCount: max(1, count * b.element.size), alignment: WorkScratch.alignment),
      element: b.element, shape: [count])
    let row = ldb ?? (transposed ? k : n)
    vk_gemm_pack(type, k, n, b.base, transposed ? 1 : row, transposed ? row : 1, memory.base)
  }

  /// Packs a weight `[out, in]` for `Kernel.linear`.
  public convenience init(weight: View) {
    precondition(weight.rank == 2)
    self.init(weight, transposed: true, k: weight.shape[1], n: weight.shape[0])
  }

  deinit { memory.base.deallocate() }

  /// The packed elements, for a product at the level that they were packed at.
  var base: UnsafeMutableRawPointer {
    precondition(isPlain == (element == .f64 || vk_level() == VK_BASE), "packed for another instruction set")
    return memory.base
  }
}
