internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxQuantised: [any Operation.Type] = [
    OnnxConvInteger.self, OnnxDequantizeLinear.self, OnnxDynamicQuantizeLinear.self, OnnxMatMulInteger.self,
    OnnxQLinearConv.self, OnnxQLinearMatMul.self, OnnxQuantizeLinear.self,
    MicrosoftDequantizeLinear.self, MicrosoftDynamicQuantizeMatMul.self, MicrosoftMatMulIntegerToFloat.self,
    MicrosoftMatMulNBits.self, MicrosoftQAttention.self, MicrosoftQGemm.self, MicrosoftQLinearAdd.self,
    MicrosoftNhwcMaxPool.self, MicrosoftQLinearAveragePool.self, MicrosoftQLinearConcat.self,
    MicrosoftQLinearConv.self, MicrosoftQLinearGlobalAveragePool.self, MicrosoftQLinearLeakyRelu.self,
    MicrosoftQLinearMul.self, MicrosoftQLinearSigmoid.self, MicrosoftQLinearSoftmax.self,
    MicrosoftQLinearWhere.self, MicrosoftQuantizeLinear.self,
  ]
}
