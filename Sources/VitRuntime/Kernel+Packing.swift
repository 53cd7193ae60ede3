internal import CVitKernels
public import VitIR

extension Packing {
  /// Weights `[out, in]` one below the other, `rows` rows in all, for `Kernel.linear`; `stored` says in which types operands
  /// are stored. Where all of these have rows of 8 bits the product is computed in them, and where all are bfloat16 in that, on
  /// machines that are faster in it.
  public static func weights(
    _ operands: [Int], _ element: ElementType, rows: Int, columns: Int, stored: [ElementType?]
  ) -> Packing {
    if element == .f32, 1...quantisedDepth ~= columns, operands.allSatisfy({ stored[$0] == .q8 }) {
      return quantisedWeights(operands, rows: rows, columns: columns)
    }
    if element == .f32, rows > 0, columns > 0, operands.allSatisfy({ stored[$0] == .bf16 }),
      vk_bf16_is_fast() != 0
    {
      return brainWeights(operands, rows: rows, columns: columns)
    }
    return matrix(operands, element, transposed: true, k: columns, n: rows, row: columns)
  }

  /// A `[k, n]` matrix, or the transpose of an `[n, k]` one, whose rows start `row` elements apart, for `Kernel.gemm`.
  public static func matrix(
    _ operand: Int, _ element: ElementType, transposed: Bool, k: Int, n: Int, row: Int
  ) -> Packing {
    matrix([operand], element, transposed: transposed, k: k, n: n, row: row)
  }

  private static func brainWeights(_ operands: [Int], rows: Int, columns: Int) -> Packing {
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

  private static func matrix(
    _ operands: [Int], _ element: ElementType, transposed: Bool, k: Int, n: Int, row: Int
  ) -> Packing {
    let real = element == .f64 ? VK_F64 : VK_F32
    return Packing(
      operands, form: "matrix \(element.rawValue) \(vk_level()) \(transposed) \(k) \(n) \(row)",
      type: TensorType(element, fixed: [vk_gemm_packed_count(real, k, n)])
    ) { sources, packed, pool throws(VitError) in
      try Kernel.pack(sources, transposed: transposed, k: k, n: n, row: row, into: packed, pool: pool)
    }
  }

  /// The mean over `heads` of a weight `[heads·rows, columns]`, for `Kernel.linear`.
  public static func headMean(
    _ operand: Int, _ element: ElementType, heads: Int, rows: Int, columns: Int
  ) -> Packing {
    let real = element == .f64 ? VK_F64 : VK_F32
    return Packing(
      [operand], form: "head mean \(element.rawValue) \(vk_level()) \(heads) \(rows) \(columns)",
      type: TensorType(element, fixed: [vk_gemm_packed_count(real, columns, rows)])
    ) { sources, packed, pool throws(VitError) in
      let mean = rows * columns * element.size
      let arena = try Arena(byteCount: (heads + 1) * mean, for: "packing a weight")
      defer { withExtendedLifetime(arena) {} }
      let all = arena.view(TensorType(element, fixed: [heads, rows, columns]), at: mean)
      let target = arena.view(TensorType(element, fixed: [rows, columns]), at: 0)
      Conversion.copy(all.count, from: sources[0].base, sources[0].element, to: all.base, element)
      Kernel.reduce(.mean, all, axes: [0], into: target, pool: pool)
      try Kernel.pack(
        [target], transposed: true, k: columns, n: rows, row: columns, into: packed, pool: pool)
    }
  }

  /// An LSTM's recurrence `[heads, 4·width, width]`, for `Kernel.lstmScan`.
  public static func recurrence(_ operand: Int, _ type: TensorType) -> Packing {
    let packed = Kernel.packedType(recurrence: type)
    return Packing(
      [operand], form: "recurrence \(type) \(vk_level())", type: packed
    ) { sources, packed, pool throws(VitError) in
      try Kernel.pack(stored: sources[0], into: packed, pool: pool)
    }
  }

  /// Vectors one behind the other: element 0 of each operand goes to its place in `count` elements, what is left is zero.
  public static func vector(
    _ operands: [Int], at places: [Int], _ element: ElementType, count: Int
  ) -> Packing {
    Packing(
      operands, form: "vector \(element.rawValue) \(places) \(count)",
      type: TensorType(element, fixed: [count])
    ) { sources, packed, _ in
      packed.zero()
      for (source, place) in zip(sources, places) {
        Conversion.copy(source.count, from: source.base, source.element, to: packed.at(place), packed.element)
      }
    }
  }
}

/// Products with a right factor that was packed.
extension Kernel {
  /// Packs the `[k, n]` matrix that `sources`, one below the other, hold: as `[k, n]`, or transposed as `[n, k]`. Columns of
  /// panels are brought into the packed type on the way, so that no more than a few are there in both.
  static func pack(
    _ sources: [View], transposed: Bool, k: Int, n: Int, row: Int, into packed: View, pool: any WorkPool
  ) throws(VitError) {
    guard k > 0, n > 0 else { return }
    let type = real(packed)
    let size = packed.element.size
    precondition(transposed || sources.count == 1)
    precondition(!transposed || sources.count == 1 || row == k)
    // As many panels as a worker's scratch has room for, and some tasks at least.
    let wanted = max(1, min(WorkScratch.byteCount / size / k, (n + 7) / 8))
    let width = (wanted + Grid.panel - 1) / Grid.panel * Grid.panel
    let panels = (n + width - 1) / width
    let scratch = try TaskScratch(ofOwn: min(n, width) * k * size, pool)
    pool.run(tasks: panels) { task, worker in
      let (low, high) = (task * width, min(n, (task + 1) * width))
      if sources.count == 1, let source = sources.first, source.element == packed.element,
        Int(bitPattern: source.base) % size == 0
      {
        return vk_gemm_pack(
          type, k, n, source.at(transposed ? low * row : low), transposed ? 1 : row, transposed ? row : 1,
          low, high, packed.base)
      }
      let columns = scratch[worker]
      if transposed {
        gather(sources, rows: low..<high, k: k, row: row, into: columns, packed.element)
        vk_gemm_pack(type, k, n, columns, 1, k, low, high, packed.base)
      } else {
        for p in 0..<k {
          Conversion.copy(
            high - low, from: sources[0].at(p * row + low), sources[0].element,
            to: columns + p * (high - low) * size, packed.element)
        }
        vk_gemm_pack(type, k, n, columns, high - low, 1, low, high, packed.base)
      }
    }
  }

  /// Rows of matrices that lie one below the other, densely.
  static func gather(
    _ sources: [View], rows: Range<Int>, k: Int, row: Int, into target: UnsafeMutableRawPointer,
    _ element: ElementType
  ) {
    var first = 0
    for source in sources {
      let count = sources.count == 1 ? rows.upperBound : source.count / k
      let part = rows.clamped(to: first..<first + count)
      for index in part {
        Conversion.copy(
          k, from: source.at((index - first) * row), source.element,
          to: target + (index - rows.lowerBound) * k * element.size, element)
      }
      first += count
    }
  }

  /// `c ← alpha·op(a)·b + beta·c` with a `b` that was packed as a matrix, then the epilogue; otherwise as the other `gemm`.
  public static func gemm(
    transA: Bool = false, m: Int, n: Int, k: Int, alpha: Double = 1, a: View, lda: Int? = nil, packed: View,
    beta: Double = 0, c: View, ldc: Int? = nil, bias: View? = nil, activation: UnaryKind = .identity,
    epilogue: Epilogue = Epilogue(), pool: any WorkPool
  ) {
    let hasNarrowRight = packed.element == .bf16
    precondition(a.element == packed.element || hasNarrowRight && a.element == .f32)
    var product = product(
      transA: transA, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, beta: beta, c: c, ldc: ldc, bias: bias,
      activation: activation, epilogue: epilogue)
    product.packed = UnsafeRawPointer(packed.base)
    run(real(a), product, packing: 0, hasNarrowRight: hasNarrowRight, pool: pool)
  }

  /// `y ← x·weightᵀ`, then the epilogue, with a weight `[rows, columns]` that was packed.
  public static func linear(
    _ x: View, rows: Int, columns: Int, packed: View, bias: View? = nil, activation: UnaryKind = .identity,
    epilogue: Epilogue = Epilogue(), into y: View, pool: any WorkPool
  ) {
    guard packed.element != .i8 else {
      return quantisedLinear(
        x, rows: rows, columns: columns, packed: packed, bias: bias, activation: activation,
        epilogue: epilogue, into: y, pool: pool)
    }
    gemm(
      m: linearRows(x, k: columns, y, n: rows), n: rows, k: columns, a: x, packed: packed, c: y,
      bias: bias, activation: activation, epilogue: epilogue, pool: pool)
  }
}
