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

  /// What operations take in a model whose linear maps have weights of one type.
  struct Rates {
    /// By operation.
    let known: [String: Rate]
    /// For all others.
    let others: Rate
  }

  /// The nanoseconds of an operation of that cost; nothing for what does not run. Between linear maps of a model the weights are brought into
  /// `weights`: what is neither bfloat16 nor whole numbers of 8 bits is computed as floats. The cost is that of the operation on floats.
  package static func nanoseconds(
    _ operation: String, _ cost: Cost, weights: ElementType = .f32
  ) -> Double {
    guard cost != Cost() else { return 0 }
    let rates =
      switch weights {
      case .q8: int8
      case .bf16: bf16
      default: f32
      }
    let rate = rates.known[operation] ?? rates.others
    return 1e-3
      * (rate.picosecondsPerFlop * Double(cost.flops) + rate.picosecondsPerByte * Double(cost.bytes))
      + rate.nanoseconds
  }
}
