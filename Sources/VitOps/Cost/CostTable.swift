package import VitIR

/// The time that a model takes on one thread, as a table says that was fitted once (`tools/bench costs`): the same on every
/// machine, so that what is chosen by it is, too.
///
/// An operation takes so long for each floating-point operation, for each byte that it moves, and each time that it runs.
package enum CostTable {
  /// What an operation takes.
  struct Rate {
    /// For each floating-point operation, and for each byte.
    let picosecondsPerFlop, picosecondsPerByte: Double
    /// For each run.
    let nanoseconds: Double
  }

  /// The nanoseconds of an operation of that cost; nothing for what does not run.
  package static func nanoseconds(_ operation: String, _ cost: Cost) -> Double {
    guard cost != Cost() else { return 0 }
    let rate = rates[operation] ?? others
    return 1e-3
      * (rate.picosecondsPerFlop * Double(cost.flops) + rate.picosecondsPerByte * Double(cost.bytes))
      + rate.nanoseconds
  }
}
