internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxMovement: [any Operation.Type] = [
    OnnxCast.self, OnnxCastLike.self, OnnxConcat.self, OnnxConstantOfShape.self, OnnxDepthToSpace.self,
    OnnxExpand.self, OnnxEyeLike.self, OnnxFlatten.self, OnnxGather.self, OnnxGatherElements.self,
    OnnxGatherND.self, OnnxIdentity.self, OnnxRange.self, OnnxReshape.self, OnnxShape.self, OnnxSize.self,
    OnnxSlice.self, OnnxSpaceToDepth.self, OnnxSplit.self, OnnxSqueeze.self, OnnxTile.self,
    OnnxTranspose.self,
    OnnxUnsqueeze.self, OnnxWhere.self,
  ]
}
