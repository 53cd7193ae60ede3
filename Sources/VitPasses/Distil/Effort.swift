internal import VitIR

/// How long passes may be told to train.
package enum Effort {
  /// The steps that may be asked for.
  package static let steps = 0...100_000_000
  /// The samples of a step that may be asked for.
  package static let batch = 1...65536

  /// Throws a usage error where a pass is asked for more or less.
  static func check(_ pass: String, steps: Int, batch: Int) throws(VitError) {
    guard Effort.steps.contains(steps), Effort.batch.contains(batch) else {
      throw VitError(
        "\(pass): expected steps in 0…\(Effort.steps.upperBound) and a batch in 1…\(Effort.batch.upperBound), found "
          + "\(steps) and \(batch)", kind: .usage, code: "option-value")
    }
  }
}
