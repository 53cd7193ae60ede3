internal import CVitKernels

/// What this machine computes with, as far as it decides the bits of a result.
public enum Machine {
  /// The instruction set level of our kernels: `base`, `avx2` or `avx512`, and `avx512bf16` where products in bfloat16
  /// are faster than those in `f32`.
  public static var level: String {
    switch vk_level() {
    case 0: "base"
    case 1: "avx2"
    default: isFasterInBrainFloats ? "avx512bf16" : "avx512"
    }
  }

  /// Whether products in bfloat16 are faster than in `f32` here, so that they are computed in it where that is allowed.
  public static var isFasterInBrainFloats: Bool { vk_bf16_is_fast() != 0 }

  /// The kernels of OpenBLAS that products in double use, and all products at the base level.
  public static var blas: String { String(cString: vk_blas_core()) }
}
