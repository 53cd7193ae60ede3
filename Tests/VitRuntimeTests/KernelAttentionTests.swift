internal import CVitKernels
import Testing
internal import VitIR
internal import VitRuntime

@Suite struct KernelAttentionTests {
  static let shapes = [
    AttentionShape(batch: 2, heads: 3, queries: 17, keys: 17, width: 8, scale: 0.35),
    AttentionShape(
      batch: 1, heads: 4, keyHeads: 2, queries: 5, keys: 40, width: 6, valueWidth: 10, scale: 0.4),
    AttentionShape(batch: 1, heads: 1, queries: 200, keys: 33, width: 16, scale: 0.25),
    AttentionShape(batch: 1, heads: 2, queries: 1, keys: 1, width: 3, scale: 1),
  ]

  /// Random operands in the layout of projections, and a bias whose batch axis repeats, one key of it masked.
  struct Operands {
    let shape: AttentionShape
    let q, k, v, bias, dO: Buffer
    init(_ shape: AttentionShape, _ element: ElementType) {
      self.shape = shape
      q = Buffer(element, [shape.batch, shape.queries, shape.heads * shape.width], seed: 1)
      k = Buffer(element, [shape.batch, shape.keys, shape.keyHeads * shape.width], seed: 2)
      v = Buffer(element, [shape.batch, shape.keys, shape.keyHeads * shape.valueWidth], seed: 3)
      bias = Buffer(element, [shape.heads, shape.queries, shape.keys], seed: 4)
      if shape.keys > 2 {
        for row in 0..<shape.heads * shape.queries { bias[row * shape.keys + 2] = -.infinity }
      }
      dO = Buffer(element, [shape.batch, shape.queries, shape.heads * shape.valueWidth], seed: 5)
    }

    /// Probabilities and results in double.
    func reference() -> (p: [Double], o: [Double]) {
      var (p, o) = ([Double](), [Double](repeating: 0, count: dO.view.count))
      for b in 0..<shape.batch {
        for h in 0..<shape.heads {
          let g = h * shape.keyHeads / shape.heads
          for i in 0..<shape.queries {
            let logits = (0..<shape.keys).map { j in
              var sum = 0.0
              for c in 0..<shape.width {
                sum +=
                  q[((b * shape.queries + i) * shape.heads + h) * shape.width + c]
                  * k[((b * shape.keys + j) * shape.keyHeads + g) * shape.width + c]
              }
              return shape.scale * sum + bias[(h * shape.queries + i) * shape.keys + j]
            }
            let row = KernelRowsTests.softmax(logits)
            p += row
            for c in 0..<shape.valueWidth {
              o[((b * shape.queries + i) * shape.heads + h) * shape.valueWidth + c] = (0..<shape.keys).reduce(
                0
              ) {
                $0 + row[$1] * v[((b * shape.keys + $1) * shape.keyHeads + g) * shape.valueWidth + c]
              }
            }
          }
        }
      }
      return (p, o)
    }

    func heads(_ buffer: Buffer, _ count: Int) -> Heads { Heads(tokens: buffer.view, heads: count) }
  }

  @Test("attention is the one in double", arguments: Variant.all)
  func forward(variant: Variant) {
    variant.run {
      for shape in Self.shapes {
        let x = Operands(shape, variant.element)
        let o = Buffer(variant.element, x.dO.view.shape)
        Kernel.attention(
          shape, q: x.heads(x.q, shape.heads), k: x.heads(x.k, shape.keyHeads),
          v: x.heads(x.v, shape.keyHeads),
          bias: Heads(broadcast: x.bias.view), into: x.heads(o, shape.heads),
          pool: SerialPool())
        let expected = x.reference()
        #expect(error(o.values, expected.o) < variant.bound(3e-6, 1e-13))
      }
    }
  }

  @Test("the gradients of attention are central differences, added")
  func gradients() {
    for shape in Self.shapes where shape.queries < 100 {
      let x = Operands(shape, .f64)
      let rows = [shape.batch, shape.heads, shape.queries]
      let (o, lse) = (Buffer(.f64, x.dO.view.shape), Buffer(.f64, rows))
      let scores = Buffer(.f64, rows + [shape.keys])
      let d = [x.q, x.k, x.v].map { Buffer(.f64, $0.view.shape) { _ in 1 } }
      let (q, k, v) = (x.heads(x.q, shape.heads), x.heads(x.k, shape.keyHeads), x.heads(x.v, shape.keyHeads))
      Kernel.attention(
        shape, q: q, k: k, v: v, bias: Heads(broadcast: x.bias.view), into: x.heads(o, shape.heads),
        logSumExp: lse.view, pool: SerialPool())
      Kernel.attentionGradient(
        shape, q: q, k: k, v: v, bias: Heads(broadcast: x.bias.view), o: x.heads(o, shape.heads),
        logSumExp: lse.view, dO: x.heads(x.dO, shape.heads), adding: x.heads(d[0], shape.heads),
        x.heads(d[1], shape.keyHeads), x.heads(d[2], shape.keyHeads), biasGradient: scores.view,
        pool: SerialPool())
      let dBias = Buffer(.f64, x.bias.view.shape) { _ in 1 }
      Kernel.reduceSum(scores.view, toShapeOf: dBias.view, pool: SerialPool())
      func loss() -> Double { zip(x.reference().o, x.dO.values).reduce(0) { $0 + $1.0 * $1.1 } }
      for (buffer, gradient) in zip([x.q, x.k, x.v, x.bias], d + [dBias]) {
        for index in stride(from: 0, to: buffer.view.count, by: 1 + buffer.view.count / 25)
        where buffer[index].isFinite {
          let value = buffer[index]
          buffer[index] = value + 1e-5
          let above = loss()
          buffer[index] = value - 1e-5
          let difference = (above - loss()) / 2e-5
          buffer[index] = value
          #expect(abs(1 + difference - gradient[index]) < 1e-7)
        }
      }
    }
  }

  @Test("f32 gradients of attention are those in double, at every level", arguments: Variant.all)
  func gradientLevels(variant: Variant) {
    variant.run {
      // One key has a gradient of 0, beside which no error is small.
      for shape in Self.shapes where shape.keys > 1 {
        func gradients(_ element: ElementType) -> [[Double]] {
          let x = Operands(shape, element)
          let (o, lse) = (
            Buffer(element, x.dO.view.shape), Buffer(element, [shape.batch, shape.heads, shape.queries])
          )
          let d = [x.q, x.k, x.v].map { Buffer(element, $0.view.shape) }
          let (q, k, v) = (
            x.heads(x.q, shape.heads), x.heads(x.k, shape.keyHeads), x.heads(x.v, shape.keyHeads)
          )
          Kernel.attention(
            shape, q: q, k: k, v: v, bias: Heads(broadcast: x.bias.view), into: x.heads(o, shape.heads),
            logSumExp: lse.view, pool: SerialPool())
          Kernel.attentionGradient(
            shape, q: q, k: k, v: v, bias: Heads(broadcast: x.bias.view), o: x.heads(o, shape.heads),
            logSumExp: lse.view, dO: x.heads(x.dO, shape.heads), adding: x.heads(d[0], shape.heads),
            x.heads(d[1], shape.keyHeads), x.heads(d[2], shape.keyHeads), pool: SerialPool())
          return d.map(\.values)
        }
        for (found, expected) in zip(gradients(variant.element), gradients(.f64)) {
          #expect(error(found, expected) < variant.bound(6e-6, 1e-12))
        }
      }
    }
  }

  @Test("a query without any key gets zeros and takes no gradient")
  func maskedRow() {
    let shape = AttentionShape(batch: 1, heads: 1, queries: 3, keys: 20, width: 4, scale: 1)
    let x = Operands(shape, .f32)
    for key in 0..<20 { x.bias[20 + key] = -.infinity }
    let (o, lse) = (Buffer(.f32, [1, 3, 4]), Buffer(.f32, [1, 1, 3]))
    let dq = Buffer(.f32, [1, 3, 4])
    let heads = { (buffer: Buffer) in Heads(tokens: buffer.view, heads: 1) }
    Kernel.attention(
      shape, q: heads(x.q), k: heads(x.k), v: heads(x.v), bias: Heads(broadcast: x.bias.view), into: heads(o),
      logSumExp: lse.view, pool: SerialPool())
    Kernel.attentionGradient(
      shape, q: heads(x.q), k: heads(x.k), v: heads(x.v), bias: Heads(broadcast: x.bias.view), o: heads(o),
      logSumExp: lse.view, dO: heads(x.dO), adding: heads(dq), nil, nil, pool: SerialPool())
    #expect(o.values[4..<8].allSatisfy { $0 == 0 } && dq.values[4..<8].allSatisfy { $0 == 0 })
    #expect((o.values + dq.values).allSatisfy { $0.isFinite } && o[0] != 0)
  }

  @Test("attention and its gradients have the same bits for every number of workers")
  func workers() {
    let shape = AttentionShape(batch: 2, heads: 3, queries: 197, keys: 197, width: 16, scale: 0.25)
    let x = Operands(shape, .f32)
    let heads = { (buffer: Buffer) in Heads(tokens: buffer.view, heads: 3) }
    withPools { pool in
      let (o, lse) = (Buffer(.f32, x.dO.view.shape), Buffer(.f32, [2, 3, 197]))
      let d = [x.q, x.k, x.v].map { Buffer(.f32, $0.view.shape) }
      Kernel.attention(
        shape, q: heads(x.q), k: heads(x.k), v: heads(x.v), into: heads(o), logSumExp: lse.view, pool: pool)
      Kernel.attentionGradient(
        shape, q: heads(x.q), k: heads(x.k), v: heads(x.v), o: heads(o), logSumExp: lse.view, dO: heads(x.dO),
        adding: heads(d[0]), heads(d[1]), heads(d[2]), pool: pool)
      return ([o, lse] + d).flatMap(\.bits)
    }
  }

  @Test("heads with so many keys that no worker's scratch holds them compute in scratch of their own")
  func manyKeys() {
    let shape = AttentionShape(batch: 1, heads: 2, queries: 2, keys: 9000, width: 4, scale: 0.5)
    let pool = ThreadPool(threads: 2)
    for element in [ElementType.f32, .f64] {
      guard let type = Kernel.attentionScratch(shape, element, workers: pool.workers) else {
        Issue.record("\(element.rawValue): the workers' scratch is said to do")
        continue
      }
      #expect(type.extents[0] == pool.workers && type.extents[1] > WorkScratch.byteCount)
      let x = Operands(shape, element)
      let memory = Buffer(.f64, [type.count / 8 + 1])
      let scratch = View(base: memory.view.base, element: .u8, shape: type.extents)
      let (y, lse) = (Buffer(element, x.dO.view.shape), Buffer(element, [2, 2]))
      Kernel.attention(
        shape, q: x.heads(x.q, 2), k: x.heads(x.k, 2), v: x.heads(x.v, 2),
        bias: Heads(broadcast: x.bias.view),
        into: x.heads(y, 2), logSumExp: lse.view, scratch: scratch, pool: pool)
      let expected = x.reference().o
      #expect(zip(y.values, expected).allSatisfy { abs($0 - $1) < 1e-4 })
      let dv = Buffer(element, x.v.view.shape)
      Kernel.attentionGradient(
        shape, q: x.heads(x.q, 2), k: x.heads(x.k, 2), v: x.heads(x.v, 2),
        bias: Heads(broadcast: x.bias.view),
        o: x.heads(y, 2), logSumExp: lse.view, dO: x.heads(x.dO, 2), adding: nil, nil, x.heads(dv, 2),
        scratch: scratch, pool: pool)
      let p = x.reference().p
      for (key, column) in [(0, 0), (1234, 3), (8999, 7)] {
        let head = column / 4
        let wanted = (0..<2).reduce(0.0) {
          $0 + p[(head * 2 + $1) * 9000 + key] * x.dO[$1 * 8 + column]
        }
        #expect(abs(dv[key * 8 + column] - wanted) < 1e-5)
      }
    }
    #expect(Kernel.attentionScratch(Self.shapes[0], .f64, workers: 2) == nil)
  }

  @Test("in bfloat16 it is near to the one in f32, and plain C has the bits of the processor's instruction")
  func narrow() {
    for shape in Self.shapes {
      let x = Operands(shape, .f32)
      func run(isNarrow: Bool) -> Buffer {
        let o = Buffer(.f32, x.dO.view.shape) { _ in .nan }
        Kernel.attention(
          shape, q: x.heads(x.q, shape.heads), k: x.heads(x.k, shape.keyHeads),
          v: x.heads(x.v, shape.keyHeads), bias: Heads(broadcast: x.bias.view),
          into: x.heads(o, shape.heads), isNarrow: isNarrow, pool: SerialPool())
        return o
      }
      let (float, native) = (run(isNarrow: false), run(isNarrow: true))
      let isFast = vk_bf16_is_fast() != 0
      vk_bf16_force_plain(1)
      defer { vk_bf16_force_plain(0) }
      let plain = run(isNarrow: true)
      #expect(error(plain.values, float.values) < 0.02)
      #expect(plain.bits != float.bits || shape.keys == 1)
      #expect(native.bits == (isFast ? plain : float).bits)
    }
  }

  @Test("in bfloat16, too, rows of masked keys are zeros or no numbers, and what is no number stays so")
  func narrowRows() {
    vk_bf16_force_plain(1)
    defer { vk_bf16_force_plain(0) }
    var shape = AttentionShape(batch: 1, heads: 1, queries: 4, keys: 5, width: 3, scale: 1)
    let x = Operands(shape, .f32)
    for key in 0..<5 { x.bias[key] = -.infinity }
    x.q[2 * 3] = .nan
    x.bias[3 * 5 + 1] = .infinity
    for isGuarded in [true, false] {
      shape.isGuarded = isGuarded
      let o = Buffer(.f32, x.dO.view.shape)
      Kernel.attention(
        shape, q: x.heads(x.q, 1), k: x.heads(x.k, 1), v: x.heads(x.v, 1),
        bias: Heads(broadcast: x.bias.view), into: x.heads(o, 1), isNarrow: true, pool: SerialPool())
      let rows = (0..<4).map { row in o.values[row * 3..<row * 3 + 3] }
      #expect(rows[0].allSatisfy { isGuarded ? $0 == 0 : $0.isNaN })
      #expect(rows[1].allSatisfy { $0.isFinite && $0 != 0 })
      #expect(rows[2].allSatisfy { $0.isNaN } && rows[3].allSatisfy { $0.isNaN })
    }
  }
}
