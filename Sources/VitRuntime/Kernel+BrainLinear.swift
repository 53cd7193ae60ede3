internal import CVitKernels
public import VitIR

extension Packing {
  /// Weights in bfloat16, `rows` rows in all, for `Kernel.linear`.
  static func brainWeights(_ operands: [Int], rows: Int, columns: Int) -> Packing {
    Packing(
      operands, form: "bfloat16 \(rows) \(columns)",
      type: TensorType(.bf16, fixed: [vk_bf16_packed_bytes(columns, rows) / ElementType.bf16.size]),
      isNarrow: true
    ) { sources, packed, pool throws(VitError) in
      let panels = (rows + Grid.panel - 1) / Grid.panel
      let scratch = try TaskScratch(ofOwn: Grid.panel * columns * 4, pool)
      pool.run(tasks: panels) { panel, worker in
        let range = panel * Grid.panel..<min(rows, (panel + 1) * Grid.panel)
        let floats = scratch[worker]
        Kernel.gather(sources, rows: range, k: columns, row: columns, into: floats, .f32)
        vk_bf16_pack(
          columns, range.count, floats.assumingMemoryBound(to: Float.self), 1, columns, range.lowerBound,
          packed.base)
      }
    }
  }
}

extension Kernel {
  /// Whether two maps with a function between them are worked through rows by rows, for so many rows: where both have 8 bits, or both
  /// are bfloat16.
  public static func isPerceptronFused(_ first: View, _ second: View, rows: Int) -> Bool {
    first.element == second.element && (first.element == .i8 || first.element == .bf16)
      && rows >= 2 * RowCut.tile
  }

  /// `y ← second(activation(first(x)))`, then the epilogue, where `isPerceptronFused`: what is between them stays in cache, and nothing
  /// else is different from two calls of `linear`.
  public static func perceptron(
    _ x: View, columns: Int, hidden: Int, rows: Int, first: View, firstBias: View?, activation: UnaryKind,
    second: View, secondBias: View?, epilogue: Epilogue, into y: View, pool: any WorkPool
  ) {
    guard first.element == .bf16 else {
      return quantisedPerceptron(
        x, columns: columns, hidden: hidden, rows: rows, first: first, firstBias: firstBias,
        activation: activation, second: second, secondBias: secondBias, epilogue: epilogue, into: y,
        pool: pool)
    }
    let m = linearRows(x, k: columns, y, n: rows)
    guard m > 0, rows > 0 else { return }
    check(firstBias, .f32, least: hidden)
    let inner = product(
      transA: false, m: m, n: hidden, k: columns, alpha: 1, a: x, lda: nil, beta: 0, c: y, ldc: nil,
      bias: firstBias, activation: activation, epilogue: Epilogue())
    let outer = product(
      transA: false, m: m, n: rows, k: hidden, alpha: 1, a: x, lda: nil, beta: 0, c: y, ldc: nil,
      bias: secondBias, activation: .identity, epilogue: epilogue)
    RowCut(m: m, work: m * hidden * (columns + rows)).each(
      width: hidden, behind: Int(VK_BF16_SCRATCH), pool: pool
    ) { range, between, scratch in
      var (inner, outer) = (inner, outer)
      inner.packed = UnsafeRawPointer(first.base)
      inner.a = UnsafeRawPointer(x.at(range.lowerBound * columns))
      inner.c = UnsafeMutableRawPointer(between)
      vk_bf16_gemm(&inner, 0, range.count, 0, hidden, scratch)
      outer.packed = UnsafeRawPointer(second.base)
      outer.a = UnsafeRawPointer(between)
      outer.c = y.at(range.lowerBound * rows)
      outer.epilogue.residual = UnsafeRawPointer(epilogue.residual?.at(range.lowerBound * rows))
      vk_bf16_gemm(&outer, 0, range.count, 0, rows, scratch)
    }
  }
}
