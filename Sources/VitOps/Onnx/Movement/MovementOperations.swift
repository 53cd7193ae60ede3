internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxMovement: [any Operation.Type] = [
    OnnxCast.self, OnnxCastLike.self, OnnxCenterCropPad.self, OnnxCompress.self, OnnxConcat.self,
    OnnxConstantOfShape.self, OnnxDepthToSpace.self, OnnxExpand.self, OnnxEyeLike.self, OnnxFlatten.self,
    OnnxGather.self, OnnxGatherElements.self, OnnxGatherND.self, OnnxIdentity.self, OnnxNonZero.self,
    OnnxOneHot.self, OnnxPad.self, OnnxRange.self, OnnxReshape.self, OnnxReverseSequence.self,
    OnnxScatterElements.self, OnnxScatterND.self, OnnxShape.self, OnnxSize.self, OnnxSlice.self,
    OnnxSpaceToDepth.self, OnnxSplit.self, OnnxSqueeze.self, OnnxTile.self, OnnxTopK.self, OnnxTranspose.self,
    OnnxTrilu.self, OnnxUnsqueeze.self, OnnxWhere.self,
  ]
}
