public import VitIR
internal import VitRuntime

/// The memory between the steps of a state space mixer; in `vjp` that of their gradients.
struct SSDMemory {
  /// Values, keys, queries, rates and gates of each row.
  let projected: View
  /// Values, keys and queries as the scan reads them, where they are not those of `projected`.
  let convolved: View?
  /// The result of the scan, for each token.
  let scanned: View
  /// The same behind norm and gate, where there are any.
  let shaped: View?
  /// The directions merged, where each has all channels.
  let merged: View?
  /// The tokens and copies of some, where the scan reads copies.
  let extended: View?
  /// What is left of the memory.
  private(set) var rest: ArraySlice<View>

  /// What `types` lists.
  init(_ operation: SSD, _ memory: [View]) {
    var rest = memory[...]
    projected = rest.removeFirst()
    convolved = operation.isConvolved ? rest.removeFirst() : nil
    scanned = rest.removeFirst()
    shaped = operation.isShaped ? rest.removeFirst() : nil
    merged = operation.form.directions == .full ? rest.removeFirst() : nil
    extended = operation.scan.hasCopies ? rest.removeFirst() : nil
    self.rest = rest
  }

  /// What the merge or the output map reads.
  var inner: View { shaped ?? scanned }

  /// Takes the next of what is left.
  mutating func take(_ isThere: Bool = true) -> View? { isThere ? rest.removeFirst() : nil }

  static func types(_ operation: SSD, _ operands: Operands) -> [TensorType] {
    let (inner, scan) = (operation.inner(operands), operation.scan)
    var types = [scan.type(operands, operation.columns(inner: inner))]
    if operation.isConvolved { types.append(scan.type(operands, inner + 2 * operation.keyWidth)) }
    types.append(scan.type(operands, rows: false, inner))
    if operation.isShaped { types.append(scan.type(operands, rows: false, inner)) }
    if operation.form.directions == .full {
      types.append(scan.type(operands, rows: false, inner / operation.copies))
    }
    if scan.hasCopies { types.append(scan.type(operands, operands[0]?.width ?? 0)) }
    return types
  }
}

extension SSD {
  /// What each step gives.
  public func savedTypes(_ operands: Operands) -> [TensorType] {
    operands[0] == nil ? [] : SSDMemory.types(self, operands)
  }

  /// In inference what training saves, in training the gradients of that; the scan's result for each row where rows are
  /// copied; in training what each row adds to the gradients of speed and skip; memory for the scan's tasks.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0] else { return [] }
    let inner = inner(operands)
    var types = SSDMemory.types(self, operands)
    if scan.hasCopies { types.append(scan.type(operands, inner)) }
    if mode.training {
      if form.write == .delta { types.append(scan.type(operands, heads)) }
      if form.hasSkip { types.append(scan.type(operands, heads)) }
    }
    if let tasks = Kernel.ssdScratch(shape(inner: inner), steps: scan.order.rows, x.element, mode: mode) {
      types.append(tasks)
    }
    return types
  }

  /// The weights of the maps, packed as one; their biases; the packed weight of the output.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    guard let x = operands[0], maps.allSatisfy({ stored[$0.weight] != nil && stored[$0.bias] != nil }) else {
      return []
    }
    let output = places.output.packings(operands, stored)
    guard output.count == 1 else { return [] }
    var (starts, start) = ([Int](), 0)
    for map in maps {
      starts.append(start)
      start += operands[map.weight]?.extents[0] ?? 0
    }
    return [
      .weights(maps.map(\.weight), x.element, rows: start, columns: x.width, stored: stored),
      .vector(maps.map(\.bias), at: starts, x.element, count: start),
    ] + output
  }

  /// In the epilogue of the last product.
  public var takesEpilogue: Bool { true }

  /// Computes the result.
  public func forward(_ context: KernelContext) {
    let memory = mix(context)
    if let merged = memory.merged { merge(context, memory.inner, into: merged) }
    places.output.forward(
      context, memory.merged ?? memory.inner, epilogue: context.epilogue, into: context.output,
      prepared: context.prepared.last)
  }

  /// Computes everything before merge and output map.
  func mix(_ context: KernelContext) -> SSDMemory {
    let isTraining = !context.saved.isEmpty
    let memory = SSDMemory(self, isTraining ? context.saved : context.scratch)
    var scratch = SSDMemory(self, context.scratch)
    var x = context.input(0)
    if let extended = memory.extended {
      scan.extend(x, into: extended)
      x = extended
    }
    project(context, x, into: memory.projected)
    let inner = memory.scanned.shape[2]
    if let convolved = memory.convolved {
      Kernel.causal(
        scan.table, causal(inner: inner), ScanColumns(memory.projected),
        weight: places.taps.map(context.input),
        bias: places.tapBias.map(context.input), into: convolved, pool: context.pool)
    }
    let rows = scratch.take(scan.hasCopies)
    _ = (scratch.take(isTraining && form.write == .delta), scratch.take(isTraining && form.hasSkip))
    Kernel.ssd(
      scan.table, shape(inner: inner), scanOperands(context, memory, inner: inner),
      into: rows ?? memory.scanned,
      scratch: scratch.rest.first, pool: context.pool)
    if let rows { scan.select(rows, into: memory.scanned) }
    if let shaped = memory.shaped {
      Kernel.gate(
        gate(inner: inner), memory.scanned, z: gateColumns(memory.projected, inner: inner),
        gain: places.norm.map(context.input), into: shaped, pool: context.pool)
    }
    return memory
  }

  /// Values, keys, queries, rates and gates beside one another.
  private func project(_ context: KernelContext, _ x: View, into projected: View) {
    let (rows, columns) = (x.shape[0] * x.shape[1], projected.shape[2])
    if !context.prepared.isEmpty {
      Kernel.linear(
        x, rows: columns, columns: x.shape[2], packed: context.prepared[0], bias: context.prepared[1],
        into: projected, pool: context.pool)
      return
    }
    var start = 0
    for map in maps {
      let width = context.input(map.weight).shape[0]
      Kernel.gemm(
        transB: true, m: rows, n: width, k: x.shape[2], a: x, b: context.input(map.weight),
        c: projected.part(start, of: max(0, projected.count - start)), ldc: columns,
        bias: context.input(map.bias), pool: context.pool)
      start += width
    }
  }

  private func scanOperands(_ context: KernelContext, _ memory: SSDMemory, inner: Int) -> SSDOperands {
    let view = memory.convolved ?? memory.projected
    return SSDOperands(
      v: ScanColumns(view), k: ScanColumns(view, from: inner), q: ScanColumns(view, from: inner + keyWidth),
      r: ScanColumns(memory.projected, from: inner + 2 * keyWidth), speed: places.speed.map(context.input),
      skip: places.skip.map(context.input))
  }

  private func gateColumns(_ projected: View, inner: Int) -> (view: View, from: Int)? {
    form.isGated ? (projected, projected.shape[2] - inner) : nil
  }

  /// The block of direction `copy` in the merge, for the products of all heads.
  private func merging(_ merge: View, _ copy: Int) -> (block: View, row: Int, stride: BatchStride) {
    let (width, row) = (merge.shape[1], merge.shape[2])
    return (
      merge.part(copy * width, of: max(0, merge.count - copy * width)), row, BatchStride(inner: width * row)
    )
  }

  /// Each head's channels of all directions, mapped to as many as one direction has.
  private func merge(_ context: KernelContext, _ inner: View, into merged: View) {
    guard let place = places.merge, let bias = places.mergeBias else { return }
    let (total, width) = (inner.shape[2], merged.shape[2])
    let own = width / scan.heads
    for copy in 0..<copies {
      let (block, row, stride) = merging(context.input(place), copy)
      Kernel.batchedGemm(
        inner: scan.heads, transB: true, m: inner.shape[0] * inner.shape[1], n: own, k: own,
        a: inner.part(copy * width, of: max(0, inner.count - copy * width)), lda: total,
        aStride: BatchStride(inner: own), b: block, ldb: row, bStride: stride, beta: copy > 0 ? 1 : 0,
        c: merged,
        ldc: width, cStride: BatchStride(inner: own), bias: copy == copies - 1 ? context.input(bias) : nil,
        columnStride: BatchStride(inner: own), pool: context.pool)
    }
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of the tokens and of all parameters.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let (memory, pool) = (SSDMemory(self, context.saved), context.pool)
    var slopes = SSDMemory(self, context.scratch)
    let inner = memory.scanned.shape[2]
    let x = memory.extended ?? context.input(0)
    places.output.gradients(
      context, x: memory.merged ?? memory.inner, dy: dy, writing: slopes.merged ?? slopes.inner,
      operandGradients)
    if let merged = slopes.merged {
      mergeGradient(context, memory.inner, dy: merged, writing: slopes.inner, operandGradients)
    }
    if let shaped = slopes.shaped {
      let z = gateColumns(memory.projected, inner: inner)
      if z != nil, scan.hasCopies { zeroCopies(slopes.projected, from: slopes.projected.shape[2] - inner) }
      Kernel.gateGradient(
        gate(inner: inner), memory.scanned, z: z, gain: places.norm.map(context.input), ds: shaped,
        into: slopes.scanned, dz: z == nil ? nil : slopes.projected, pool: pool)
      if let norm = places.norm, let gradient = operandGradients[norm] {
        Kernel.addColumnSums(of: shaped, to: gradient, pool: pool)
      }
    }
    var scanned = slopes.scanned
    if let rows = slopes.take(scan.hasCopies) {
      scan.spread(scanned, into: rows)
      scanned = rows
    }
    let (speed, skip) = (slopes.take(form.write == .delta), slopes.take(form.hasSkip))
    let target = slopes.convolved ?? slopes.projected
    Kernel.ssdGradient(
      scan.table, shape(inner: inner), scanOperands(context, memory, inner: inner), dO: scanned,
      into: SSDGradients(
        v: ScanColumns(target), k: ScanColumns(target, from: inner),
        q: ScanColumns(target, from: inner + keyWidth),
        r: ScanColumns(slopes.projected, from: inner + 2 * keyWidth), speed: speed.map { ScanColumns($0) },
        skip: skip.map { ScanColumns($0) }), scratch: slopes.rest.first, pool: pool)
    for (place, rows) in [(places.speed, speed), (places.skip, skip)] {
      guard let place, let rows, let gradient = operandGradients[place] else { continue }
      Kernel.addColumnSums(of: rows, to: gradient, pool: pool)
    }
    if let convolved = slopes.convolved {
      Kernel.causalGradient(
        scan.table, causal(inner: inner), ScanColumns(memory.projected),
        weight: places.taps.map(context.input),
        bias: places.tapBias.map(context.input), dy: convolved, into: ScanColumns(slopes.projected),
        adding: places.taps.flatMap { operandGradients[$0] }, places.tapBias.flatMap { operandGradients[$0] },
        pool: pool)
    }
    projectGradient(context, x, slopes, operandGradients)
  }

  /// Nobody reads the gates of rows that are copies.
  private func zeroCopies(_ rows: View, from column: Int) {
    let row = rows.shape[2]
    for item in 0..<rows.shape[0] {
      for copy in scan.order.tokens..<rows.shape[1] {
        rows.part((item * rows.shape[1] + copy) * row + column, of: row - column).zero()
      }
    }
  }

  private func mergeGradient(
    _ context: KernelContext, _ inner: View, dy: View, writing dinner: View, _ operandGradients: [View?]
  ) {
    guard let place = places.merge, let bias = places.mergeBias else { return }
    let (total, width, rows) = (inner.shape[2], dy.shape[2], inner.shape[0] * inner.shape[1])
    let own = BatchStride(inner: width / scan.heads)
    for copy in 0..<copies {
      let (block, row, stride) = merging(context.input(place), copy)
      Kernel.batchedGemm(
        inner: scan.heads, m: rows, n: own.inner, k: own.inner, a: dy, lda: width, aStride: own, b: block,
        ldb: row,
        bStride: stride, c: dinner.part(copy * width, of: max(0, dinner.count - copy * width)), ldc: total,
        cStride: own, pool: context.pool)
      guard let gradient = operandGradients[place] else { continue }
      Kernel.batchedGemm(
        inner: scan.heads, transA: true, m: own.inner, n: own.inner, k: rows, a: dy, lda: width, aStride: own,
        b: inner.part(copy * width, of: max(0, inner.count - copy * width)), ldb: total, bStride: own,
        beta: 1,
        c: merging(gradient, copy).block, ldc: row, cStride: stride, pool: context.pool)
    }
    if let gradient = operandGradients[bias] {
      Kernel.addColumnSums(of: dy, to: gradient, pool: context.pool)
    }
  }

  /// Adds the gradients of the maps and of what they read.
  private func projectGradient(
    _ context: KernelContext, _ x: View, _ slopes: SSDMemory, _ operandGradients: [View?]
  ) {
    let (projected, rows) = (slopes.projected, x.shape[0] * x.shape[1])
    let dx = operandGradients[0]
    let target = dx == nil ? nil : slopes.extended ?? dx
    var start = 0
    for map in maps {
      map.gradients(
        context, x: x, dy: projected.part(start, of: max(0, projected.count - start)),
        row: projected.shape[2],
        rows: rows, adding: target, keeping: start == 0 && scan.hasCopies ? 0 : 1, operandGradients)
      start += context.input(map.weight).shape[0]
    }
    if let dx, let extended = slopes.extended { scan.addExtended(extended, to: dx, pool: context.pool) }
  }
}
