internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxSpatial: [any Operation.Type] = [
    OnnxAveragePool.self, OnnxConv.self, OnnxConvTranspose.self, OnnxGlobalAveragePool.self,
    OnnxGlobalMaxPool.self, OnnxLpPool.self, OnnxMaxPool.self, OnnxResize.self, OnnxUpsample.self,
  ]
}
