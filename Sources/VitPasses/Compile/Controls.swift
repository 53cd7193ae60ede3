internal import VitIR
internal import VitOps

/// Hybrids with the same layers replaced by mixers that do not mix, or by nothing: what a mixer has to beat.
package enum Controls {
  /// The kinds of mixers that controls have.
  package static let kinds = ["none", "pointwise", "static"]

  /// The pipelines of the controls of `pipeline`, which replaced `layers`: the same passes for the same steps, with every
  /// mixer another; none of the kind that all of its mixers are already.
  package static func pipelines(
    of pipeline: Pipeline, layers: [Int]
  ) -> [(kind: String, pipeline: Pipeline)] {
    let own = Set(
      pipeline.passes.compactMap { ($0 as? Swap).flatMap { try? MixerRequest($0.mixer).kind.name } })
    guard !layers.isEmpty, !own.isEmpty else { return [] }
    return kinds.filter { own != [$0] }.map { kind in
      (kind, Pipeline(control(pipeline.passes, kind, layers)))
    }
  }

  /// The swaps that put each control into the layers that `pipeline` replaced, and what then solves for them: what a mixer's error
  /// is compared with. `nil` where no layer was replaced by that pipeline.
  package static func floors(
    of pipeline: Pipeline, layers: [Int]
  ) -> (swaps: [(kind: String, swap: Swap)], distil: Distil)? {
    guard !layers.isEmpty, let swap = pipeline.passes.lazy.compactMap({ $0 as? Swap }).first else {
      return nil
    }
    let own = pipeline.passes.lazy.compactMap { $0 as? Distil }.first ?? Distil()
    return (
      kinds.map { ($0, Swap(mixer: $0, prefix: swap.prefix, layers: .listed(layers), images: swap.images)) },
      Distil(steps: 0, batch: own.batch, images: min(own.images, Distil.usualImages))
    )
  }

  /// The passes of a control in the place of `passes`: it does not score, takes the layers that were chosen from its one
  /// swap on, and keeps the steps of every pass that has some; what only chose between mixers is not done again.
  private static func control(_ passes: [any Pass], _ kind: String, _ layers: [Int]) -> [any Pass] {
    var isSwapped = false
    var isDistilled = false
    return passes.compactMap { pass in
      switch pass {
      case is Score, is Restore: return nil
      case let swap as Swap:
        guard !isSwapped else { return nil }
        isSwapped = true
        return Swap(mixer: kind, prefix: swap.prefix, layers: .listed(layers), images: swap.images)
      case let distil as Distil:
        guard !isDistilled || distil.steps > 0 else { return nil }
        isDistilled = true
        return distil
      case is Select: return Select(layers: layers)
      default: return pass
      }
    }
  }
}
