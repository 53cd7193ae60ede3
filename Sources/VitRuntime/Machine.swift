internal import CVitKernels

/// What this machine computes with, as far as it decides the bits of a result.
public enum Machine {
  /// The instruction set level of our kernels: `base`, `avx2` or `avx512`, and `avx512bf16` where attention beside weights of 8
  /// bits is computed in bfloat16.
  public static var level: String {
    switch vk_level() {
    case 0: "base"
    case 1: "avx2"
    default: vk_bf16_is_fast() != 0 ? "avx512bf16" : "avx512"
    }
  }

  /// The kernels of OpenBLAS that products in double use, and all products at the base level.
  public static var blas: String { String(cString: vk_blas_core()) }
}
