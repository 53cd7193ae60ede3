internal import VitIR
internal import VitRuntime

/// Where the elements of one factor of an Einstein sum lie: each label once, with extent and step.
struct EinsumFactor {
  /// Memory that a plan refers to before it is there.
  enum Memory: Equatable {
    case operand(Int)
    case scratch(Int)
    case result
  }

  var labels: [Int]
  var extents: [Int]
  var steps: [Int]
  var memory: Memory

  /// An operand of these axes. A label that occurs twice runs along the diagonal; extents of one are left
  /// out.
  init(_ axes: [Int], _ shape: [Int], _ memory: Memory) {
    let strides = rowMajorStrides(shape)
    (labels, extents, steps) = ([], [], [])
    self.memory = memory
    for (axis, label) in axes.enumerated() where shape[axis] != 1 {
      if let place = labels.firstIndex(of: label) {
        steps[place] += strides[axis]
      } else {
        labels.append(label)
        extents.append(shape[axis])
        steps.append(strides[axis])
      }
    }
  }

  /// A dense factor of labels in that order.
  init(dense labels: [Int], _ extents: [Int], _ memory: Memory) {
    self.labels = labels
    self.extents = extents
    self.memory = memory
    steps = rowMajorStrides(extents)
  }

  var count: Int { extents.reduce(1, *) }

  func extent(_ label: Int) -> Int { labels.firstIndex(of: label).map { extents[$0] } ?? 1 }

  /// The step along a label, zero where it has none.
  func step(_ label: Int) -> Int { labels.firstIndex(of: label).map { steps[$0] } ?? 0 }

  /// Some labels as one axis: its extent and step; `nil` where they are no single run.
  func run(_ labels: [Int]) -> (extent: Int, step: Int)? {
    var (extent, step) = (1, 1)
    for (index, label) in labels.reversed().enumerated() {
      if index == 0 {
        step = self.step(label)
      } else if self.step(label) != step * extent {
        return nil
      }
      extent *= self.extent(label)
    }
    return (extent, step)
  }
}

/// An Einstein sum of concrete extents as a list of steps: sums, elementwise and matrix products, pair by
/// pair.
struct EinsumPlan {
  /// One step; it writes to the memory of its last factor.
  enum Step {
    /// Elements are moved and summed over labels that the target lacks.
    case sum(EinsumFactor, into: EinsumFactor)
    /// Elements are multiplied, nothing being summed.
    case multiply(EinsumFactor, EinsumFactor, into: EinsumFactor)
    /// Matrices are multiplied.
    case product(BatchedProduct, EinsumFactor, EinsumFactor, into: EinsumFactor)
  }

  private(set) var steps: [Step] = []
  /// Elements of scratch.
  private(set) var scratch = 0
  /// Floating-point operations.
  private(set) var flops = 0

  /// The sum of products of `factors` over all labels that `result` lacks.
  init(_ factors: [EinsumFactor], into result: EinsumFactor) {
    var left = factors[0]
    for (index, right) in factors.enumerated().dropFirst() {
      let later = factors[(index + 1)...].flatMap(\.labels) + result.labels
      let isLast = index == factors.count - 1
      let a = summed(left, keeping: right.labels + later)
      let b = summed(right, keeping: left.labels + later)
      left = multiplied(a, b, keeping: later, into: isLast ? result : nil)
    }
    if left.memory != .result { steps.append(.sum(left, into: result)) }
  }

  private mutating func temporary(_ labels: [Int], _ extents: [Int]) -> EinsumFactor {
    let factor = EinsumFactor(dense: labels, extents, .scratch(scratch))
    // Each begins at a cache line.
    scratch += (factor.count + 15) / 16 * 16
    return factor
  }

  private mutating func summed(_ factor: EinsumFactor, keeping labels: [Int]) -> EinsumFactor {
    let kept = factor.labels.filter(labels.contains)
    if kept.count == factor.labels.count { return factor }
    let target = temporary(kept, kept.map(factor.extent))
    flops += factor.count
    steps.append(.sum(factor, into: target))
    return target
  }

  /// The factor with its labels in the given groups' order, each group one run.
  private mutating func grouped(_ factor: EinsumFactor, _ batch: [Int], _ rows: [Int], _ columns: [Int])
    -> EinsumFactor
  {
    if let row = factor.run(rows), let column = factor.run(columns),
      row.extent == 1 || row.step == 1 || column.extent == 1 || column.step == 1
    {
      return factor
    }
    let labels = batch + rows + columns
    let target = temporary(labels, labels.map(factor.extent))
    steps.append(.sum(factor, into: target))
    return target
  }

  private mutating func multiplied(
    _ a: EinsumFactor, _ b: EinsumFactor, keeping labels: [Int], into result: EinsumFactor?
  ) -> EinsumFactor {
    let batch = a.labels.filter { b.labels.contains($0) && labels.contains($0) }
    let inner = a.labels.filter { b.labels.contains($0) && !labels.contains($0) }
    let rows = a.labels.filter { !b.labels.contains($0) }
    let columns = b.labels.filter { !a.labels.contains($0) }
    let all = batch + rows + columns
    func extent(_ label: Int) -> Int { a.labels.contains(label) ? a.extent(label) : b.extent(label) }
    func size(_ labels: [Int]) -> Int { labels.reduce(1) { $0 * extent($1) } }
    flops += 2 * size(all) * size(inner)
    if inner.isEmpty {
      let target = result ?? temporary(all, all.map(extent))
      steps.append(.multiply(a, b, into: target))
      return target
    }
    let x = grouped(a, batch, rows, inner)
    let y = grouped(b, batch, inner, columns)
    if let result {
      if let product = Self.product(x, y, batch, rows, inner, columns, into: result) {
        steps.append(.product(product, x, y, into: result))
        return result
      }
      // (A·B)ᵀ = Bᵀ·Aᵀ, which may lie better.
      if let product = Self.product(y, x, batch, columns, inner, rows, into: result) {
        steps.append(.product(product, y, x, into: result))
        return result
      }
    }
    let target = temporary(all, all.map(extent))
    guard let product = Self.product(x, y, batch, rows, inner, columns, into: target) else {
      preconditionFailure("grouped factors are matrices")
    }
    steps.append(.product(product, x, y, into: target))
    return target
  }

  private static func product(
    _ a: EinsumFactor, _ b: EinsumFactor, _ batch: [Int], _ rows: [Int], _ inner: [Int], _ columns: [Int],
    into c: EinsumFactor
  ) -> BatchedProduct? {
    guard let m = c.run(rows), let n = c.run(columns), n.extent == 1 || n.step == 1,
      let am = a.run(rows), let ak = a.run(inner), let bk = b.run(inner), let bn = b.run(columns)
    else { return nil }
    let isPlainA = ak.extent == 1 || ak.step == 1
    let isPlainB = bn.extent == 1 || bn.step == 1
    guard isPlainA || am.extent == 1 || am.step == 1, isPlainB || bk.extent == 1 || bk.step == 1 else {
      return nil
    }
    func row(_ run: (extent: Int, step: Int), width: Int) -> Int {
      run.extent == 1 ? max(1, width) : run.step
    }
    return BatchedProduct(
      axes: batch.map { BatchAxis(extent: c.extent($0), a: a.step($0), b: b.step($0), c: c.step($0)) },
      m: m.extent, n: n.extent, k: ak.extent, transA: !isPlainA,
      lda: isPlainA ? row(am, width: ak.extent) : row(ak, width: am.extent), transB: !isPlainB,
      ldb: isPlainB ? row(bk, width: bn.extent) : row(bn, width: bk.extent), ldc: row(m, width: n.extent))
  }

  /// Runs the steps; `scratch` has room for as many elements as the plan says.
  func run(_ operands: [View?], scratch: View, into result: View, pool: any WorkPool) {
    func memory(_ factor: EinsumFactor) -> View {
      switch factor.memory {
      case .operand(let index):
        guard let view = operands[index] else { preconditionFailure("operand \(index) is absent") }
        return view
      case .scratch(let offset): return scratch.from(offset)
      case .result: return result
      }
    }
    for step in steps {
      switch step {
      case .product(let product, let a, let b, let c):
        product.run(a: memory(a), b: memory(b), c: memory(c), pool: pool)
      case .sum(let from, let to): Self.sum(from, memory(from), into: to, memory(to), pool)
      case .multiply(let a, let b, let c):
        Self.multiply(a, memory(a), b, memory(b), into: c, memory(c), pool)
      }
    }
  }

  private static func sum(
    _ from: EinsumFactor, _ source: View, into to: EinsumFactor, _ target: View, _ pool: any WorkPool
  ) {
    let order = to.labels + from.labels.filter { !to.labels.contains($0) }
    let extents = order.map { max(from.extent($0), to.extent($0)) }
    if order.count == to.labels.count, from.labels.count == to.labels.count {
      return Move(
        shape: extents, source: Move.Region(strides: from.steps(order)),
        target: Move.Region(strides: to.steps)
      ).copy(source, to: target, pool)
    }
    let plan = Broadcasting(shape: extents, first: to.steps(order), second: from.steps(order))
    let (s, t) = plan.steps
    func run<T: Numeric>(_ type: T.Type, _ add: (T, T) -> T) {
      let (x, y) = (source.pointer(as: T.self), target.pointer(as: T.self))
      for index in 0..<to.count { y[index] = 0 }
      plan.forEachPieceOwningFirst(pool) { _, i, j, count in
        for k in 0..<count { y[i + k * s] = add(y[i + k * s], x[j + k * t]) }
      }
    }
    switch target.element {
    case .f32: run(Float.self) { $0 + $1 }
    case .f64: run(Double.self) { $0 + $1 }
    case .i64: run(Int64.self) { $0 &+ $1 }
    default: run(Int32.self) { $0 &+ $1 }
    }
  }

  private static func multiply(
    _ a: EinsumFactor, _ x: View, _ b: EinsumFactor, _ y: View, into c: EinsumFactor, _ z: View,
    _ pool: any WorkPool
  ) {
    let plan = Broadcasting(shape: c.extents, first: a.steps(c.labels), second: b.steps(c.labels))
    switch z.element {
    case .f32: plan.map(x, y, z, pool, as: (Float.self, Float.self, Float.self)) { $0 * $1 }
    case .f64: plan.map(x, y, z, pool, as: (Double.self, Double.self, Double.self)) { $0 * $1 }
    case .i64: plan.map(x, y, z, pool, as: (Int64.self, Int64.self, Int64.self)) { $0 &* $1 }
    default: plan.map(x, y, z, pool, as: (Int32.self, Int32.self, Int32.self)) { $0 &* $1 }
    }
  }
}

extension EinsumFactor {
  /// The steps along these labels.
  func steps(_ labels: [Int]) -> [Int] { labels.map(step) }
}
