internal import VitIR

extension Registry {
  /// The operations of this family.
  static let vit: [any Operation.Type] =
    [
      LogSize.self, PrefixAttention.self, TokenKeep.self, TokenKeepLeast.self, TokenMatch.self,
      TokenMerge.self, TokenUnmerge.self,
      VitAdd.self,
      VitAttention.self, VitLayerNorm.self, VitLinear.self, VitMLP.self,
      VitPatchEmbed.self,
      VitSDPA.self,
      VitScale.self,
    ] + Mixers.operations.map { $0 as any Operation.Type }
}
