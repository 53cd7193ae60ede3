internal import CVitKernels
public import VitIR

/// The order in which scans read rows: for each direction a permutation of them.
///
/// Directions share the channels evenly: with two, the first half is scanned in one, the second in the other.
public struct ScanTable: Hashable, Sendable {
  /// The number of directions.
  public let directions: Int
  /// The number of rows of an item, and of steps of a direction.
  public let steps: Int
  /// For each direction the row that each step reads.
  fileprivate let rows: [Int]

  /// A table; every entry is a permutation of as many rows.
  public init(_ directions: [[Int]]) {
    self.directions = directions.count
    steps = directions.first?.count ?? 0
    rows = directions.flatMap { $0 }
    precondition(directions.allSatisfy { $0.count == steps && $0.allSatisfy { (0..<steps).contains($0) } })
  }

  /// Lends the order of a direction.
  func withOrder(_ direction: Int, _ body: (UnsafePointer<Int>) -> Void) {
    rows.withUnsafeBufferPointer { buffer in
      if let base = buffer.baseAddress { body(base + direction * steps) }
    }
  }
}

/// Which heads of a scan each direction has, and how the gates of those heads lie.
public enum ScanHeads: Sendable {
  /// Directions share the heads evenly, in their order; gates lie by gate, head and channel.
  case shared
  /// Each direction has heads of its own: head `i` is scanned in direction `i mod directions`; gates lie by head, gate
  /// and channel.
  case interleaved

  fileprivate func direction(ofHead head: Int, among heads: Int, _ directions: Int) -> Int {
    self == .shared ? head * directions / heads : head % directions
  }
}

extension Kernel {
  /// Channels that one task of a gated scan takes.
  private static let scanChannels = 64

  /// The gated linear recurrence (Mixers.md §2.3): `h ← σ(r)·h + σ(−r)·v` along the order, `v` at the first
  /// step, and `s ← h·silu(q)`. All views are `[items, steps, channels]`; `h` is written where it is given.
  public static func gatedScan(
    _ table: ScanTable, v: View, r: View, q: View, keeping h: View?, into s: View, pool: any WorkPool
  ) {
    precondition(v.rank == 3 && v.shape[1] == table.steps && v.shape[2] % table.directions == 0)
    precondition([r, q, s].allSatisfy { $0.shape == v.shape && $0.element == v.element })
    precondition(h.map { $0.shape == v.shape && $0.element == v.element } ?? true)
    let type = real(v)
    forChannels(v, table, pool) { offset, channels, order in
      vk_glr(
        type, table.steps, channels, order, v.shape[2], v.at(offset), r.at(offset), q.at(offset),
        h?.at(offset),
        s.at(offset))
    }
  }

  /// The gradients of `gatedScan` with respect to `v`, `r` and `q`, written over `dv`, `dr` and `dq`; from
  /// that of `s`.
  public static func gatedScanGradient(
    _ table: ScanTable, v: View, r: View, q: View, h: View, ds: View, into dv: View, _ dr: View, _ dq: View,
    pool: any WorkPool
  ) {
    precondition(v.rank == 3 && v.shape[1] == table.steps && v.shape[2] % table.directions == 0)
    precondition([r, q, h, ds, dv, dr, dq].allSatisfy { $0.count == v.count && $0.element == v.element })
    let type = real(v)
    forChannels(v, table, pool) { offset, channels, order in
      vk_glr_gradient(
        type, table.steps, channels, order, v.shape[2], v.at(offset), r.at(offset), q.at(offset),
        h.at(offset),
        ds.at(offset), dv.at(offset), dr.at(offset), dq.at(offset))
    }
  }

  /// Runs `body` on the first element and the channels of each task, none of which spans two directions.
  private static func forChannels(
    _ x: View, _ table: ScanTable, _ pool: any WorkPool, _ body: (Int, Int, UnsafePointer<Int>) -> Void
  ) {
    guard x.count > 0 else { return }
    let own = x.shape[2] / table.directions
    let pieces = (own - 1) / scanChannels + 1
    let perItem = table.directions * pieces
    pool.run(tasks: x.shape[0] * perItem) { task, _ in
      let (item, direction, piece) = (task / perItem, task % perItem / pieces, task % pieces)
      let (low, high) = (own * piece / pieces, own * (piece + 1) / pieces)
      table.withOrder(direction) { order in
        body(item * table.steps * x.shape[2] + direction * own + low, high - low, order)
      }
    }
  }

  /// Memory for the packed form of an LSTM's recurrence `[heads, 4·width, width]`.
  public static func packedType(recurrence: TensorType) -> TensorType {
    let shape = recurrence.extents
    let type = recurrence.element == .f64 ? VK_F64 : VK_F32
    return TensorType(recurrence.element, fixed: [shape[0], vk_lstm_packed_count(type, shape[2])])
  }

  /// Packs a recurrence for `lstmScan`, or for `lstmScanGradient` where `transposed`.
  public static func pack(recurrence: View, transposed: Bool = false, into packed: View, pool: any WorkPool) {
    let type = real(packed)
    let width = recurrence.shape[2]
    precondition(recurrence.shape[1] == 4 * width && packed.shape[0] == recurrence.shape[0])
    precondition(recurrence.element == packed.element)
    let (count, rows) = (4 * width * width, packed.shape[1])
    pool.run(tasks: recurrence.shape[0]) { head, _ in
      vk_lstm_pack(type, transposed ? 1 : 0, width, recurrence.at(head * count), packed.at(head * rows))
    }
  }

  /// Packs a recurrence of any type and at any address for `lstmScan`. Throws where memory does not suffice.
  static func pack(stored recurrence: View, into packed: View, pool: any WorkPool) throws(VitError) {
    let size = packed.element.size
    if recurrence.element == packed.element, Int(bitPattern: recurrence.base) % size == 0 {
      return pack(recurrence: recurrence, into: packed, pool: pool)
    }
    let arena = try Arena(byteCount: recurrence.count * size, for: "packing a weight")
    defer { withExtendedLifetime(arena) {} }
    let computed = arena.view(TensorType(packed.element, fixed: recurrence.shape), at: 0)
    Conversion.copy(
      recurrence.count, from: recurrence.base, recurrence.element, to: computed.base, packed.element)
    pack(recurrence: computed, into: packed, pool: pool)
  }

  /// The long short-term memory (Mixers.md §2.1) of heads of the same width.
  ///
  /// `gates`, `[items, steps, 4·channels]` as `heads` says, hold the pre-activations (input, forget, cell, output) but for
  /// the recurrence. `h` is `[items, steps, channels]`, by head. Where `cells`, of the same shape, are given, they take the
  /// cells, and the gates are overwritten by their activations.
  public static func lstmScan(
    _ table: ScanTable, heads: ScanHeads = .shared, recurrence packed: View, gates: View,
    keeping cells: View?,
    into h: View, pool: any WorkPool
  ) {
    precondition(gates.count == 4 * h.count && cells.map { $0.count == h.count } ?? true)
    let type = real(h)
    forHeads(h, table, heads, packed, pool) { scan, packed, offset, scratch in
      vk_lstm(
        type, &scan, packed, gates.at(offset.gates), cells?.at(offset.states), h.at(offset.states), scratch)
    }
  }

  /// The gradient of `lstmScan` with respect to the pre-activations, written over `dgates`, from that of `h`;
  /// `packed` is the transposed packing. `before` takes for each row the `h` of the step before: what the
  /// recurrence's gradient is a product with.
  public static func lstmScanGradient(
    _ table: ScanTable, heads: ScanHeads = .shared, recurrence packed: View, gates: View, cells: View,
    h: View,
    dh: View, into dgates: View, before: View, pool: any WorkPool
  ) {
    precondition([gates, dgates].allSatisfy { $0.count == 4 * h.count })
    precondition([cells, dh, before].allSatisfy { $0.count == h.count })
    let type = real(h)
    forHeads(h, table, heads, packed, pool) { scan, packed, offset, scratch in
      vk_lstm_gradient(
        type, &scan, packed, gates.at(offset.gates), cells.at(offset.states), h.at(offset.states),
        dh.at(offset.states), dgates.at(offset.gates), before.at(offset.states), scratch)
    }
  }

  /// Where a task's first item and first channel are, in elements of `h` and of the gates.
  private struct ScanOffset {
    let states, gates: Int
  }

  private static func forHeads(
    _ h: View, _ table: ScanTable, _ kind: ScanHeads, _ packed: View, _ pool: any WorkPool,
    _ body: (inout vk_lstm_scan, UnsafeMutableRawPointer, ScanOffset, UnsafeMutableRawPointer) -> Void
  ) {
    guard h.count > 0 else { return }
    let (items, total, heads) = (h.shape[0], h.shape[2], packed.shape[0])
    precondition(
      h.rank == 3 && h.shape[1] == table.steps && total % heads == 0 && heads % table.directions == 0)
    let (type, width) = (real(h), total / heads)
    precondition(vk_lstm_scratch(type, width) <= WorkScratch.byteCount)
    let most = Int(vk_lstm_items(type, width))
    let groups = (items + most - 1) / most
    run(tasks: heads * groups, pool: pool) { task, scratch in
      let (head, group) = (task / groups, task % groups)
      let (low, high) = (items * group / groups, items * (group + 1) / groups)
      let first = low * table.steps * total
      table.withOrder(kind.direction(ofHead: head, among: heads, table.directions)) { order in
        var scan = vk_lstm_scan(
          steps: table.steps, items: high - low, width: width, total: total,
          gate: kind == .shared ? total : width, order: order)
        body(
          &scan, packed.at(head * packed.shape[1]),
          ScanOffset(
            states: first + head * width,
            gates: 4 * first + head * width * (kind == .shared ? 1 : 4)),
          scratch)
      }
    }
  }
}
