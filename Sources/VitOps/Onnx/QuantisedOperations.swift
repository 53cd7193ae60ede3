internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxQuantised: [any Operation.Type] = [
    OnnxConvInteger.self, OnnxDequantizeLinear.self, OnnxDynamicQuantizeLinear.self, OnnxMatMulInteger.self,
    OnnxQLinearConv.self, OnnxQLinearMatMul.self, OnnxQuantizeLinear.self,
    MicrosoftDequantizeLinear.self, MicrosoftDynamicQuantizeMatMul.self, MicrosoftMatMulIntegerToFloat.self,
    MicrosoftQGemm.self, MicrosoftQuantizeLinear.self,
  ]
}
