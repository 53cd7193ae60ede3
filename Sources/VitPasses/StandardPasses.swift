extension Pipeline {
  /// vitc's own passes.
  public static let standardPasses: [any Pass.Type] = [Fold.self, Raise.self, DeadCode.self]
}
