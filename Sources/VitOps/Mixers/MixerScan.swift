internal import Synchronization
internal import VitIR
internal import VitRuntime

/// What mixers with scans share: heads and order as attributes, the type rule of the tokens.
struct MixerScan: Hashable, Sendable {
  /// The number of heads.
  let heads: Int
  /// How the tokens are read.
  private(set) var order: ScanOrder
  /// Whether directions share the heads.
  let splitsHeads: Bool

  /// The most channels of a head.
  static let maximumHeadWidth = 1 << 13

  /// Heads that are not scanned, over tokens in this order.
  init(heads: Int, order: ScanOrder) {
    self.heads = heads
    self.order = order
    splitsHeads = false
  }

  init(_ layout: MixerLayout) {
    heads = layout.heads
    order = layout.order
    splitsHeads = layout.splitsHeads
  }

  init(_ reader: inout AttributeReader, splitsHeads: Bool = true) throws(VitError) {
    self.splitsHeads = splitsHeads
    heads = try reader.int("heads")
    order = try ScanOrder(&reader)
    guard heads > 0, heads <= ScanOrder.maximumTokens, !splitsHeads || heads % order.directionCount == 0
    else {
      throw VitError(
        "attribute 'heads' is \(heads), expected a positive"
          + (splitsHeads ? " multiple of the \(order.directionCount) directions" : " number"))
    }
  }

  /// The scan of so many merged patches: they are still in the order of the grid's rows, but no longer in columns.
  func merged(patches: Int) throws(VitError) -> MixerScan {
    guard order.pattern != .cross else {
      throw VitError(
        "it scans columns of the grid (order 'cross'), which merged tokens do not have", code: "merge-order")
    }
    var scan = self
    scan.order = try ScanOrder(
      order.pattern, grid: .init(rows: 1, columns: patches), prefix: order.prefix, outputs: order.outputs,
      placement: order.placement)
    return scan
  }

  /// The order as scans take it.
  var table: ScanTable { ScanTables.table(of: order) }

  var attributes: Attributes { Attributes([("heads", .int(heads))] + order.attributes) }

  /// The layout that the operands have: `x` is operand 0, `inner` and `outputDim` are what the weights'
  /// shapes say.
  func layout(_ x: TensorType, width: Dimension, outputDim: Dimension) throws(VitError) -> MixerLayout {
    guard let dim = x.shape[2].fixedValue, let width = width.fixedValue, let outputDim = outputDim.fixedValue
    else {
      throw VitError("'x' is \(x), expected a number of channels that is known", code: "operand-shape")
    }
    if let tokens = x.shape[1].fixedValue, tokens != order.tokens {
      throw VitError(
        "'x' has \(tokens) tokens, but a grid of \(order.grid.rows) by \(order.grid.columns) patches with"
          + " \(order.prefix) tokens before it has \(order.tokens)", code: "operand-shape")
    }
    try MixerLayout.check(
      width: width, heads: heads, directions: splitsHeads ? order.directionCount : 1, kind: .input)
    guard width / heads <= MixerScan.maximumHeadWidth else {
      throw VitError(
        "heads of \(width / heads) channels are too wide, expected at most \(MixerScan.maximumHeadWidth)")
    }
    do {
      return try MixerLayout(
        dim: dim, outputDim: outputDim, width: width, heads: heads, order: order, splitsHeads: splitsHeads)
    } catch { throw VitError(error.diagnostic.message, code: error.diagnostic.code) }
  }

  /// Checks the operands of `mixer`, which has this inner width and the output's bias at `bias`, against its
  /// parameters; the type of the result.
  func resultTypes(
    _ mixer: any Mixer, _ operands: Operands, width: Dimension, bias: Int
  ) throws(VitError) -> [TensorType] {
    let x = try operands.float(0, "x", rank: 3...3)
    let bias = try operands.float(bias, "bo", rank: 1...1)
    let layout = try layout(x, width: width, outputDim: bias.shape[0])
    let parameters = mixer.parameters(layout)
    try operands.expectCount(1 + parameters.count...1 + (mixer.sizes ?? parameters.count))
    try operands.expectOneResult()
    if let sizes = mixer.sizes {
      try operands.expectOptional(sizes, "sizes", x.with([x.shape[0], 1, 1, x.shape[1]]))
    }
    for (index, parameter) in parameters.enumerated() {
      try operands.expect(index + 1, parameter.name, TensorType(x.element, fixed: parameter.shape))
    }
    return [x.with([x.shape[0], x.shape[1], bias.shape[0]])]
  }
}

/// The rows of a scan and the tokens (Mixers.md §0): the same, unless output tokens are read twice.
extension MixerScan {
  /// Whether there are rows beside the tokens.
  var hasCopies: Bool { order.rows != order.tokens }

  /// The type of `width` numbers for each row, or for each token, of the batch of `x`.
  func type(_ operands: Operands, rows: Bool = true, _ width: Int) -> TensorType {
    guard let x = operands[0] else { preconditionFailure("checked before") }
    return TensorType(x.element, fixed: [x.extents[0], rows ? order.rows : order.tokens, width])
  }

  /// Rows `range` of an item of `[items, steps, width]`.
  private func part(_ view: View, _ item: Int, _ range: Range<Int>) -> View {
    let (steps, width) = (view.shape[1], view.shape[2])
    return view.part((item * steps + range.lowerBound) * width, of: range.count * width)
  }

  private var outputs: Range<Int> { 0..<order.outputs }
  private var copies: Range<Int> { order.tokens..<order.rows }
  private var others: Range<Int> { order.outputs..<order.tokens }

  /// The tokens, and behind them copies of the output tokens.
  func extend(_ tokens: View, into rows: View) {
    for item in 0..<tokens.shape[0] {
      part(rows, item, 0..<order.tokens).copy(from: part(tokens, item, 0..<order.tokens))
      part(rows, item, copies).copy(from: part(tokens, item, outputs))
    }
  }

  /// Adds to the gradient of the tokens that of the rows made of them.
  func addExtended(_ rows: View, to tokens: View, pool: any WorkPool) {
    for item in 0..<tokens.shape[0] {
      let whole = part(tokens, item, 0..<order.tokens)
      Kernel.addRepeated(whole, part(rows, item, 0..<order.tokens), into: whole, pool: pool)
      let first = part(tokens, item, outputs)
      Kernel.addRepeated(first, part(rows, item, copies), into: first, pool: pool)
    }
  }

  /// The rows whose results are the tokens'.
  func select(_ rows: View, into tokens: View) {
    for item in 0..<tokens.shape[0] {
      part(tokens, item, outputs).copy(from: part(rows, item, copies))
      part(tokens, item, others).copy(from: part(rows, item, others))
    }
  }

  /// The gradient of the rows from that of the tokens; zero where a row's result is nobody's.
  func spread(_ tokens: View, into rows: View) {
    for item in 0..<tokens.shape[0] {
      part(rows, item, outputs).zero()
      part(rows, item, copies).copy(from: part(tokens, item, outputs))
      part(rows, item, others).copy(from: part(tokens, item, others))
    }
  }
}

/// The tables of the orders that were scanned last: layers share them, and one that never runs has none.
private enum ScanTables {
  private static let recent = Mutex<[(order: ScanOrder, table: ScanTable)]>([])
  /// A model has one order, or a few where its stages differ in size.
  private static let capacity = 8

  static func table(of order: ScanOrder) -> ScanTable {
    recent.withLock { recent in
      if let place = recent.firstIndex(where: { $0.order == order }) { return recent[place].table }
      let table = ScanTable(order.directions.map(\.indices))
      if recent.count == capacity { recent.removeFirst() }
      recent.append((order, table))
      return table
    }
  }
}
