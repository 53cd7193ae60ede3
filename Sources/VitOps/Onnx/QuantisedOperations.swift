internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxQuantised: [any Operation.Type] = []
}
