internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxMovement: [any Operation.Type] = []
}
