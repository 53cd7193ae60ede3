internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxSpatial: [any Operation.Type] = [
    OnnxAffineGrid.self, OnnxAveragePool.self, OnnxCol2Im.self, OnnxConv.self, OnnxConvTranspose.self,
    OnnxGlobalAveragePool.self, OnnxGlobalMaxPool.self, OnnxGridSample.self, OnnxLpPool.self,
    OnnxMaxPool.self,
    OnnxResize.self, OnnxUpsample.self,
  ]
}
