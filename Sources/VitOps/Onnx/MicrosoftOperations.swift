internal import VitIR

extension Registry {
  /// The operations of this family.
  static let microsoft: [any Operation.Type] = []
}
