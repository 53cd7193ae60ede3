internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxCompute: [any Operation.Type] = []
}
