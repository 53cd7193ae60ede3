internal import VitIR
internal import VitRuntime

/// Fixed maps over the tokens, one for each head: `c_h = A_h·v_h` with maps `[heads, rows, tokens]`.
///
/// Channels `[batch, tokens, width]` belong to the heads in order, evenly; `c` has as many tokens as `v`, of which the first
/// `rows` are the maps' results.
enum HeadMaps {
  /// Writes the results into the first rows of `c`.
  static func forward(_ maps: View, _ v: View, into c: View, pool: any WorkPool) {
    let (heads, rows, tokens, width) = sizes(maps, v)
    Kernel.batchedGemm(
      outer: v.shape[0], inner: heads, m: rows, n: width / heads, k: tokens, a: maps,
      aStride: BatchStride(inner: rows * tokens), b: v, ldb: width, bStride: own(v, heads), c: c, ldc: width,
      cStride: own(v, heads), pool: pool)
  }

  /// The gradient of `v` from that of `c`: added to `dv`, or written where `keeping` is 0; and that of the maps, added.
  static func gradients(
    _ maps: View, _ v: View, dc: View, into dv: View, keeping: Double, adding dmaps: View?, pool: any WorkPool
  ) {
    let (heads, rows, tokens, width) = sizes(maps, v)
    Kernel.batchedGemm(
      outer: v.shape[0], inner: heads, transA: true, m: tokens, n: width / heads, k: rows, a: maps,
      aStride: BatchStride(inner: rows * tokens), b: dc, ldb: width, bStride: own(v, heads), beta: keeping,
      c: dv, ldc: width, cStride: own(v, heads), pool: pool)
    if let dmaps { addProducts(dc, v, rows: rows, to: dmaps, pool: pool) }
  }

  /// Adds `Σ a_h·b_hᵀ` over the items, in order, to `sums` `[heads, rows, tokens]`: of the first `rows` tokens of `a` with all
  /// of `b`.
  static func addProducts(_ a: View, _ b: View, rows: Int, to sums: View, pool: any WorkPool) {
    let (heads, tokens, width) = (sums.shape[0], b.shape[1], b.shape[2])
    for item in 0..<b.shape[0] {
      Kernel.batchedGemm(
        inner: heads, transB: true, m: rows, n: tokens, k: width / heads, a: a.slice(item), lda: width,
        aStride: BatchStride(inner: width / heads), b: b.slice(item), ldb: width,
        bStride: BatchStride(inner: width / heads), beta: 1, c: sums,
        cStride: BatchStride(inner: rows * tokens), pool: pool)
    }
  }

  private static func sizes(_ maps: View, _ v: View) -> (heads: Int, rows: Int, tokens: Int, width: Int) {
    precondition(maps.rank == 3 && v.rank == 3 && maps.shape[2] == v.shape[1])
    return (maps.shape[0], maps.shape[1], maps.shape[2], v.shape[2])
  }

  private static func own(_ v: View, _ heads: Int) -> BatchStride {
    BatchStride(outer: v.shape[1] * v.shape[2], inner: v.shape[2] / heads)
  }

  /// The results as ONNX operators, `[batch, rows, width]`.
  static func lower(
    _ maps: ValueID?, _ v: ValueID, heads: Int, width: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let split = try builder.add("onnx.Reshape", [v, builder.integers([0, 0, heads, width / heads])])
    let byHead = try builder.add("onnx.Transpose", [split], [("perm", .ints([0, 2, 1, 3]))])
    let product = try builder.add("onnx.MatMul", [maps, byHead])
    let byToken = try builder.add("onnx.Transpose", [product], [("perm", .ints([0, 2, 1, 3]))])
    return try builder.add("onnx.Reshape", [byToken, builder.integers([0, 0, width])])
  }
}
