internal import VitIR

extension Registry {
  /// The operations of this family.
  static let microsoft: [any Operation.Type] = [
    MicrosoftAttention.self, MicrosoftBiasAdd.self, MicrosoftBiasGelu.self, MicrosoftBiasSoftmax.self,
    MicrosoftBiasSplitGelu.self, MicrosoftFastGelu.self, MicrosoftFusedConv.self, MicrosoftFusedGemm.self,
    MicrosoftFusedMatMul.self,
    MicrosoftGelu.self, MicrosoftGroupNorm.self, MicrosoftMultiHeadAttention.self, MicrosoftQuickGelu.self,
    MicrosoftRelativePositionBias.self, MicrosoftRotaryEmbedding.self,
    MicrosoftSkipNormalization<SkipLayerNormalizationKind>.self,
    MicrosoftSkipNormalization<SkipSimplifiedLayerNormalizationKind>.self, MicrosoftTransposeMatMul.self,
  ]
}
