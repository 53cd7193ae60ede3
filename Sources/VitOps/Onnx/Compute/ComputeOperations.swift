internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxCompute: [any Operation.Type] =
    onnxUnary + onnxBinary + onnxProducts + onnxRows

  private static let onnxUnary: [any Operation.Type] = [
    OnnxAbs.self, OnnxBitwiseNot.self, OnnxCeil.self, OnnxCelu.self, OnnxClip.self, OnnxCos.self,
    OnnxDropout.self, OnnxElu.self, OnnxErf.self, OnnxExp.self, OnnxFloor.self, OnnxGelu.self,
    OnnxHardSigmoid.self, OnnxHardSwish.self, OnnxIsInf.self, OnnxIsNaN.self, OnnxLeakyRelu.self,
    OnnxLog.self, OnnxMish.self, OnnxNeg.self, OnnxNot.self, OnnxReciprocal.self, OnnxRelu.self,
    OnnxRound.self, OnnxSelu.self, OnnxSigmoid.self, OnnxSign.self, OnnxSin.self, OnnxSoftplus.self,
    OnnxSoftsign.self, OnnxSqrt.self, OnnxSwish.self, OnnxTan.self, OnnxTanh.self,
    OnnxThresholdedRelu.self, OnnxRare<AcosFunction>.self, OnnxRare<AcoshFunction>.self,
    OnnxRare<AsinFunction>.self, OnnxRare<AsinhFunction>.self, OnnxRare<AtanFunction>.self,
    OnnxRare<AtanhFunction>.self, OnnxRare<CoshFunction>.self, OnnxRare<SinhFunction>.self,
  ]

  private static let onnxBinary: [any Operation.Type] = [
    OnnxBinary<AddFunction>.self, OnnxBinary<AndFunction>.self, OnnxBinary<BitwiseAndFunction>.self,
    OnnxBinary<BitwiseOrFunction>.self, OnnxBinary<BitwiseXorFunction>.self, OnnxBinary<DivFunction>.self,
    OnnxBinary<MulFunction>.self, OnnxBinary<OrFunction>.self, OnnxBinary<PReluFunction>.self,
    OnnxBinary<SubFunction>.self, OnnxBinary<XorFunction>.self, OnnxComparison<EqualFunction>.self,
    OnnxComparison<GreaterFunction>.self, OnnxComparison<GreaterOrEqualFunction>.self,
    OnnxComparison<LessFunction>.self, OnnxComparison<LessOrEqualFunction>.self, OnnxMod.self,
    OnnxPow.self, OnnxVariadic<MaxFunction>.self, OnnxVariadic<MeanFunction>.self,
    OnnxVariadic<MinFunction>.self, OnnxVariadic<SumFunction>.self,
  ]

  private static let onnxProducts: [any Operation.Type] = [
    OnnxAttention.self, OnnxEinsum.self, OnnxGemm.self, OnnxMatMul.self, OnnxRotaryEmbedding.self,
  ]

  private static let onnxRows: [any Operation.Type] = [
    OnnxArgExtreme<LargestKind>.self, OnnxArgExtreme<SmallestKind>.self, OnnxBatchNormalization.self,
    OnnxChannelNormalization<GroupGrouping>.self, OnnxChannelNormalization<InstanceGrouping>.self,
    OnnxCumSum.self, OnnxLpNormalization.self, OnnxLRN.self, OnnxMeanVarianceNormalization.self,
    OnnxReduction<ReduceL1Function>.self, OnnxReduction<ReduceL2Function>.self,
    OnnxReduction<ReduceLogSumExpFunction>.self, OnnxReduction<ReduceLogSumFunction>.self,
    OnnxReduction<ReduceMaxFunction>.self, OnnxReduction<ReduceMeanFunction>.self,
    OnnxReduction<ReduceMinFunction>.self, OnnxReduction<ReduceProdFunction>.self,
    OnnxReduction<ReduceSumFunction>.self, OnnxReduction<ReduceSumSquareFunction>.self,
    OnnxRowNormalization<LayerNormalizationFunction>.self,
    OnnxRowNormalization<RMSNormalizationFunction>.self,
    OnnxRowNormalization<SimplifiedLayerNormalizationFunction>.self, OnnxSoftmax<HardmaxRows>.self,
    OnnxSoftmax<LogSoftmaxRows>.self, OnnxSoftmax<SoftmaxRows>.self,
  ]
}
