internal import VitIR
internal import VitOps

/// A teacher with the parts that can be made smaller, each of one of its sizes: what stands in it then, and about what it loses
/// and costs.
///
/// A state says for each slot the place of its size.
struct ReducibleModel {
  /// What is made smaller.
  let teacher: Teacher
  /// The parts.
  let slots: [ReductionSlot]
  /// The mixers that stand in for layers of their own, whole.
  let mixers: [MixerNode]
  /// Whether attention may stay where a mixer could stand.
  let isFree: Bool
  /// What the teacher costs in the precision of the result, and as it is.
  let whole, reference: Double
  /// What each of its nodes costs, for so many tokens of which so many are patches.
  let nodes: [Double]
  let tokens, patches: Int
  let context: PassContext

  /// At least one patch of so many stays.
  private static let patchesForOne = 8

  /// Every part of its first size.
  var start: [Int] { slots.map { _ in 0 } }

  /// The slots with the places of their sizes, without those that say nothing: what lies in a block that is gone, and the heads of
  /// a layer where a mixer stands.
  private func parts(_ state: [Int]) -> [(slot: ReductionSlot, place: Int)] {
    let gone = gone(state)
    let inside = Set(gone.flatMap(\.block.nodes))
    let replaced = Set(standing(state).map(\.layer.index))
    let sharing = Set(sharing(state).map(\.layer))
    return zip(slots, state).filter { slot, _ in
      (slot.map != nil || !inside.contains(slot.node))
        && (slot.sharing.map { sharing.contains($0.layer) } ?? true)
        && slot.part.attention.map { !replaced.contains($0) && !sharing.contains($0) } ?? true
    }.map { ($0, $1) }
  }

  /// The layers that use the map of a layer before: attention themselves, no merge before them, and the map enough like their own.
  private func sharing(_ state: [Int]) -> [SharedMap] {
    let wanted = zip(slots, state).compactMap { slot, place in place > 0 ? slot.sharing : nil }
    guard !wanted.isEmpty else { return [] }
    let others = Set(standing(state).map(\.layer.index) + gone(state).map(\.layer))
    let merging = Set(
      zip(slots, state).compactMap { slot, place -> Int? in
        if place > 0, case .patches(let layer) = slot.part { layer } else { nil }
      })
    var (sharing, source): ([SharedMap], Int?) = ([], nil)
    for layer in teacher.layers {
      // Behind a merge attention counts the sizes of its tokens, and where tokens are merged its keys are its own.
      if merging.contains(layer.index) { break }
      if layer.isAttention, !others.contains(layer.index) {
        if let map = wanted.first(where: { $0.layer == layer.index }), let source,
          map.sources.contains(source)
        {
          sharing.append(map)
        } else {
          source = layer.index
        }
      }
    }
    return sharing
  }

  /// The blocks that are gone.
  private func gone(_ state: [Int]) -> [BlockMap] {
    zip(slots, state).compactMap { slot, place in place > 0 ? slot.map : nil }
  }

  /// The mixers that stand in the model.
  private func standing(_ state: [Int]) -> [MixerNode] {
    let sized = zip(slots, state).compactMap { $1 < $0.mixers.count ? $0.mixers[$1] : nil }
    let others =
      isFree ? [] : mixers.filter { mixer in !sized.contains { $0.layer.index == mixer.layer.index } }
    let gone = Set(gone(state).map(\.layer))
    return (others + sized).filter { !gone.contains($0.layer.index) }
  }

  /// The sum of what the parts lose alone.
  func damage(_ state: [Int]) -> Double {
    parts(state).reduce(0) { $0 + $1.slot.damages[$1.place] }
  }

  /// About what the model costs: what the parts save in sum, and of all nodes behind merges the part that their tokens are.
  func cost(_ state: [Int]) -> Double {
    let parts = parts(state)
    let merges = parts.filter { $0.slot.isMerging && $0.place > 0 }
    /// The part of the tokens that comes to a node.
    func left(at node: Int) -> Double {
      let gone = merges.reduce(0) { $1.slot.node < node ? $0 + $1.slot.sizes[$1.place] : $0 }
      return Double(tokens - gone) / Double(max(1, tokens))
    }
    var cost = whole
    if !merges.isEmpty {
      cost = nodes.indices.reduce(0) { $0 + nodes[$1] * left(at: $1) }
    }
    return parts.reduce(cost) { $0 - (whole - $1.slot.costs[$1.place]) * left(at: $1.slot.node) }
  }

  /// Whether so many patches can be merged one after the other.
  func isPossible(_ state: [Int]) -> Bool {
    var left = patches
    for (slot, place) in parts(state) where slot.isMerging {
      guard slot.sizes[place] <= TokenMatch.most(of: left) else { return false }
      left -= slot.sizes[place]
    }
    return left == patches || left * ReducibleModel.patchesForOne >= patches
  }

  /// The model with the mixers, and each part of its size.
  func graph(_ state: [Int]) throws -> Graph {
    var reduced = teacher
    for (slot, place) in parts(state) where place > 0 {
      if case .surgery(let apply) = slot.change { try apply(place, &reduced.graph) }
    }
    try reduced.graph.finish(pool: context.pool)
    let merges = sizes(state).merges
    let (graph, layers) = try MixerNode.transplant(standing(state), into: reduced, registry: context.registry)
    let gone = gone(state)
    let sharing = sharing(state)
    guard !gone.isEmpty || !sharing.isEmpty || merges.contains(where: { $0 > 0 }) else { return graph }
    var hybrid = Hybrid(graph)
    hybrid.layers = layers
    for map in gone { try map.apply(to: &hybrid, registry: context.registry) }
    for map in sharing { try map.apply(to: &hybrid, context: context) }
    guard merges.contains(where: { $0 > 0 }) else { return hybrid.graph }
    _ = try Merge(counts: merges).run(on: &hybrid, context: context)
    return hybrid.graph
  }

  /// What is left of each part.
  func sizes(_ state: [Int]) -> Reduction.Sizes {
    let none = [Int](repeating: 0, count: teacher.layers.count)
    var sizes = Reduction.Sizes(
      replaced: standing(state).map(\.layer.index).sorted(),
      channels: ChannelSite.all(in: teacher.graph).map(\.channels), scores: none, values: none, mixers: none,
      standing: teacher.layers.map { _ in "" }, merges: none, removed: gone(state).map(\.layer).sorted(),
      shared: sharing(state).map(\.layer))
    for mixer in standing(state) {
      if let index = teacher.layers.firstIndex(where: { $0.index == mixer.layer.index }) {
        (sizes.standing[index], sizes.mixers[index]) = (mixer.text, mixer.width)
      }
    }
    for (slot, place) in parts(state) where place > 0 {
      func set(_ part: WritableKeyPath<Reduction.Sizes, [Int]>, _ layer: Int) {
        if let index = teacher.layers.firstIndex(where: { $0.index == layer }) {
          sizes[keyPath: part][index] = slot.sizes[place]
        }
      }
      switch slot.part {
      case .channels(let index): sizes.channels[index] = slot.sizes[place]
      case .scores(let layer): set(\.scores, layer)
      case .values(let layer): set(\.values, layer)
      case .mixer, .block, .map: break
      case .patches(let layer): set(\.merges, layer)
      }
    }
    return sizes
  }

  /// The state that adds least to the damage for what it saves; of equal ones that of the later part. `nil` where nothing saves.
  /// Without `removing` all blocks that are there stay.
  func next(_ state: [Int], removing: Bool = true) -> [Int]? {
    let (damage, cost) = (damage(state), cost(state))
    var best: (rate: Double, state: [Int])?
    for (index, (slot, place)) in zip(slots, state).enumerated() where place + 1 < slot.sizes.count {
      if !removing, slot.map != nil { continue }
      // In place of attention a mixer of any width may come; and what merging costs itself comes with the first patch.
      let isFirst = place == 0 && (slot.isMerging || slot.mixers.first.map { $0 == nil } ?? false)
      for next in place + 1..<(isFirst ? slot.sizes.count : place + 2) {
        var candidate = state
        candidate[index] = next
        guard !slot.isMerging || isPossible(candidate) else { continue }
        let saved = cost - self.cost(candidate)
        guard saved > 0 else { continue }
        let rate = max(0, self.damage(candidate) - damage) / saved
        if rate <= best?.rate ?? .infinity { best = (rate, candidate) }
      }
    }
    return best?.state
  }
}

extension Graph {
  /// Takes what surgery left over away.
  mutating func finish(pool: any WorkPool) throws {
    removeDeadNodes()
    try inferTypes(pool: pool)
  }
}
