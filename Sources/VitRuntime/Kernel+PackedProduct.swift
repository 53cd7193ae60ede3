internal import CVitKernels
public import VitIR

/// Products with a right factor `[k, n]` that was packed into memory of a plan.
extension Kernel {
  /// Memory for the packed form of a `[k, n]` matrix, at this thread's instruction set.
  public static func packedType(_ element: ElementType, k: Int, n: Int) -> TensorType {
    TensorType(element, fixed: [vk_gemm_packed_count(element == .f64 ? VK_F64 : VK_F32, k, n)])
  }

  /// Packs the `[k, n]` matrix `b`, or the transpose of the `[n, k]` matrix `b`; rows of `b` start `ldb`
  /// apart.
  public static func pack(_ b: View, transposed: Bool, k: Int, n: Int, ldb: Int, into packed: View) {
    vk_gemm_pack(real(b), k, n, b.base, transposed ? 1 : ldb, transposed ? ldb : 1, packed.base)
  }

  /// `c ← alpha·op(a)·b + beta·c` with a `b` that `pack` packed, then the epilogue; otherwise as the other
  /// `gemm`.
  public static func gemm(
    transA: Bool = false, m: Int, n: Int, k: Int, alpha: Double = 1, a: View, lda: Int? = nil, packed: View,
    beta: Double = 0, c: View, ldc: Int? = nil, epilogue: Epilogue = Epilogue(), pool: any WorkPool
  ) {
    precondition(a.element == packed.element)
    gemm(
      transA: transA, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, packed: packed.base, beta: beta, c: c,
      ldc: ldc, epilogue: epilogue, pool: pool)
  }
}
