internal import CVitKernels
public import VitIR

extension Packing {
  /// The most columns of a weight whose products are computed in 8 bits.
  static let quantisedDepth = Int(VK_S8_DEPTH)

  /// Weights in rows of 8 bits, `rows` rows in all, for `Kernel.linear`.
  static func quantisedWeights(_ operands: [Int], rows: Int, columns: Int) -> Packing {
    Packing(
      operands, form: "rows of 8 bits \(rows) \(columns)",
      type: TensorType(.i8, fixed: [vk_s8_packed_bytes(columns, rows)]), isNarrow: true
    ) { sources, packed, pool in
      // Panels may begin in one source and end in another, so all are brought beside each other first, a panel at a time.
      let panels = (rows + Grid.panel - 1) / Grid.panel
      let layouts = sources.compactMap { QuantisedRows(.q8, shape: $0.shape) }
      pool.run(tasks: panels) { panel, worker in
        let range = panel * Grid.panel..<min(rows, (panel + 1) * Grid.panel)
        let scales = pool.scratch(worker)
        let whole = scales + Grid.panel * 4
        var first = 0
        for (source, layout) in zip(sources, layouts) {
          let part = range.clamped(to: first..<first + layout.rows)
          if !part.isEmpty {
            let (from, to) = (part.lowerBound - first, part.lowerBound - range.lowerBound)
            (scales + 4 * to).copyMemory(from: source.base + 4 * from, byteCount: 4 * part.count)
            (whole + to * columns).copyMemory(
              from: source.base + layout.start + from * columns, byteCount: part.count * columns)
          }
          first += layout.rows
        }
        vk_s8_pack(
          columns, whole.assumingMemoryBound(to: Int8.self), scales.assumingMemoryBound(to: Float.self),
          range.lowerBound, range.upperBound, packed.base)
      }
    }
  }
}

extension Kernel {
  /// `y ← x·weightᵀ`, then the epilogue, where the weight's rows have 8 bits: each row of `x` is brought into 8 bits with a scale
  /// of its own (see `vk_s8_product`). The same bits on every machine.
  static func quantisedLinear(
    _ x: View, rows: Int, columns: Int, packed: View, bias: View?, activation: UnaryKind, epilogue: Epilogue,
    into y: View, pool: any WorkPool
  ) {
    let m = linearRows(x, k: columns, y, n: rows)
    guard m > 0, rows > 0 else { return }
    let product = quantisedProduct(
      x, m: m, n: rows, k: columns, packed: packed, bias: bias, activation: activation, epilogue: epilogue,
      into: y)
    let cut = RowCut(m: m, work: m * rows * max(1, columns))
    let panels = (rows + Grid.panel - 1) / Grid.panel
    let cuts = min(cut.wanted / cut.tasks, panels)
    run(tasks: cut.tasks * cuts, pool: pool) { task, scratch in
      var product = product
      let (range, j) = (cut.rows(of: task / cuts), task % cuts)
      vk_s8_gemm(
        &product, range.lowerBound, range.upperBound, min(rows, panels * j / cuts * Grid.panel),
        min(rows, panels * (j + 1) / cuts * Grid.panel), scratch)
    }
  }

  /// Whether two maps in 8 bits with a function between them are worked through rows by rows, for so many rows.
  public static func isPerceptronFused(_ first: View, _ second: View, rows: Int) -> Bool {
    first.element == .i8 && second.element == .i8 && rows >= 2 * RowCut.tile
  }

  /// `y ← second(activation(first(x)))`, then the epilogue, where both weights have rows of 8 bits: what is between them stays in
  /// cache, and nothing else is different from two calls of `linear`.
  public static func quantisedPerceptron(
    _ x: View, columns: Int, hidden: Int, rows: Int, first: View, firstBias: View?, activation: UnaryKind,
    second: View, secondBias: View?, epilogue: Epilogue, into y: View, pool: any WorkPool
  ) {
    let m = linearRows(x, k: columns, y, n: rows)
    guard m > 0, rows > 0 else { return }
    let inner = quantisedProduct(
      x, m: m, n: hidden, k: columns, packed: first, bias: firstBias, activation: activation,
      epilogue: Epilogue(), into: nil)
    let outer = quantisedProduct(
      nil, m: m, n: rows, k: hidden, packed: second, bias: secondBias, activation: .identity,
      epilogue: epilogue, into: y)
    let cut = RowCut(m: m, work: m * hidden * (columns + rows))
    let start = (Int(VK_S8_SCRATCH) + 63) / 64 * 64
    let most = min(4 * RowCut.tile, (WorkScratch.byteCount - start) / (4 * max(1, hidden)))
    run(tasks: cut.tasks, pool: pool) { task, scratch in
      var (inner, outer) = (inner, outer)
      let between = (scratch + start).assumingMemoryBound(to: Float.self)
      let range = cut.rows(of: task)
      for top in stride(from: range.lowerBound, to: range.upperBound, by: most) {
        let count = min(most, range.upperBound - top)
        inner.a = UnsafePointer(x.pointer(as: Float.self) + top * columns)
        inner.c = between
        vk_s8_gemm(&inner, 0, count, 0, hidden, scratch)
        outer.a = UnsafePointer(between)
        outer.c = y.pointer(as: Float.self) + top * rows
        outer.epilogue.residual = UnsafeRawPointer(epilogue.residual?.at(top * rows))
        vk_s8_gemm(&outer, 0, count, 0, rows, scratch)
      }
    }
  }

  private static func quantisedProduct(
    _ x: View?, m: Int, n: Int, k: Int, packed: View, bias: View?, activation: UnaryKind, epilogue: Epilogue,
    into y: View?
  ) -> vk_s8_product {
    precondition(packed.element == .i8)
    check(x, .f32, least: m * k)
    check(y, .f32, least: m * n)
    check(bias, .f32, least: n)
    check(epilogue.scale, .f32, least: n)
    check(epilogue.residual, .f32, least: m * n)
    let (kind, first, second) = activation.code
    return vk_s8_product(
      m: m, n: n, k: k, a: x.map { UnsafePointer($0.pointer(as: Float.self)) }, a_row: k,
      packed: UnsafeRawPointer(packed.base), c: y?.pointer(as: Float.self), c_row: n,
      epilogue: vk_epilogue(
        bias: UnsafeRawPointer(bias?.base), activation: kind, a: first, b: second,
        scale: UnsafeRawPointer(epilogue.scale?.base),
        residual: UnsafeRawPointer(epilogue.residual?.base), residual_row: n))
  }
}

/// How rows are cut into tasks that bring their own rows into 8 bits: by the shape alone.
private struct RowCut {
  /// The rows of a tile of the fastest kernel.
  static let tile = 14
  /// The tasks that would be well, and those that there are: as many as tiles at most.
  let wanted: Int, tasks: Int
  private let m: Int

  init(m: Int, work: Int) {
    self.m = m
    wanted = max(1, min(8, work >> 20))
    tasks = min((m + RowCut.tile - 1) / RowCut.tile, wanted)
  }

  func rows(of task: Int) -> Range<Int> {
    m * task / tasks..<m * (task + 1) / tasks
  }
}
