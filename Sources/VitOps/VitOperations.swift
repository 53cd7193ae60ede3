internal import VitIR

extension Registry {
  /// The operations of this family.
  static let vit: [any Operation.Type] = []
}
