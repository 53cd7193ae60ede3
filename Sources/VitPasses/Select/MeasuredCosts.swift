internal import VitIR
internal import VitRuntime

/// The time that models take on this machine, as parts of the teacher's, timed in turn with it.
///
/// What was decided by is kept in the checkpoint and told again in the same order, so that a compile that goes on chooses what it
/// chose before.
final class MeasuredCosts {
  private let teacher: Graph
  private let shapes: [[Int]]
  private let context: PassContext
  private var known: [Double] = []
  private var told = 0

  /// How long teacher and model are timed.
  private static let seconds = 0.4

  /// Measures beside `teacher`, on inputs of these shapes.
  init(_ teacher: Graph, shapes: [[Int]], context: PassContext) throws {
    (self.teacher, self.shapes, self.context) = (teacher, shapes, context)
    known =
      try context.checkpoint?.load(context.checkpointKey(Select.name)) { reader in
        let count = try reader.integer(in: 0...reader.remaining / 8, "the number of times")
        return try (0..<count).map { _ in try reader.number("a time") }
      } ?? []
  }

  /// The part of the teacher's time that a model takes.
  func part(_ graph: Graph) throws -> Double {
    defer { told += 1 }
    if told < known.count { return known[told] }
    let times = try GraphTiming.times(
      [teacher, graph], shapes: [shapes, shapes], pool: context.pool, seconds: MeasuredCosts.seconds,
      isCancelled: context.isCancelled)
    known.append(times[1].median / max(times[0].median, .leastNormalMagnitude))
    return known[told]
  }

  /// Keeps what was measured.
  func keep() throws {
    try context.checkpoint?.save(8 + 8 * known.count, context.checkpointKey(Select.name)) { write in
      try withUnsafeBytes(of: Int64(known.count).littleEndian, write)
      for part in known { try withUnsafeBytes(of: part.bitPattern.littleEndian, write) }
    }
  }
}
