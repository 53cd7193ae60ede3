internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxSpatial: [any Operation.Type] = [OnnxConv.self]
}
