internal import CVitKernels
internal import VitIR

extension Packing {
  /// The most columns of a weight whose products are computed in 8 bits.
  static let quantisedDepth = Int(VK_S8_DEPTH)

  /// Weights in rows of 8 bits, `rows` rows in all, for `Kernel.linear`.
  static func quantisedWeights(_ operands: [Int], rows: Int, columns: Int) -> Packing {
    Packing(
      operands, form: "rows of 8 bits \(rows) \(columns)",
      type: TensorType(.i8, fixed: [vk_s8_packed_bytes(columns, rows)]), isLinear: true, isQuantised: true
    ) { sources, packed, pool in
      // Panels may begin in one source and end in another, so all are brought beside each other first, a panel at a time.
      let panels = (rows + Grid.panel - 1) / Grid.panel
      let layouts = sources.map { QuantisedRows(shape: $0.shape) }
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
    precondition(x.element == .f32 && packed.element == .i8)
    let m = linearRows(x, k: columns, y, n: rows)
    let shared = product(
      transA: false, m: m, n: rows, k: columns, alpha: 1, a: x, lda: nil, beta: 0, c: y, ldc: nil, bias: bias,
      activation: activation, epilogue: epilogue)
    guard m > 0, rows > 0 else { return }
    let product = vk_s8_product(
      m: m, n: rows, k: columns, a: x.pointer(as: Float.self), a_row: columns,
      packed: UnsafeRawPointer(packed.base), c: y.pointer(as: Float.self), c_row: rows,
      epilogue: shared.epilogue)
    // Rows are cut between tiles, since each task brings the rows that are its own into 8 bits; columns where there are few.
    let tiles = (m + 13) / 14
    let wanted = max(1, min(8, (m * rows * max(1, columns)) >> 20))
    let (tall, wide) = (min(tiles, wanted), wanted / min(tiles, wanted))
    let panels = (rows + Grid.panel - 1) / Grid.panel
    let cuts = min(wide, panels)
    run(tasks: tall * cuts, pool: pool) { task, scratch in
      var product = product
      let (i, j) = (task / cuts, task % cuts)
      vk_s8_gemm(
        &product, m * (tiles * i / tall) / tiles, m * (tiles * (i + 1) / tall) / tiles,
        min(rows, panels * j / cuts * Grid.panel), min(rows, panels * (j + 1) / cuts * Grid.panel), scratch)
    }
  }
}
