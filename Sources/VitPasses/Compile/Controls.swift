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
      (kind, Pipeline(pipeline.passes.compactMap { control($0, kind, layers) }))
    }
  }

  /// The pipelines that solve each control in closed form in the layers that `pipeline` replaced: what a mixer's error is
  /// compared with.
  package static func floors(of pipeline: Pipeline, layers: [Int]) -> [(kind: String, pipeline: Pipeline)] {
    guard !layers.isEmpty, let swap = pipeline.passes.lazy.compactMap({ $0 as? Swap }).first else {
      return []
    }
    let distil = pipeline.passes.lazy.compactMap { $0 as? Distil }.first ?? Distil()
    return kinds.map { kind in
      (
        kind,
        Pipeline([
          Swap(mixer: kind, prefix: swap.prefix, layers: .listed(layers), images: swap.images),
          Distil(steps: 0, batch: distil.batch, images: distil.images),
        ])
      )
    }
  }

  /// The pass of a control in the place of `pass`: it does not score, and takes the layers that were chosen.
  private static func control(_ pass: any Pass, _ kind: String, _ layers: [Int]) -> (any Pass)? {
    switch pass {
    case is Score: return nil
    case let swap as Swap:
      return Swap(
        mixer: kind, prefix: swap.prefix, layers: swap.layers == .all ? .listed(layers) : swap.layers,
        images: swap.images)
    case is Select: return Select(layers: layers)
    default: return pass
    }
  }
}
