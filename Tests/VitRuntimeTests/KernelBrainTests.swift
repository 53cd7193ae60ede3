internal import CVitKernels
internal import Glibc
import Testing
internal import VitIR
internal import VitRuntime

/// Products in bfloat16, by plain C and, where the processor has them, by its instructions.
@Suite("products in bfloat16") struct KernelBrainTests {
  static let shapes =
    KernelGemmTests.shapes.map { (m: $0.m, n: $0.n + 32, k: $0.k + 32) } + [
      (57, 33, 1024), (17, 65, 1025), (3, 32, 2600), (2, 800, 33),
    ]

  /// A number as bfloat16 has it, in double.
  private static func rounded(_ value: Double) -> Double {
    let bits = Float(value).bitPattern
    let up = bits &+ 0x7fff &+ (bits >> 16 & 1)
    return Double(Float(bitPattern: up & 0xffff_0000))
  }

  /// With plain C, then as this machine does it, where that is something else.
  private func each(_ body: () throws -> Void) rethrows {
    if vk_bf16_is_fast() != 0 { try body() }
    vk_bf16_force_plain(1)
    defer { vk_bf16_force_plain(0) }
    try body()
  }

  @Test("a product is that of the rounded matrices, for every transposition and shape")
  func naive() {
    for (m, n, k) in Self.shapes where m * n > 0 {
      for flags in 0..<4 {
        let (transA, transB) = (flags & 1 != 0, flags & 2 != 0)
        let lda = (transA ? m : k) + flags
        let ldb = (transB ? k : n) + 2 * flags
        let a = Buffer(.f32, [(transA ? k : m) * lda], seed: 1)
        let b = Buffer(.f32, [(transB ? n : k) * ldb], seed: 2)
        let (left, right) = (a.values.map(Self.rounded), b.values.map(Self.rounded))
        let product = KernelGemmTests.reference(
          left, right, transA: transA, transB: transB, m: m, n: n, k: k, lda: lda, ldb: ldb)
        let sizes = KernelGemmTests.sizes(
          left, right, transA: transA, transB: transB, m: m, n: n, k: k, lda: lda, ldb: ldb)
        var found: [[UInt32]] = []
        each {
          let c = Buffer(.f32, [m, n]) { Double($0 % 7) }
          Kernel.gemm(
            transA: transA, transB: transB, m: m, n: n, k: k, alpha: 0.5, a: a.view, lda: lda, b: b.view,
            ldb: ldb, beta: 2, c: c.view, pool: NarrowPool(SerialPool()))
          let values = c.values
          for index in 0..<m * n {
            let expected = 0.5 * product[index] + 2 * Double(index % 7)
            let error = abs(values[index] - expected) / (sizes[index] + 14)
            if !(error < 1e-6 * Double(k).squareRoot()) {
              Issue.record("\(m)×\(n)×\(k), \(flags): \(values[index]) for \(expected)")
              return
            }
          }
          found.append((0..<m * n).map { c.view.f32[$0].bitPattern })
        }
        #expect(Set(found).count == 1, "\(m)×\(n)×\(k), \(flags)")
      }
    }
  }

  @Test("it does not read a C that counts nothing, and leaves small products as they are")
  func fresh() {
    each {
      let (a, b) = (Buffer(.f32, [40, 64], seed: 1), Buffer(.f32, [64, 40], seed: 2))
      let c = Buffer(.f32, [40, 40]) { _ in .nan }
      let pool = NarrowPool(SerialPool())
      Kernel.gemm(m: 40, n: 40, k: 64, a: a.view, b: b.view, c: c.view, pool: pool)
      let isFinite = c.values.allSatisfy(\.isFinite)
      #expect(isFinite)
      // Attention in a few channels, a class' logits: rounding would cost more than it saves.
      let (small, plain) = (Buffer(.f32, [40, 8]), Buffer(.f32, [40, 8]))
      Kernel.gemm(m: 40, n: 8, k: 64, a: a.view, b: b.view, ldb: 40, c: small.view, pool: pool)
      Kernel.gemm(m: 40, n: 8, k: 64, a: a.view, b: b.view, ldb: 40, c: plain.view, pool: SerialPool())
      #expect(small.values == plain.values)
    }
  }

  @Test("NaN and infinities come through, what is below normal counts as zero")
  func special() {
    each {
      let a = Buffer(.f32, [3, 64]) { [Double.nan, .infinity, 1e-40][$0 / 64] }
      let b = Buffer(.f32, [64, 32]) { _ in 1 }
      let c = Buffer(.f32, [3, 32])
      Kernel.gemm(m: 3, n: 32, k: 64, a: a.view, b: b.view, c: c.view, pool: NarrowPool(SerialPool()))
      let values = c.values
      let isNaN = values[..<32].allSatisfy(\.isNaN)
      #expect(isNaN)
      #expect(values[32..<64] == ArraySlice(repeating: .infinity, count: 32))
      #expect(values[64...] == ArraySlice(repeating: 0, count: 32))
    }
  }

  @Test("the same bits on any number of threads, in a batch as one by one, and behind an epilogue")
  func threads() {
    let (m, n, k) = (300, 200, 300)
    let (a, b) = (Buffer(.f32, [2, m, k], seed: 3), Buffer(.f32, [2, n, k], seed: 4))
    let (bias, residual) = (Buffer(.f32, [n], seed: 5), Buffer(.f32, [2, m, n], seed: 6))
    func batch(_ pool: any WorkPool) -> [Double] {
      let c = Buffer(.f32, [2, m, n])
      Kernel.batchedGemm(
        inner: 2, transB: true, m: m, n: n, k: k, a: a.view, aStride: BatchStride(inner: m * k), b: b.view,
        bStride: BatchStride(inner: n * k), c: c.view, cStride: BatchStride(inner: m * n), bias: bias.view,
        activation: .relu, epilogue: Epilogue(residual: residual.view), pool: NarrowPool(pool))
      return c.values
    }
    let one = batch(SerialPool())
    #expect(one == batch(ThreadPool(threads: 2)))
    for item in 0..<2 {
      let c = Buffer(.f32, [m, n])
      Kernel.gemm(
        transB: true, m: m, n: n, k: k, a: a.view.part(item * m * k, of: m * k),
        b: b.view.part(item * n * k, of: n * k), c: c.view, bias: bias.view, activation: .relu,
        epilogue: Epilogue(residual: residual.view.part(item * m * n, of: m * n)),
        pool: NarrowPool(ThreadPool(threads: 3)))
      #expect(c.values == Array(one[item * m * n..<(item + 1) * m * n]))
    }
  }

  @Test(
    "weights that are stored so are packed for it, and give the bits of the product that packs them itself")
  func packed() throws {
    try each {
      for (m, n, k) in [(1, 40, 33), (70, 100, 64), (20, 65, 1100)] {
        let x = Buffer(.f32, [m, k], seed: 7)
        let weight = Buffer(.f32, [n, k], seed: 8)
        let whole = Buffer(.f32, [n, k]) { Self.rounded(weight[$0]) }
        let stored = Buffer(.bf16, [n, k])
        let bytes = UnsafeMutableRawBufferPointer(start: stored.view.base, count: stored.view.byteCount)
        for index in 0..<n * k { bytes.store(weight[index], at: index, as: .bf16) }
        let packing = Packing.weights([1, 2], .f32, rows: n, columns: k, stored: [nil, .bf16, .bf16])
        #expect(packing.isNarrow)
        let packed = Buffer(packing.type.element, packing.type.extents)
        let upper = n / 3
        func rows(_ first: Int, _ count: Int) -> View {
          View(base: stored.view.base + 2 * first * k, element: .bf16, shape: [count, k])
        }
        try packing.pack([rows(0, upper), rows(upper, n - upper)], packed.view, SerialPool())
        let (y, z) = (Buffer(.f32, [m, n]), Buffer(.f32, [m, n]))
        Kernel.linear(x.view, rows: n, columns: k, packed: packed.view, into: y.view, pool: SerialPool())
        Kernel.linear(x.view, weight: whole.view, into: z.view, pool: NarrowPool(SerialPool()))
        #expect(y.values == z.values, "\(m)×\(n)×\(k)")
      }
    }
    // One that is not makes all of them what they were.
    #expect(!Packing.weights([0, 1], .f32, rows: 8, columns: 8, stored: [.bf16, .f32]).isNarrow)
  }
}
