internal import Glibc
import Testing
internal import VitIR
internal import VitRuntime

@Suite struct KernelGemmTests {
  static let shapes: [(m: Int, n: Int, k: Int)] = [
    (1, 1, 1), (1, 10, 7), (3, 5, 0), (0, 4, 3), (4, 0, 3), (5, 33, 9), (14, 32, 16), (15, 16, 31),
    (27, 49, 64),
    (43, 17, 100), (85, 70, 3), (100, 48, 385), (29, 65, 800), (13, 31, 1024), (90, 400, 20),
  ]

  /// Σ |a|·|b|: the scale of the sums.
  static func sizes(
    _ a: [Double], _ b: [Double], transA: Bool, transB: Bool, m: Int, n: Int, k: Int, lda: Int, ldb: Int
  ) -> [Double] {
    reference(a.map(abs), b.map(abs), transA: transA, transB: transB, m: m, n: n, k: k, lda: lda, ldb: ldb)
  }

  /// op(a)·op(b) in double.
  static func reference(
    _ a: [Double], _ b: [Double], transA: Bool, transB: Bool, m: Int, n: Int, k: Int, lda: Int, ldb: Int
  ) -> [Double] {
    var c = [Double](repeating: 0, count: m * n)
    for i in 0..<m {
      for p in 0..<k {
        let left = a[transA ? p * lda + i : i * lda + p]
        for j in 0..<n { c[i * n + j] += left * b[transB ? j * ldb + p : p * ldb + j] }
      }
    }
    return c
  }

  @Test("a product is the naive one, for every transposition, level and odd shape", arguments: Variant.all)
  func naive(variant: Variant) throws {
    try variant.run {
      for (m, n, k) in Self.shapes {
        for flags in 0..<4 {
          let (transA, transB) = (flags & 1 != 0, flags & 2 != 0)
          let lda = (transA ? m : k) + flags
          let ldb = (transB ? k : n) + 2 * flags
          let a = Buffer(variant.element, [max(1, transA ? k : m) * max(1, lda)], seed: 1)
          let b = Buffer(variant.element, [max(1, transB ? n : k) * max(1, ldb)], seed: 2)
          let c = Buffer(variant.element, [m, n]) { _ in .nan }
          Kernel.gemm(
            transA: transA, transB: transB, m: m, n: n, k: k, alpha: 0.5, a: a.view, lda: lda, b: b.view,
            ldb: ldb, c: c.view, pool: SerialPool())
          let expected = Self.reference(
            a.values, b.values, transA: transA, transB: transB, m: m, n: n, k: k, lda: lda, ldb: ldb
          ).map { 0.5 * $0 }
          let sizes = Self.sizes(
            a.values, b.values, transA: transA, transB: transB, m: m, n: n, k: k, lda: lda, ldb: ldb)
          #expect(
            sumError(c.values, expected, sizes: sizes, terms: k, variant) < 1, "\(m)×\(n)×\(k), \(flags)")
          let packing = Packing.matrix(1, variant.element, transposed: transB, k: k, n: n, row: ldb)
          let packed = Buffer(variant.element, packing.type.extents)
          try packing.pack([b.view], packed.view, SerialPool())
          let d = Buffer(variant.element, [m, n]) { Double($0) }
          Kernel.gemm(
            transA: transA, m: m, n: n, k: k, alpha: 0.5, a: a.view, lda: lda, packed: packed.view, beta: 2,
            c: d.view, pool: SerialPool())
          let sum = expected.enumerated().map { $1 + 2 * Double($0) }
          #expect(
            sumError(d.values, sum, sizes: zip(sizes, sum).map { $0 + abs($1) }, terms: k + 1, variant) < 1,
            "packed \(m)×\(n)×\(k), \(flags)")
        }
      }
    }
  }

  @Test("rows of A that lie a power of two apart are multiplied as any others", arguments: Variant.all)
  func powerOfTwoRows(variant: Variant) {
    variant.run {
      let (m, n, k) = (31, 70, 500)
      let a = Buffer(variant.element, [m, 1024], seed: 1)
      let b = Buffer(variant.element, [k, n], seed: 2)
      let c = Buffer(variant.element, [m, n])
      Kernel.gemm(m: m, n: n, k: k, a: a.view, lda: 1024, b: b.view, c: c.view, pool: SerialPool())
      let expected = Self.reference(
        a.values, b.values, transA: false, transB: false, m: m, n: n, k: k, lda: 1024, ldb: n)
      let sizes = Self.sizes(
        a.values, b.values, transA: false, transB: false, m: m, n: n, k: k, lda: 1024, ldb: n)
      #expect(sumError(c.values, expected, sizes: sizes, terms: k, variant) < 1)
    }
  }

  @Test(
    "the epilogue adds the bias, applies the activation and the scale, and adds the residual",
    arguments: Variant.all)
  func epilogue(variant: Variant) throws {
    try variant.run {
      for (m, n, k) in [(7, 37, 5), (30, 64, 400), (2, 500, 8)] {
        let x = Buffer(variant.element, [m, k], seed: 3)
        let weight = Buffer(variant.element, [n, k], seed: 4)
        let bias = Buffer(variant.element, [n], seed: 5)
        let scale = Buffer(variant.element, [n], seed: 6)
        let residual = Buffer(variant.element, [m, n], seed: 7)
        let product = Self.reference(
          x.values, weight.values, transA: false, transB: true, m: m, n: n, k: k, lda: k, ldb: k)
        let products = Self.sizes(
          x.values, weight.values, transA: false, transB: true, m: m, n: n, k: k, lda: k, ldb: k)
        // No activation here is steeper than 1.1.
        let sizes = products.enumerated().map { index, size in
          1.1 * (size + abs(bias[index % n])) * abs(scale[index % n]) + abs(residual[index])
        }
        let packing = Packing.weights(
          [1], variant.element, rows: n, columns: k, stored: [nil, variant.element])
        let packed = Buffer(variant.element, packing.type.extents)
        try packing.pack([weight.view], packed.view, SerialPool())
        for kind in [UnaryKind.identity, .relu, .silu, .clip(low: -1, high: 0.5)] {
          let expected = (0..<m * n).map { index in
            let v = product[index] + bias[index % n]
            let y: Double =
              switch kind {
              case .relu: max(v, 0)
              case .silu: v / (1 + exp(-v))
              case .clip(let low, let high): min(max(v, low), high)
              default: v
              }
            return y * scale[index % n] + residual[index]
          }
          let epilogue = Epilogue(scale: scale.view, residual: residual.view)
          let y = Buffer(variant.element, [m, n])
          Kernel.linear(
            x.view, weight: weight.view, bias: bias.view, activation: kind, epilogue: epilogue, into: y.view,
            pool: SerialPool())
          #expect(sumError(y.values, expected, sizes: sizes, terms: k, variant) < 1)
          let z = Buffer(variant.element, [m, n])
          Kernel.linear(
            x.view, rows: n, columns: k, packed: packed.view, bias: bias.view, activation: kind,
            epilogue: epilogue,
            into: z.view, pool: SerialPool())
          #expect(sumError(z.values, expected, sizes: sizes, terms: k, variant) < 1)
        }
      }
    }
  }

  @Test(
    "a batch multiplies each item, with shared operands and columns of its own bias", arguments: Variant.all)
  func batched(variant: Variant) {
    variant.run {
      // Heads of width w side by side in rows of v, each with a matrix of its own: [rows, h·w] → [rows, h·w].
      for (outer, heads, rows, w) in [(2, 3, 9, 5), (1, 2, 130, 16), (3, 4, 1, 32), (1, 1, 700, 40)] {
        let v = Buffer(variant.element, [outer, rows, heads * w], seed: 8)
        let weight = Buffer(variant.element, [heads, w, w], seed: 9)
        let bias = Buffer(variant.element, [heads * w], seed: 10)
        let r = Buffer(variant.element, [outer, rows, heads * w])
        let stride = BatchStride(outer: rows * heads * w, inner: w)
        Kernel.batchedGemm(
          outer: outer, inner: heads, transB: true, m: rows, n: w, k: w, a: v.view, lda: heads * w,
          aStride: stride, b: weight.view, bStride: BatchStride(inner: w * w), c: r.view, ldc: heads * w,
          cStride: stride, bias: bias.view, columnStride: BatchStride(inner: w),
          pool: SerialPool())
        var expected = [Double](repeating: 0, count: r.view.count)
        var sizes = expected
        for row in 0..<outer * rows {
          for head in 0..<heads {
            for i in 0..<w {
              var (sum, size) = (bias[head * w + i], abs(bias[head * w + i]))
              for j in 0..<w {
                let term = weight[(head * w + i) * w + j] * v[row * heads * w + head * w + j]
                sum += term
                size += abs(term)
              }
              expected[row * heads * w + head * w + i] = sum
              sizes[row * heads * w + head * w + i] = size
            }
          }
        }
        #expect(sumError(r.values, expected, sizes: sizes, terms: w, variant) < 1)
      }
    }
  }

  @Test("products have the same bits for every number of workers")
  func workers() {
    for element in [ElementType.f32, .f64] {
      for (m, n, k) in [(197, 576, 96), (1500, 96, 40), (130, 96, 700), (3, 1000, 700)] {
        let a = Buffer(element, [m, k], seed: 11)
        let b = Buffer(element, [n, k], seed: 12)
        withPools { pool in
          let c = Buffer(element, [m, n])
          Kernel.gemm(transB: true, m: m, n: n, k: k, a: a.view, b: b.view, c: c.view, pool: pool)
          return c.bits
        }
      }
    }
  }
}
