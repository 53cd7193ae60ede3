internal import VitIR
internal import VitOps

/// How many tokens there are in a graph in which some are merged on the way.
struct MergedTokens: Equatable {
  /// The tokens before the patches, and all tokens as long as none is merged.
  let prefix, all: Int
  /// The numbers of tokens behind merges.
  let counts: Set<Int>
  /// Whether none is merged: those that do not go on are dropped.
  let areDropped: Bool
}

extension Graph {
  /// The tokens of a graph that merges or drops some; `nil` where none does.
  var mergedTokens: MergedTokens? {
    func prefix(_ node: Node) -> Int? {
      (node.operation as? TokenMatch)?.prefix ?? (node.operation as? TokenKeep)?.prefix
        ?? (node.operation as? TokenKeepLeast)?.prefix
    }
    guard let place = nodes.firstIndex(where: { prefix($0) != nil }),
      let prefix = prefix(nodes[place]), let table = nodes[place].results.first,
      let places = type(table).shape[1].fixedValue
    else { return nil }
    let merges = nodes.compactMap { $0.operation as? TokenMerge }
    return MergedTokens(
      prefix: prefix, all: prefix + places, counts: Set(merges.map(\.tokens)),
      areDropped: merges.allSatisfy(\.hasGaps))
  }

  /// What is known of `count` tokens that are left where others were dropped; `nil` where they are all.
  func left(_ count: Int) -> MergedTokens? {
    guard let merged = mergedTokens, merged.areDropped, merged.counts.contains(count), count < merged.all
    else {
      return nil
    }
    return merged
  }

  /// The table of the places of `tokens`, of which some were dropped; `nil` where all are there.
  ///
  /// Each time tokens are dropped fewer are left, so their number tells where they are.
  func placeTable(of tokens: ValueID) -> ValueID? {
    guard type(tokens).rank == 3, let count = type(tokens).shape[1].fixedValue else { return nil }
    let node = nodes.last { node in
      (node.operation as? TokenMerge).map { $0.hasGaps && $0.tokens == count } ?? false
    }
    return node?.operands[1]
  }

  /// `nodes` without those that merge tokens or undo it.
  func withoutMerging(_ nodes: [Node]) -> [Node] { nodes.filter { !Graph.isMerging($0) } }

  /// What merged values and values with all places again were made of, and the values that only tell which places merged tokens stand for.
  var mergedValues: (sources: [ValueID: ValueID], places: Set<ValueID>) {
    var sources: [ValueID: ValueID] = [:]
    for node in nodes where Graph.isMerging(node) {
      guard let source = node.operands[0], let result = node.results.first else { continue }
      sources[result] = sources[source] ?? source
    }
    let telling = nodes.filter {
      $0.isAny(LogSize.self, TokenMatch.self, TokenKeep.self, TokenKeepLeast.self)
    }
    return (sources, Set(telling.flatMap(\.results)))
  }

  static func isMerging(_ node: Node) -> Bool {
    node.operation is TokenMerge || node.operation is TokenUnmerge
  }
}

extension Pass {
  /// Throws where the pass cannot work on a hybrid that merges tokens, and this one does.
  func checkMerged(_ hybrid: Hybrid) throws(VitError) {
    guard !worksOnMergedTokens, let merged = hybrid.graph.mergedTokens else { return }
    if worksOnDroppedTokens, merged.areDropped, hybrid.teacher?.graph.mergedTokens == merged { return }
    // What was chosen may be that nothing is merged.
    if let merge = self as? Merge, merge.isChosen, hybrid.layers.allSatisfy({ $0.merges == 0 }) { return }
    throw VitError(
      "\(Self.name): tokens of the model are merged or dropped, so its layers have fewer than those of its teacher",
      code: "tokens-merged",
      help: "run '\(Self.name)' before 'merge' and 'retain'"
        + (worksOnDroppedTokens && merged.areDropped
          ? ", or drop them in the teacher: retain{teacher=true}" : ""))
  }
}

// What compares a layer's tokens with the teacher's one by one, or puts another layer in its place. Where the teacher itself drops
// tokens, and the hybrid the same ones, they correspond again.

extension Score {
  /// Maps and lags of merged tokens are not those of patches.
  public var worksOnMergedTokens: Bool { false }
  /// Those that are left attend to one another as others do.
  public var worksOnDroppedTokens: Bool { true }
}

extension Select {
  /// It tries other mixers.
  public var worksOnMergedTokens: Bool { false }
  /// It tries them on what is left.
  public var worksOnDroppedTokens: Bool { true }
}

extension Swap {
  /// A mixer is made for all patches.
  public var worksOnMergedTokens: Bool { false }
  /// It is made for those that are left.
  public var worksOnDroppedTokens: Bool { true }
}

extension Distil {
  /// Tokens do not correspond.
  public var worksOnMergedTokens: Bool { false }
  /// They do.
  public var worksOnDroppedTokens: Bool { true }
}

extension Restore {
  /// The teacher's attention is for all tokens.
  public var worksOnMergedTokens: Bool { false }
  /// It is for those that are left.
  public var worksOnDroppedTokens: Bool { true }
}

extension OwnPrefix {
  /// It looks for mixers as they were put in.
  public var worksOnMergedTokens: Bool { false }
}

extension Depth {
  /// A block may hold a merge.
  public var worksOnMergedTokens: Bool { false }
}

extension Share {
  /// Maps of merged tokens are none of patches.
  public var worksOnMergedTokens: Bool { false }
}

extension Solve {
  /// Tokens do not correspond.
  public var worksOnMergedTokens: Bool { false }
  /// They do, where each has those that the teacher keeps.
  public var worksOnDroppedTokens: Bool { true }
}
