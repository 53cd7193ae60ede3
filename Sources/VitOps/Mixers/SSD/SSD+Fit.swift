public import VitIR
internal import VitRuntime

extension SSD {
  /// Keys are centred, so that their products with queries are scores beside the mean token's; and where every direction has
  /// all channels, the merge is solved for the attended values. With an activation behind the convolution keys have no mean
  /// to be rid of.
  public func fit(_ layout: MixerLayout, _ parameters: [Tensor]) throws -> (any InteriorFit)? {
    guard form.activation == .none || form.directions == .full else { return nil }
    return try SSDFit(self, layout, parameters)
  }
}

/// The fit of a state space mixer.
///
/// The merge is solved in the same pass over the images in which the mean token is found; there the mean of the first batch
/// stands for that of all.
struct SSDFit: InteriorFit {
  private let mixer: SSD
  private let layout: MixerLayout
  private var parameters: [Tensor]
  private let centresKeys: Bool
  private var tokenSum: [Double]
  private var tokens = 0
  /// For each head the attended values on its channels in all directions.
  private var sums: [RidgeSums]

  init(_ mixer: SSD, _ layout: MixerLayout, _ parameters: [Tensor]) throws {
    self.mixer = mixer
    self.layout = layout
    self.parameters = parameters
    centresKeys = mixer.form.activation == .none
    tokenSum = [Double](repeating: 0, count: layout.dim)
    let width = layout.headWidth
    sums =
      mixer.places.merge == nil
      ? [] : (0..<layout.heads).map { _ in RidgeSums(inputs: mixer.copies * width, outputs: width) }
  }

  var readsMaps: Bool { false }

  mutating func add(_ batch: FitBatch) throws {
    let (items, steps, dim) = (batch.x.shape[0], batch.x.shape[1], batch.x.shape[2])
    guard items > 0, dim == layout.dim, steps == layout.tokens else { return }
    var sum = [Double](repeating: 0, count: dim)
    for index in 0..<batch.x.count { sum[index % dim] += Double(batch.x.f32[index]) }
    for column in 0..<dim { tokenSum[column] += sum[column] }
    let isFirst = tokens == 0
    tokens += items * steps
    guard !sums.isEmpty, batch.context.shape == [items, steps, layout.width] else { return }
    if isFirst, centresKeys, let bias = try centredKeys() { parameters[SSD.keys.bias - 1] = bias }
    try addContext(batch)
  }

  /// The bias with which keys have no mean: all but those that do not depend on the token.
  private func centredKeys() throws -> Tensor? {
    guard tokens > 0 else { return nil }
    let mean = tokenSum.map { $0 / Double(tokens) }
    let (weight, old) = (
      try parameters[SSD.keys.weight - 1].doubles(), try parameters[SSD.keys.bias - 1].doubles()
    )
    let bias = old.indices.map { row -> Double in
      let numbers = weight[row * layout.dim..<(row + 1) * layout.dim]
      if numbers.allSatisfy({ $0 == 0 }) { return old[row] }
      return -zip(numbers, mean).reduce(0) { $0 + $1.0 * $1.1 }
    }
    return Tensor(.f32, shape: [bias.count], values: bias)
  }

  /// How much a token's row counts: output tokens as much as all patches together, or nothing where something else makes
  /// their rows.
  private func weight(ofToken token: Int) -> Double {
    guard token < layout.order.outputs else { return 1 }
    return layout.ownsPrefix ? max(1, Double(layout.order.grid.count) / Double(layout.order.outputs)) : 0
  }

  private mutating func addContext(_ batch: FitBatch) throws {
    let operands = Operands([TensorType(.f32, fixed: batch.x.shape)] + parameters.map(\.type))
    let types = mixer.scratchTypes(
      operands, mode: ExecutionMode(training: false, workers: batch.pool.workers))
    let (rows, width) = (batch.x.shape[0] * batch.x.shape[1], layout.headWidth)
    let count = mixer.copies * width + 1
    let columns = count + width
    var all = parameters.map(\.type) + types
    all += [TensorType(.f64, fixed: [rows, columns]), TensorType(.f64, fixed: [count, columns])]
    func rounded(_ type: TensorType) -> Int { (type.count * type.element.size + 63) / 64 * 64 }
    let arena = try Arena(byteCount: all.reduce(0) { $0 + rounded($1) }, for: "fitting a mixer")
    defer { withExtendedLifetime(arena) {} }
    var (views, place) = ([View](), 0)
    for type in all {
      views.append(arena.view(type, at: place))
      place += rounded(type)
    }
    for (view, tensor) in zip(views, parameters) {
      for (index, value) in try tensor.doubles().enumerated() { view.f32[index] = Float(value) }
    }
    let memory = Array(views.dropFirst(parameters.count))
    let context = KernelContext(
      inputs: [batch.x] + views.prefix(parameters.count), outputs: [],
      scratch: Array(memory.prefix(types.count)),
      pool: batch.pool)
    try Blas.require(on: batch.pool)
    let inner = mixer.mix(context).inner
    let (table, moments) = (memory[types.count], memory[types.count + 1])
    let roots = (0..<layout.tokens).map { weight(ofToken: $0).squareRoot() }
    let (total, target) = (inner.shape[2], layout.width)
    for head in 0..<layout.heads {
      batch.pool.run(tasks: batch.x.shape[0]) { item, _ in
        for row in item * layout.tokens..<(item + 1) * layout.tokens {
          let (root, to) = (roots[row - item * layout.tokens], table.f64 + row * columns)
          for copy in 0..<mixer.copies {
            let from = inner.f32 + (row * total + copy * target + head * width)
            for index in 0..<width { to[copy * width + index] = root * Double(from[index]) }
          }
          to[count - 1] = root
          let wanted = batch.context.f32 + (row * target + head * width)
          for index in 0..<width { to[count + index] = root * Double(wanted[index]) }
        }
      }
      Kernel.gemm(
        transA: true, m: count, n: columns, k: rows, a: table, lda: columns, b: table, ldb: columns,
        c: moments,
        pool: batch.pool)
      sums[head].add(moments.f64, row: columns)
    }
  }

  func solve() -> [(operand: Int, tensor: Tensor)] {
    var result: [(operand: Int, tensor: Tensor)] = []
    if centresKeys {
      let bias = sums.isEmpty ? try? centredKeys() : parameters[SSD.keys.bias - 1]
      if tokens > 0, let bias { result.append((SSD.keys.bias, bias)) }
    }
    guard let merge = mixer.places.merge, let mergeBias = mixer.places.mergeBias, !sums.isEmpty, tokens > 0,
      var weights = try? parameters[merge - 1].doubles(),
      var biases = try? parameters[mergeBias - 1].doubles()
    else { return result }
    let (width, count) = (layout.headWidth, mixer.copies * layout.headWidth)
    for head in 0..<layout.heads {
      let own = head * width * count..<(head + 1) * width * count
      guard let fitted = sums[head].solve(toward: Array(weights[own])) else { continue }
      weights.replaceSubrange(own, with: fitted.weight)
      biases.replaceSubrange(head * width..<(head + 1) * width, with: fitted.intercept)
    }
    result.append((merge, Tensor(.f32, shape: parameters[merge - 1].shape, values: weights)))
    result.append((mergeBias, Tensor(.f32, shape: parameters[mergeBias - 1].shape, values: biases)))
    return result
  }
}
