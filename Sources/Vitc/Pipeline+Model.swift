internal import VitIR
public import VitPasses
internal import VitRuntime

extension Pipeline {
  /// Runs the passes on a model; returns what they make of it.
  ///
  /// `heldOut` are samples that nothing is trained on; without them the samples judge themselves. Throws what a pass throws.
  public func run(
    on model: Model, _ data: Samples? = nil, heldOut: Samples? = nil, seed: UInt64 = 0, threads: Int? = nil,
    progress: Progress = Progress(), observers: [any PassObserver] = []
  ) throws -> Model {
    let context = PassContext(
      pool: ThreadPool(threads: threads), registry: .vitc, seed: seed, progress: progress)
    context.data = data
    context.heldOut = heldOut
    var result = model
    try run(on: &result.hybrid, context: context, observers: observers)
    if try result.graph.computes(otherwise: model.graph) {
      // What was measured on another graph, and what that one gave, says nothing of this one.
      result.contents.probes = []
      result.contents.report = nil
      result.contents.measurements = nil
      result.contents.lineage = model.lineage.map { entry in
        entry.key == "pipeline" ? (entry.key, "\(entry.value),\(description)") : entry
      }
    }
    return result
  }
}

extension Graph {
  /// Whether anything but notes and origins tells this graph from `other`.
  fileprivate func computes(otherwise other: Graph) throws -> Bool {
    func bare(_ graph: Graph) -> Graph {
      var graph = graph
      graph.annotations = Attributes()
      for index in graph.nodes.indices {
        graph.nodes[index].location = Location()
      }
      return graph
    }
    return try bare(self).firstDifference(from: bare(other)) != nil
  }
}

extension PassContext {
  convenience init(pool: any WorkPool, registry: Registry, seed: UInt64, progress: Progress) {
    self.init(pool: pool, registry: registry, seed: seed)
    report = progress.report
    self.progress = progress.advance
    isCancelled = progress.isCancelled
  }
}
