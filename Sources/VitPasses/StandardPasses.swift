extension Pipeline {
  /// vitc's own passes.
  public static let standardPasses: [any Pass.Type] = [
    OpenBatch.self, FixSize.self, Dequantise.self, Fold.self, Raise.self, DeadCode.self, Head.self,
    Score.self,
    Select.self, Swap.self, Distil.self, Restore.self, OwnPrefix.self, Depth.self, Share.self, Prune.self,
    Factorise.self, Solve.self, Merge.self, Retain.self, FineTune.self, Trim.self, Quantise.self, Round.self,
    Lower.self,
  ]
}
