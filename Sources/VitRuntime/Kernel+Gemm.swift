internal import CVitKernels
public import VitIR

/// How far apart the items of a batch are, in elements: item `(i, j)` is at `i·outer + j·inner`.
public struct BatchStride: Sendable, Hashable {
  /// Between items that follow each other in the outer batch axis.
  public var outer: Int
  /// Between items that follow each other in the inner batch axis.
  public var inner: Int
  /// A stride.
  public init(outer: Int = 0, inner: Int) {
    self.outer = outer
    self.inner = inner
  }
}

extension Kernel {
  /// `c ← activation(alpha·op(a)·op(b) + beta·c + bias)`, then the epilogue; `op(a)` is `[m, k]`, `op(b)` `[k, n]`, `c` `[m, n]`.
  ///
  /// Rows of the stored matrices start `lda`, `ldb`, `ldc` elements apart; the default is their width. With `beta`
  /// 0, `c` is not read. `k` may be 0. The bias has one element for each column.
  public static func gemm(
    transA: Bool = false, transB: Bool = false, m: Int, n: Int, k: Int, alpha: Double = 1, a: View,
    lda: Int? = nil, b: View, ldb: Int? = nil, beta: Double = 0, c: View, ldc: Int? = nil,
    bias: View? = nil, activation: UnaryKind = .identity,
    epilogue: Epilogue = Epilogue(), pool: any WorkPool
  ) {
    precondition(a.element == b.element)
    var product = product(
      transA: transA, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, beta: beta, c: c, ldc: ldc,
      bias: bias, activation: activation, epilogue: epilogue)
    let row = ldb ?? (transB ? k : n)
    product.b = UnsafeRawPointer(b.base)
    product.b_row = transB ? 1 : row
    product.b_column = transB ? row : 1
    run(real(a), product, packing: transB ? 0.3 : 0.1, pool: pool)
  }

  /// `y ← x·weightᵀ`, then the epilogue: each row of `x` (its last axis) times a weight `[out, in]`.
  public static func linear(
    _ x: View, weight: View, bias: View? = nil, activation: UnaryKind = .identity,
    epilogue: Epilogue = Epilogue(), into y: View, pool: any WorkPool
  ) {
    precondition(weight.rank == 2)
    let (n, k) = (weight.shape[0], weight.shape[1])
    gemm(
      transB: true, m: linearRows(x, k: k, y, n: n), n: n, k: k, a: x, b: weight, c: y, bias: bias,
      activation: activation, epilogue: epilogue, pool: pool)
  }

  static func linearRows(_ x: View, k: Int, _ y: View, n: Int) -> Int {
    let rows = k > 0 ? x.count / k : n > 0 ? y.count / n : 0
    precondition(x.count == rows * k && y.count == rows * n)
    return rows
  }

  /// The products `c ← alpha·op(a)·op(b) + beta·c` of a batch of `outer × inner` items, then the epilogue on each.
  ///
  /// A stride of 0 shares an operand; items of `c` must not overlap. Bias and the epilogue's scale are the same
  /// for all items unless `columnStride` says where an item's are; its residual has the strides of `c`.
  public static func batchedGemm(
    outer: Int = 1, inner: Int, transA: Bool = false, transB: Bool = false, m: Int, n: Int, k: Int,
    alpha: Double = 1, a: View, lda: Int? = nil, aStride: BatchStride, b: View, ldb: Int? = nil,
    bStride: BatchStride, beta: Double = 0, c: View, ldc: Int? = nil, cStride: BatchStride,
    bias: View? = nil, activation: UnaryKind = .identity,
    epilogue: Epilogue = Epilogue(), columnStride: BatchStride = BatchStride(inner: 0), pool: any WorkPool
  ) {
    precondition(a.element == b.element)
    let type = real(a)
    let size = a.element.size
    var shared = product(
      transA: transA, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, beta: beta, c: c, ldc: ldc,
      bias: bias, activation: activation, epilogue: epilogue)
    let row = ldb ?? (transB ? k : n)
    shared.b = UnsafeRawPointer(b.base)
    shared.b_row = transB ? 1 : row
    shared.b_column = transB ? row : 1
    let template = shared
    // Small items go several to a task, large ones are cut where there are few.
    let items = outer * inner
    guard items > 0, m > 0, n > 0 else { return }
    let grid = Grid(m: m, n: n, k: k, packing: transB ? 0.3 : 0.1, most: max(1, 24 / items))
    let pieces = grid.rows * grid.columns
    let perTask = max(1, (1 << 19) / (m * n * max(1, k)))
    let groups = pieces > 1 ? items : (items + perTask - 1) / perTask
    let isNarrow = isNarrow(type, shared, pool)
    if m * n > 1, !isNarrow { Blas.demand(type, pool) }
    run(tasks: groups * pieces, pool: pool) { task, scratch in
      let (group, piece) = (task / pieces, task % pieces)
      for item in items * group / groups..<items * (group + 1) / groups {
        let (i, j) = (item / inner, item % inner)
        var product = template
        func move(_ pointer: UnsafeRawPointer?, _ stride: BatchStride) -> UnsafeRawPointer? {
          pointer.map { $0 + (i * stride.outer + j * stride.inner) * size }
        }
        product.a = move(template.a, aStride)
        product.b = move(template.b, bStride)
        product.c = template.c.map { $0 + (i * cStride.outer + j * cStride.inner) * size }
        product.epilogue.bias = move(template.epilogue.bias, columnStride)
        product.epilogue.scale = move(template.epilogue.scale, columnStride)
        product.epilogue.residual = move(template.epilogue.residual, cStride)
        let (row, column) = (piece / grid.columns, piece % grid.columns)
        multiply(
          type, &product, rows: m * row / grid.rows..<m * (row + 1) / grid.rows,
          columns: grid.column(column)..<grid.column(column + 1), isNarrow: isNarrow, scratch)
      }
    }
  }

  /// Runs the tasks with their worker's scratch.
  static func run(
    tasks: Int, pool: any WorkPool, _ body: (_ task: Int, _ scratch: UnsafeMutableRawPointer) -> Void
  ) {
    pool.run(tasks: tasks) { task, worker in body(task, pool.scratch(worker)) }
  }

  /// Checks an operand that may be absent. (A loop over several would be memory for an array.)
  static func check(_ view: View?, _ element: ElementType, least count: Int) {
    guard let view else { return }
    precondition(view.element == element && view.count >= count)
  }

  static func product(
    transA: Bool, m: Int, n: Int, k: Int, alpha: Double, a: View, lda: Int?, beta: Double, c: View, ldc: Int?,
    bias: View?, activation: UnaryKind, epilogue: Epilogue
  ) -> vk_product {
    precondition(m >= 0 && n >= 0 && k >= 0 && a.element == c.element)
    let width = ldc ?? n
    check(bias, c.element, least: n)
    check(epilogue.scale, c.element, least: n)
    check(epilogue.residual, c.element, least: 0)
    let row = lda ?? (transA ? m : k)
    let (kind, first, second) = activation.code
    return vk_product(
      m: m, n: n, k: k, a: UnsafeRawPointer(a.base), a_row: transA ? 1 : row, a_column: transA ? row : 1,
      b: nil, b_row: 0, b_column: 0, packed: nil, c: c.base, c_row: width, alpha: alpha, beta: beta,
      epilogue: vk_epilogue(
        bias: UnsafeRawPointer(bias?.base), activation: kind, a: first, b: second,
        scale: UnsafeRawPointer(epilogue.scale?.base), residual: UnsafeRawPointer(epilogue.residual?.base),
        residual_row: width))
  }

  static func run(
    _ type: vk_real, _ product: vk_product, packing: Double, hasNarrowRight: Bool = false, pool: any WorkPool
  ) {
    guard product.m > 0, product.n > 0 else { return }
    let isNarrow = hasNarrowRight || isNarrow(type, product, pool)
    if product.m * product.n > 1, !isNarrow { Blas.demand(type, pool) }
    let grid = Grid(m: Int(product.m), n: Int(product.n), k: Int(product.k), packing: packing)
    run(tasks: grid.rows * grid.columns, pool: pool) { task, scratch in
      var product = product
      let (i, j) = (task / grid.columns, task % grid.columns)
      multiply(
        type, &product, rows: Int(product.m) * i / grid.rows..<Int(product.m) * (i + 1) / grid.rows,
        columns: grid.column(j)..<grid.column(j + 1), isNarrow: isNarrow, scratch)
    }
  }

  /// Whether a product is computed in bfloat16: where the pool says so, by its shape alone and the processor.
  private static func isNarrow(_ type: vk_real, _ product: vk_product, _ pool: any WorkPool) -> Bool {
    pool.products == .bf16 && type == VK_F32 && product.packed == nil && product.k >= leastNarrow
      && product.n >= leastNarrow && vk_bf16_is_fast() != 0
  }

  /// The least depth and width for which rounding operands pays.
  private static let leastNarrow = 16

  private static func multiply(
    _ type: vk_real, _ product: inout vk_product, rows: Range<Int>, columns: Range<Int>, isNarrow: Bool,
    _ scratch: UnsafeMutableRawPointer
  ) {
    let (top, bottom, left, right) = (
      rows.lowerBound, rows.upperBound, columns.lowerBound, columns.upperBound
    )
    if isNarrow {
      vk_bf16_gemm(&product, top, bottom, left, right, scratch)
    } else {
      vk_gemm(type, &product, top, bottom, left, right, scratch)
    }
  }
}

/// How a product is cut into tasks: by its shape alone.
struct Grid {
  private(set) var rows = 1
  private(set) var columns = 1
  private let n: Int
  /// The width of a panel of a packed matrix: cuts of columns fall between panels.
  static let panel = 32

  /// The grid of least waste. `packing` is what it costs to pack an element of B, which every task does for the
  /// columns that are its own, in the time of 32 multiplications and additions.
  /// At most `most` tasks, or 12.
  init(m: Int, n: Int, k: Int, packing: Double, most: Int = 12) {
    self.n = n
    let work = m * n * max(1, k)
    let wanted = min(12, most, work >> 20)
    guard wanted > 1 else { return }
    let panels = (n + Grid.panel - 1) / Grid.panel
    var best = Double.infinity
    for columns in 1...min(panels, wanted) {
      let rows = min(max(1, m / 28), (wanted + columns - 1) / columns)
      let tasks = rows * columns
      // The largest task, in products of a row with 32 columns; then packing and reading A again for each column cut.
      let height = (m + rows - 1) / rows
      let width = (panels + columns - 1) / columns
      let slack = Double(height * rows * width * columns) / Double(m * panels)
      let overhead =
        1 + Double(Grid.panel) * packing / Double(height) + 0.05 * Double(Grid.panel)
        / Double(width * Grid.panel)
      let cost = slack * overhead * max(1, Double(wanted) / Double(tasks)).squareRoot()
      if cost < best {
        best = cost
        self.rows = rows
        self.columns = columns
      }
    }
  }

  /// The first column of column cut `index`.
  func column(_ index: Int) -> Int {
    let panels = (n + Grid.panel - 1) / Grid.panel
    return min(n, panels * index / columns * Grid.panel)
  }
}
