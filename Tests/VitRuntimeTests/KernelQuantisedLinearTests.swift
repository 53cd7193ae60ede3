internal import CVitKernels
internal import Glibc
import Testing
internal import VitIR
internal import VitRuntime

@Suite("linear maps in 8 bits") struct KernelQuantisedLinearTests {
  static let shapes: [(m: Int, n: Int, k: Int)] = [
    (1, 1, 1), (1, 10, 7), (3, 0, 4), (0, 4, 3), (5, 33, 9), (14, 32, 16), (15, 16, 31), (27, 49, 64),
    (43, 17, 100), (57, 70, 130), (100, 48, 385), (197, 65, 200), (13, 31, 1024), (113, 96, 1536),
  ]

  /// Weights as a tensor in rows of 8 bits.
  private static func weights(_ n: Int, _ k: Int, seed: UInt64) throws -> Tensor {
    var random = SplitMix(seed: seed)
    let values = (0..<n * k).map { Float(random.normal()) * Float(1 + $0 / max(1, k) % 7) * 0.01 }
    return try #require(try Tensor(shape: [n, k], floats: values).quantised())
  }

  /// The packed form of weights, of which `parts` stand one below the other.
  private static func packed(_ parts: [Tensor], rows: Int, columns: Int) throws -> Buffer {
    let packing = Packing.weights(
      Array(parts.indices), .f32, rows: rows, columns: columns, stored: parts.map(\.element))
    #expect(packing.isNarrow == (columns > 0 && parts.allSatisfy { $0.element == .q8 }))
    let result = Buffer(packing.type.element, packing.type.extents)
    func lend(_ rest: ArraySlice<Tensor>, _ views: [View]) throws {
      guard let first = rest.first else { return try packing.pack(views, result.view, SerialPool()) }
      try first.storage.withBytes { bytes in
        let start = UnsafeMutableRawPointer(mutating: bytes.baseAddress) ?? result.view.base
        try lend(rest.dropFirst(), views + [View(base: start, element: first.element, shape: first.shape)])
      }
    }
    try lend(parts.map { packing.isNarrow ? $0 : $0.dequantised }[...], [])
    return result
  }

  /// What the kernels promise, written down plainly.
  private static func reference(_ x: [Float], _ weights: Tensor, m: Int, n: Int, k: Int) throws -> [Float] {
    let layout = try #require(QuantisedRows(.q8, shape: [n, k]))
    return try weights.storage.withBytes { bytes in
      var result: [Float] = []
      for i in 0..<m {
        let row = x[i * k..<(i + 1) * k]
        let top = row.reduce(Float(0)) { $1.isNaN || $0.isNaN ? .nan : max($0, abs($1)) }
        let scale: Float = !top.isFinite ? .nan : top < 0x1p-100 ? 0 : top / 127
        let whole = row.map { scale > 0 ? Int32(($0 * (127 / top)).rounded(.toNearestOrEven)) : 0 }
        for j in 0..<n {
          var sum: Int32 = 0
          for (p, q) in whole.enumerated() {
            sum += q * Int32(Int8(bitPattern: bytes[layout.start + j * k + p]))
          }
          result.append(Float(sum) * bytes.loadUnaligned(fromByteOffset: 4 * j, as: Float.self) * scale)
        }
      }
      return result
    }
  }

  private static func numbers(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix(seed: seed)
    return (0..<count).map { Float(random.normal()) * Float(1 + $0 % 5) }
  }

  private static func buffer(_ shape: [Int], _ numbers: [Float]) -> Buffer {
    Buffer(.f32, shape) { Double(numbers[$0]) }
  }

  /// The kernels that this machine runs.
  private static var kernels: [Int32] {
    (0..<Int32(vk_s8_kernel_count())).filter { vk_s8_kernel_runs(Int($0)) != 0 }
  }

  private func product(
    _ x: [Float], _ packed: Buffer, m: Int, n: Int, k: Int, bias: [Float]? = nil,
    activation: UnaryKind = .identity, epilogue: Epilogue = Epilogue(), pool: any WorkPool = SerialPool()
  ) -> [Float] {
    let y = Buffer(.f32, [m, n]) { _ in .nan }
    let input = Self.buffer([m, k], x)
    let shift = bias.map { Self.buffer([n], $0) }
    Kernel.linear(
      input.view, rows: n, columns: k, packed: packed.view, bias: shift?.view, activation: activation,
      epilogue: epilogue, into: y.view, pool: pool)
    return (0..<m * n).map { y.view.f32[$0] }
  }

  @Test("every kernel gives the bits of the plain definition, for shapes that divide nothing")
  func exact() throws {
    for (m, n, k) in Self.shapes {
      let weights = try Self.weights(n, k, seed: 3)
      let packed = try Self.packed([weights], rows: n, columns: k)
      let x = Self.numbers(m * k, seed: 4)
      let expected = try Self.reference(x, weights, m: m, n: n, k: k).map(\.bitPattern)
      for kernel in Self.kernels {
        vk_s8_force_kernel(kernel)
        defer { vk_s8_force_kernel(-1) }
        let found = product(x, packed, m: m, n: n, k: k).map(\.bitPattern)
        #expect(found == expected, "\(m)×\(n)×\(k), \(String(cString: vk_s8_kernel_name(Int(kernel))))")
      }
    }
  }

  @Test(
    "bias, function, factor and residual are the same bits on every kernel and for every number of threads")
  func epilogues() throws {
    let (m, n, k) = (75, 70, 90)
    let packed = try Self.packed([Self.weights(n, k, seed: 5)], rows: n, columns: k)
    let x = Self.numbers(m * k, seed: 6)
    let scale = Self.buffer([n], Self.numbers(n, seed: 7))
    let residual = Self.buffer([m, n], Self.numbers(m * n, seed: 8))
    for activation in [UnaryKind.identity, .gelu, .geluTanh, .silu, .relu, .tanh] {
      var bits: [UInt32]?
      for kernel in Self.kernels {
        vk_s8_force_kernel(kernel)
        defer { vk_s8_force_kernel(-1) }
        let found = product(
          x, packed, m: m, n: n, k: k, bias: Self.numbers(n, seed: 9), activation: activation,
          epilogue: Epilogue(scale: scale.view, residual: residual.view)
        ).map(\.bitPattern)
        #expect(bits == nil || bits == found, "\(activation), kernel \(kernel)")
        bits = found
      }
      for threads in [2, 3] {
        let found = product(
          x, packed, m: m, n: n, k: k, bias: Self.numbers(n, seed: 9), activation: activation,
          epilogue: Epilogue(scale: scale.view, residual: residual.view),
          pool: ThreadPool(threads: threads)
        ).map(\.bitPattern)
        #expect(bits == found, "\(activation), \(threads) threads")
      }
    }
  }

  @Test("a row without numbers is NaN, one of next to nothing is zero, and its neighbours do not notice")
  func strange() throws {
    let (m, n, k) = (7, 37, 70)
    let weights = try Self.weights(n, k, seed: 1)
    let packed = try Self.packed([weights], rows: n, columns: k)
    var x = Self.numbers(m * k, seed: 2)
    x[0 * k + 3] = .nan
    x[1 * k + 69] = .infinity
    x[2 * k + 1] = -.infinity
    for column in 0..<k {
      x[3 * k + column] = 0
      x[4 * k + column] = Float(column - 35) * .leastNonzeroMagnitude
      x[5 * k + column] = column == 4 ? .greatestFiniteMagnitude : 1
    }
    let expected = try Self.reference(x, weights, m: m, n: n, k: k)
    for kernel in Self.kernels {
      vk_s8_force_kernel(kernel)
      defer { vk_s8_force_kernel(-1) }
      let y = product(x, packed, m: m, n: n, k: k)
      for i in 0..<3 {
        let row = y[i * n..<(i + 1) * n]
        #expect(row.allSatisfy { $0.isNaN }, "row \(i), kernel \(kernel)")
      }
      for i in 3..<5 { #expect(y[i * n..<(i + 1) * n].allSatisfy { $0 == 0 }, "row \(i), kernel \(kernel)") }
      let (found, wanted) = (y.suffix(2 * n).map(\.bitPattern), expected.suffix(2 * n).map(\.bitPattern))
      #expect(found == wanted, "kernel \(kernel)")
    }
  }

  @Test("weights that stand one below the other are packed as one, wherever the borders lie")
  func stacked() throws {
    let (m, k) = (20, 45)
    let parts = try [(17, 1), (40, 2), (9, 3)].map { try Self.weights($0.0, k, seed: UInt64($0.1)) }
    let x = Self.numbers(m * k, seed: 4)
    let together = product(x, try Self.packed(parts, rows: 66, columns: k), m: m, n: 66, k: k)
    var first = 0
    for part in parts {
      let n = part.shape[0]
      let alone = product(x, try Self.packed([part], rows: n, columns: k), m: m, n: n, k: k)
      for i in 0..<m {
        #expect(
          Array(together[i * 66 + first..<i * 66 + first + n]) == Array(alone[i * n..<(i + 1) * n]))
      }
      first += n
    }
    // Where one part has floats, so has the whole.
    _ = try Self.packed([parts[0], parts[1].dequantised], rows: 57, columns: k)
  }

  @Test("rows of 8 bits are within half a step, and a hundredth, of what they were made of")
  func rounding() throws {
    let numbers = Self.numbers(33 * 50, seed: 8)
    let tensor = Tensor(shape: [33, 50], floats: numbers)
    let rows = try #require(try tensor.quantised())
    #expect(rows.storage.byteCount == 33 * 50 + 4 * 33)
    for (row, back) in try rows.floats().chunks(of: 50).enumerated() {
      let part = numbers[row * 50..<(row + 1) * 50]
      let step = part.map(abs).reduce(0, max) / 127
      #expect(zip(part, back).allSatisfy { abs($0 - $1) <= 0.505 * step })
    }
    let infinite = try Tensor(shape: [1, 2], floats: [1, .infinity]).quantised()
    #expect(infinite == nil)
    let nothing = try Tensor(shape: [1, 2], floats: [0, 0]).quantised()?.floats()
    #expect(nothing == [0, 0])
  }
}

extension Array {
  fileprivate func chunks(of size: Int) -> [ArraySlice<Element>] {
    stride(from: 0, to: count, by: size).map { self[$0..<Swift.min(count, $0 + size)] }
  }
}
