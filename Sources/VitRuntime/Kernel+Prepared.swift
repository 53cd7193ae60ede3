internal import CVitKernels
public import VitIR

/// Products with weights that were packed into memory of a plan.
extension Kernel {
  /// Memory for the packed form of a weight `[out, in]`, at this thread's instruction set.
  public static func packedType(weight: TensorType) -> TensorType {
    let shape = weight.extents
    let type = weight.element == .f64 ? VK_F64 : VK_F32
    return TensorType(weight.element, fixed: [vk_gemm_packed_count(type, shape[1], shape[0])])
  }

  /// Packs a weight `[out, in]`.
  public static func pack(weight: View, into packed: View) {
    let (n, k) = (weight.shape[0], weight.shape[1])
    vk_gemm_pack(real(weight), k, n, weight.base, 1, k, packed.base)
  }

  /// `y ← x·weightᵀ`, then the epilogue, with a weight of the given shape that `pack` packed.
  public static func linear(
    _ x: View, weight shape: [Int], packed: View, epilogue: Epilogue = Epilogue(), into y: View,
    pool: any WorkPool
  ) {
    gemm(
      m: linearRows(x, k: shape[1], y, n: shape[0]), n: shape[0], k: shape[1], a: x, packed: packed.base,
      c: y,
      epilogue: epilogue, pool: pool)
  }
}
