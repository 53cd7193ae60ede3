package import VitIR

/// The operators of ONNX that passes look for or make, by type: their names stand with them.
package enum Onnx {
  package static let add: any Operation.Type = OnnxBinary<AddFunction>.self
  package static let attention: any Operation.Type = OnnxAttention.self
  package static let batchNormalization: any Operation.Type = OnnxBatchNormalization.self
  package static let cast: any Operation.Type = OnnxCast.self
  package static let clip: any Operation.Type = OnnxClip.self
  package static let concat: any Operation.Type = OnnxConcat.self
  package static let conv: any Operation.Type = OnnxConv.self
  package static let dequantizeLinear: any Operation.Type = OnnxDequantizeLinear.self
  package static let div: any Operation.Type = OnnxBinary<DivFunction>.self
  package static let dropout: any Operation.Type = OnnxDropout.self
  package static let einsum: any Operation.Type = OnnxEinsum.self
  package static let erf: any Operation.Type = OnnxErf.self
  package static let exp: any Operation.Type = OnnxExp.self
  package static let expand: any Operation.Type = OnnxExpand.self
  package static let gather: any Operation.Type = OnnxGather.self
  package static let gelu: any Operation.Type = OnnxGelu.self
  package static let gemm: any Operation.Type = OnnxGemm.self
  package static let identity: any Operation.Type = OnnxIdentity.self
  package static let isNaN: any Operation.Type = OnnxIsNaN.self
  package static let layerNormalization: any Operation.Type = OnnxRowNormalization<LayerNormalizationFunction>
    .self
  package static let less: any Operation.Type = OnnxComparison<LessFunction>.self
  package static let lessOrEqual: any Operation.Type = OnnxComparison<LessOrEqualFunction>.self
  package static let logSoftmax: any Operation.Type = OnnxSoftmax<LogSoftmaxRows>.self
  package static let matMul: any Operation.Type = OnnxMatMul.self
  package static let maxPool: any Operation.Type = OnnxMaxPool.self
  package static let mul: any Operation.Type = OnnxBinary<MulFunction>.self
  package static let pad: any Operation.Type = OnnxPad.self
  package static let pow: any Operation.Type = OnnxPow.self
  package static let reciprocal: any Operation.Type = OnnxReciprocal.self
  package static let reduceMax: any Operation.Type = OnnxReduction<ReduceMaxFunction>.self
  package static let reduceMean: any Operation.Type = OnnxReduction<ReduceMeanFunction>.self
  package static let reduceSum: any Operation.Type = OnnxReduction<ReduceSumFunction>.self
  package static let relu: any Operation.Type = OnnxRelu.self
  package static let reshape: any Operation.Type = OnnxReshape.self
  package static let shape: any Operation.Type = OnnxShape.self
  package static let sigmoid: any Operation.Type = OnnxSigmoid.self
  package static let slice: any Operation.Type = OnnxSlice.self
  package static let softmax: any Operation.Type = OnnxSoftmax<SoftmaxRows>.self
  package static let sqrt: any Operation.Type = OnnxSqrt.self
  package static let sub: any Operation.Type = OnnxBinary<SubFunction>.self
  package static let tanh: any Operation.Type = OnnxTanh.self
  package static let tile: any Operation.Type = OnnxTile.self
  package static let transpose: any Operation.Type = OnnxTranspose.self
  package static let unsqueeze: any Operation.Type = OnnxUnsqueeze.self
  package static let `where`: any Operation.Type = OnnxWhere.self
}

/// The operators of ONNX Runtime that passes look for.
package enum Microsoft {
  package static let attention: any Operation.Type = MicrosoftAttention.self
  package static let fastGelu: any Operation.Type = MicrosoftFastGelu.self
  package static let fusedMatMul: any Operation.Type = MicrosoftFusedMatMul.self
  package static let gelu: any Operation.Type = MicrosoftGelu.self
  package static let multiHeadAttention: any Operation.Type = MicrosoftMultiHeadAttention.self
  package static let quickGelu: any Operation.Type = MicrosoftQuickGelu.self
}
