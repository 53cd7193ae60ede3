internal import CVitKernels
public import VitIR

/// Columns of the rows `[items, steps, row]` of a scan: from one on as many as a kernel reads.
public struct ScanColumns: Sendable {
  fileprivate let view: View
  fileprivate let first: Int

  /// The columns of `view` from `first` on.
  public init(_ view: View, from first: Int = 0) {
    precondition(view.rank == 3 && first >= 0 && first <= view.shape[2])
    self.view = view
    self.first = first
  }

  /// The rows of an item, from this column of them on.
  fileprivate func rows(_ item: Int, column: Int = 0) -> vk_rows {
    let row = view.shape[2]
    return vk_rows(base: view.at(item * view.shape[1] * row + first + column), row: row)
  }

  fileprivate func fits(_ element: ElementType, _ items: Int, _ steps: Int, width: Int) -> Bool {
    view.element == element && view.shape[0] == items && view.shape[1] == steps
      && first + width <= view.shape[2]
  }
}

/// The sizes of a state space scan (Mixers.md §2.4): its heads, and how fast their state decays.
public struct SSDShape: Sendable, Hashable {
  /// Heads of values.
  public var heads: Int
  /// Groups of keys and queries, of which `heads` is a multiple: head `h` reads group `h·groups/heads`.
  public var groups: Int
  /// Channels of a key, and of a head's values.
  public var state: Int, width: Int
  /// Whether a rate also says how strongly a value is written: β = log(1 + eʳ), decay e^(−β·e^a); else β = 1 and
  /// the decay is σ(r)^(1/16).
  public var isDelta: Bool
  /// The factor of the result.
  public var scale: Double

  /// A shape.
  public init(heads: Int, groups: Int, state: Int, width: Int, isDelta: Bool, scale: Double) {
    precondition(heads > 0 && groups > 0 && heads % groups == 0 && state > 0 && width > 0)
    self.heads = heads
    self.groups = groups
    self.state = state
    self.width = width
    self.isDelta = isDelta
    self.scale = scale
  }

  /// What the logarithm of a decay is divided by where the shape is not `isDelta`.
  public static let normaliser = 16.0

  /// The most steps of a chunk.
  static let longestChunk = 64

  /// The steps of a chunk: all of them where they are few, else evenly cut.
  static func chunk(_ steps: Int) -> Int {
    let chunks = max(1, (steps + longestChunk - 1) / longestChunk)
    return (steps + chunks - 1) / chunks
  }

  /// The operations of all heads over so many steps of an item: products within chunks, and with the state between them.
  public func flops(steps: Int) -> Int {
    let chunk = SSDShape.chunk(steps)
    let within = 2 * chunk * (state + width)
    return steps * heads * (within + (chunk < steps ? 4 * state * width : 0))
  }

  fileprivate func raw(_ steps: Int, heads: Int) -> vk_ssd {
    var ssd = vk_ssd()
    ssd.steps = steps
    ssd.chunk = SSDShape.chunk(steps)
    ssd.heads = heads
    ssd.state = state
    ssd.width = width
    ssd.delta = isDelta ? 1 : 0
    ssd.scale = scale
    return ssd
  }
}

/// The operands of a state space scan. Values are `heads·width` columns, keys and queries `groups·state`, rates one
/// for each head; `speed` (where the shape `isDelta`) and `skip` have one element for each head.
public struct SSDOperands: Sendable {
  /// Values, keys, queries and rates of each row.
  public var v: ScanColumns, k: ScanColumns, q: ScanColumns, r: ScanColumns
  /// The logarithm of how fast each head decays.
  public var speed: View?
  /// How much of a value is added to the result of its own step.
  public var skip: View?

  /// Operands.
  public init(
    v: ScanColumns, k: ScanColumns, q: ScanColumns, r: ScanColumns, speed: View? = nil, skip: View? = nil
  ) {
    self.v = v
    self.k = k
    self.q = q
    self.r = r
    self.speed = speed
    self.skip = skip
  }
}

/// The gradients of `SSDOperands`, all of which are written. `speed` and `skip`, where there are any, have one column for
/// each head: what each row adds to the gradient.
public struct SSDGradients: Sendable {
  /// Of values, keys, queries and rates.
  public var v: ScanColumns, k: ScanColumns, q: ScanColumns, r: ScanColumns
  /// Of speed and skip.
  public var speed: ScanColumns?, skip: ScanColumns?

  /// Gradients.
  public init(
    v: ScanColumns, k: ScanColumns, q: ScanColumns, r: ScanColumns, speed: ScanColumns? = nil,
    skip: ScanColumns? = nil
  ) {
    self.v = v
    self.k = k
    self.q = q
    self.r = r
    self.speed = speed
    self.skip = skip
  }
}

extension Kernel {
  /// The scan `S ← e^g·S + k·(β·v)ᵀ`, `o ← scale·Sᵀ·q + skip·v` of each item and head along the order, from `S = 0`.
  ///
  /// Heads, like groups, are shared evenly by the directions. `o` is `[items, steps, heads·width]`; `scratch` is memory of
  /// `ssdScratch`, where that is not `nil`.
  public static func ssd(
    _ table: ScanTable, _ shape: SSDShape, _ operands: SSDOperands, into o: View, scratch: View? = nil,
    pool: any WorkPool
  ) {
    let items = o.shape[0]
    guard o.count > 0 else { return }
    let type = real(o)
    check(table, shape, operands, o)
    Blas.demand(type, pool)
    var template = shape.raw(table.steps, heads: 1)
    let scratch = TaskScratch(vk_ssd_scratch(type, &template), scratch, pool)
    let perGroup = shape.heads / shape.groups
    pool.run(tasks: items * shape.heads) { task, worker in
      let (item, head) = (task / shape.heads, task % shape.heads)
      var call = shape.raw(table.steps, heads: 1)
      set(operands, shape, item: item, head: head, group: head / perGroup, &call)
      call.o = ScanColumns(o).rows(item, column: head * shape.width)
      table.withOrder(head * table.directions / shape.heads) { order in
        call.order = order
        vk_ssd_forward(type, &call, scratch[worker])
      }
    }
  }

  /// The gradients of `ssd`, from that of its result, `[items, steps, heads·width]`.
  public static func ssdGradient(
    _ table: ScanTable, _ shape: SSDShape, _ operands: SSDOperands, dO: View, into gradients: SSDGradients,
    scratch: View? = nil, pool: any WorkPool
  ) {
    let items = dO.shape[0]
    guard dO.count > 0 else { return }
    let type = real(dO)
    check(table, shape, operands, dO)
    check(
      table, shape, SSDOperands(v: gradients.v, k: gradients.k, q: gradients.q, r: gradients.r), dO,
      isGradient: true)
    for column in [gradients.speed, gradients.skip] {
      precondition(column.map { $0.fits(dO.element, items, table.steps, width: shape.heads) } ?? true)
    }
    Blas.demand(type, pool)
    let perGroup = shape.heads / shape.groups
    var template = shape.raw(table.steps, heads: perGroup)
    let scratch = TaskScratch(vk_ssd_gradient_scratch(type, &template), scratch, pool)
    pool.run(tasks: items * shape.groups) { task, worker in
      let (item, group) = (task / shape.groups, task % shape.groups)
      let head = group * perGroup
      var call = shape.raw(table.steps, heads: perGroup)
      set(operands, shape, item: item, head: head, group: group, &call)
      call.d_o = ScanColumns(dO).rows(item, column: head * shape.width)
      call.dv = gradients.v.rows(item, column: head * shape.width)
      call.dk = gradients.k.rows(item, column: group * shape.state)
      call.dq = gradients.q.rows(item, column: group * shape.state)
      call.dr = gradients.r.rows(item, column: head)
      if let speed = gradients.speed { call.da = speed.rows(item, column: head) }
      if let skip = gradients.skip { call.dskip = skip.rows(item, column: head) }
      table.withOrder(group * table.directions / shape.groups) { order in
        call.order = order
        vk_ssd_gradient(type, &call, scratch[worker])
      }
    }
  }

  /// The scratch that `ssd`, and in training `ssdGradient`, need beside that of the pool's workers; `nil` for none.
  public static func ssdScratch(
    _ shape: SSDShape, steps: Int, _ element: ElementType, mode: ExecutionMode
  ) -> TensorType? {
    let type = element == .f64 ? VK_F64 : VK_F32
    var ssd = shape.raw(steps, heads: 1)
    let forward = vk_ssd_scratch(type, &ssd)
    let bytes = mode.training ? max(forward, vk_ssd_gradient_scratch(type, &ssd)) : forward
    return TaskScratch.type(bytes, workers: mode.workers)
  }

  private static func check(
    _ table: ScanTable, _ shape: SSDShape, _ operands: SSDOperands, _ o: View, isGradient: Bool = false
  ) {
    let (items, steps) = (o.shape[0], table.steps)
    precondition(o.rank == 3 && o.shape[1] == steps && o.shape[2] == shape.heads * shape.width)
    precondition(shape.heads % table.directions == 0 && shape.groups % table.directions == 0)
    precondition(operands.v.fits(o.element, items, steps, width: shape.heads * shape.width))
    precondition(operands.k.fits(o.element, items, steps, width: shape.groups * shape.state))
    precondition(operands.q.fits(o.element, items, steps, width: shape.groups * shape.state))
    precondition(operands.r.fits(o.element, items, steps, width: shape.heads))
    precondition(isGradient || (operands.speed != nil) == shape.isDelta)
    for vector in [operands.speed, operands.skip] {
      precondition(vector.map { $0.count == shape.heads && $0.element == o.element } ?? true)
    }
  }

  private static func set(
    _ operands: SSDOperands, _ shape: SSDShape, item: Int, head: Int, group: Int, _ call: inout vk_ssd
  ) {
    call.v = operands.v.rows(item, column: head * shape.width)
    call.k = operands.k.rows(item, column: group * shape.state)
    call.q = operands.q.rows(item, column: group * shape.state)
    call.r = operands.r.rows(item, column: head)
    call.a = UnsafeRawPointer(operands.speed?.at(head))
    call.skip = UnsafeRawPointer(operands.skip?.at(head))
  }
}

/// Channels of a scan before it: parts side by side, each of which the directions share evenly.
public struct CausalShape: Sendable, Hashable {
  /// The channels of each part.
  public var parts: [Int]
  /// Taps of the convolution; without any, the function alone is applied.
  public var taps: Int
  /// Whether `x·σ(x)` is applied to the result.
  public var isSilu: Bool

  /// The most taps.
  public static let maximumTaps = Int(VK_CAUSAL_TAPS)

  /// A shape.
  public init(parts: [Int], taps: Int, isSilu: Bool) {
    precondition(taps >= 0 && taps <= CausalShape.maximumTaps)
    self.parts = parts
    self.taps = taps
    self.isSilu = isSilu
  }

  /// All channels.
  public var channels: Int { parts.reduce(0, +) }

  fileprivate func pieces(_ part: Int, _ directions: Int) -> Int {
    (parts[part] / directions + Int(VK_CAUSAL_CHANNELS) - 1) / Int(VK_CAUSAL_CHANNELS)
  }

  /// The number of blocks of channels, none of which spans two directions or parts.
  fileprivate func blocks(_ directions: Int) -> Int {
    parts.indices.reduce(0) { $0 + directions * pieces($1, directions) }
  }

  /// The direction and the channels of a block.
  fileprivate func block(_ index: Int, _ directions: Int) -> (direction: Int, channels: Range<Int>) {
    var (index, first) = (index, 0)
    for part in parts.indices {
      let (own, pieces) = (parts[part] / directions, pieces(part, directions))
      if index < directions * pieces {
        let (direction, piece) = (index / pieces, index % pieces)
        let start = first + direction * own
        return (direction, start + own * piece / pieces..<start + own * (piece + 1) / pieces)
      }
      index -= directions * pieces
      first += parts[part]
    }
    preconditionFailure("there is no such block")
  }
}

extension Kernel {
  /// `y ← f(bias + Σ weight[·, k]·u[t − taps + 1 + k])` of each channel along the order, from zeros; weight is
  /// `[channels, taps]`.
  public static func causal(
    _ table: ScanTable, _ shape: CausalShape, _ u: ScanColumns, weight: View?, bias: View?, into y: View,
    pool: any WorkPool
  ) {
    guard y.count > 0 else { return }
    let type = real(y)
    precondition(y.rank == 3 && u.fits(y.element, y.shape[0], table.steps, width: shape.channels))
    precondition(shape.taps == 0 || weight?.count == shape.channels * shape.taps)
    let blocks = shape.blocks(table.directions)
    pool.run(tasks: y.shape[0] * blocks) { task, _ in
      let (item, block) = (task / blocks, shape.block(task % blocks, table.directions))
      table.withOrder(block.direction) { order in
        var call = raw(shape, steps: table.steps, order, block.channels, weight, bias)
        call.u = u.rows(item, column: block.channels.lowerBound)
        vk_causal_forward(type, &call, ScanColumns(y).rows(item, column: block.channels.lowerBound))
      }
    }
  }

  /// Writes the gradient of `u`, and adds to those of weight and bias, from that of `y`, which is overwritten.
  public static func causalGradient(
    _ table: ScanTable, _ shape: CausalShape, _ u: ScanColumns, weight: View?, bias: View?, dy: View,
    into du: ScanColumns, adding dweight: View?, _ dbias: View?, pool: any WorkPool
  ) {
    guard dy.count > 0 else { return }
    let type = real(dy)
    precondition(u.fits(dy.element, dy.shape[0], table.steps, width: shape.channels))
    precondition(du.fits(dy.element, dy.shape[0], table.steps, width: shape.channels))
    // Items one after another in a task: the sums have one order.
    pool.run(tasks: shape.blocks(table.directions)) { task, _ in
      let block = shape.block(task, table.directions)
      let first = block.channels.lowerBound
      table.withOrder(block.direction) { order in
        var call = raw(shape, steps: table.steps, order, block.channels, weight, bias)
        for item in 0..<dy.shape[0] {
          call.u = u.rows(item, column: first)
          vk_causal_gradient(
            type, &call, ScanColumns(dy).rows(item, column: first), du.rows(item, column: first),
            dweight?.at(first * shape.taps), dbias?.at(first))
        }
      }
    }
  }

  private static func raw(
    _ shape: CausalShape, steps: Int, _ order: UnsafePointer<Int>, _ channels: Range<Int>, _ weight: View?,
    _ bias: View?
  ) -> vk_causal {
    var call = vk_causal()
    call.steps = steps
    call.channels = channels.count
    call.taps = shape.taps
    call.silu = shape.isSilu ? 1 : 0
    call.order = order
    call.w = UnsafeRawPointer(weight?.at(channels.lowerBound * shape.taps))
    call.bias = UnsafeRawPointer(bias?.at(channels.lowerBound))
    return call
  }
}
