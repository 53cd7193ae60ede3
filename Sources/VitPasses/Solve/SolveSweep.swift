internal import VitIR
internal import VitOps
internal import VitRuntime

/// One way down through teacher and hybrid, on the same samples.
final class SolveSweep {
  private let teacher: Teacher
  private let original: SampleStream
  /// The same samples in the hybrid, once it is known which of them the teacher gives numbers for.
  private var own: SampleStream?
  private let data: any SampleSource
  private let batch: Int
  private let target: Solve.Target
  private let fit: Bool
  private let context: PassContext

  init(
    _ teacher: Teacher, data: any SampleSource, samples: [Int], target: Solve.Target, fit: Bool,
    context: PassContext
  ) {
    self.teacher = teacher
    self.data = data
    self.target = target
    self.fit = fit
    self.context = context
    let layers = teacher.layers.compactMap(\.input)
    let bytes = layers.map { MicroBatch.bytes(of: [$0], in: teacher.graph) }.max() ?? 1
    batch = max(1, min((samples.count + 7) / 8, 32, SolveSweep.bytes / max(1, bytes)))
    original = SampleStream(teacher.graph, data: data, samples: samples, batch: batch, context: context)
  }

  /// The bytes that the tokens of a batch may take.
  private static let bytes = 4 << 20

  /// The constants of a site, solved on what comes to it in `graph`, in which those before it are solved.
  func solve(_ site: SolveSite, in graph: Graph) throws -> [(name: String, tensor: Tensor)] {
    switch site {
    case .mixer(let mixer): return try solve(mixer, in: graph).constants
    case .perceptron(_, let pruned, let original):
      return try solve(
        LastMap(weight: pruned.weight, bias: pruned.bias, result: pruned.result), as: original.result,
        in: graph, behind: pruned.tap)
    case .attention(let site, let original):
      let operands = graph.nodes[site.node].operands
      return try solve(
        LastMap(weight: operands[7], bias: operands.count > 8 ? operands[8] : nil, result: site.result),
        as: original, in: graph, behind: site.tap)
    case .shared(let map, let original):
      return try solve(
        LastMap(weight: map.weight, bias: map.bias, result: map.result), as: original, in: graph
      ) { _ in map.input }
    case .block(let block): return try solve(block, in: graph)
    }
  }

  /// The same samples in the hybrid.
  private func stream(of graph: Graph) -> SampleStream {
    let own =
      self.own
      ?? SampleStream(graph, data: data, samples: original.samples, batch: batch, context: context)
    self.own = own
    return own
  }

  /// Calls what it returns `body` with: for each run what the teacher has at `tapped`, the second of which is what the branch is to
  /// give, and what the hybrid has at `inputs`.
  private func pairs(
    of branch: (teacher: ValueID, own: ValueID), _ factors: [Float]?, tapped: [ValueID], in graph: Graph,
    inputs: [ValueID]
  ) throws -> (_ body: ([View], [View]) throws -> Void) throws -> Void {
    // Rows of both are those of the same tokens.
    let graph = try graph.keeping(tokensOf: teacher.graph)
    let ends = (teacher.graph.residual(behind: branch.teacher), graph.residual(behind: branch.own))
    // Without a residual stream the layer is fitted to the teacher's.
    let isCorrecting = target == .stream && ends.0 != nil && ends.1 != nil
    let weights = (try context.weights(of: teacher.graph), try context.weights(of: graph))
    if let before = ends.0?.before { try original.advance(teacher.graph, weights: weights.0, to: before) }
    let own = stream(of: graph)
    if let before = ends.1?.before { try own.advance(graph, weights: weights.1, to: before) }
    let tapped = tapped + (isCorrecting ? [ends.0?.after].compactMap { $0 } : [])
    let inputs = inputs + (isCorrecting ? [ends.1?.before].compactMap { $0 } : [])
    return { [original, teacher] body in
      try original.pairs(
        with: own, teacher.graph, weights.0, tapped, graph, weights.1, inputs
      ) { wanted, found in
        if isCorrecting {
          let (after, before) = (wanted[tapped.count - 1], found[inputs.count - 1])
          self.correct(wanted[1], after: after, before: before, factors)
        }
        try body(wanted, found)
      }
    }
  }

  /// The last map of something that lost channels, and what it gives.
  private struct LastMap {
    let weight, bias: ValueID?
    let result: ValueID
  }

  /// The map, to which `tap` adds what it reads.
  private func solve(
    _ map: LastMap, as original: ValueID, in graph: Graph, behind tap: (inout GraphBuilder) throws -> ValueID
  ) throws -> [(name: String, tensor: Tensor)] {
    guard let id = map.weight, let weight = graph.tensor(id) else { return [] }
    var builder = GraphBuilder(graph, registry: context.registry)
    let hidden = try tap(&builder)
    let sweep = try pairs(
      of: (original, map.result), teacher.graph.scaled(original)?.factors.floats(),
      tapped: [original, original], in: builder.graph, inputs: [hidden])
    var readout: Readout?
    try sweep { wanted, found in
      var sums =
        readout
        ?? Readout(
          inputs: weight.shape[1], outputs: weight.shape[0],
          weights: TokenGeometry.rowWeights(of: found[0].shape, in: teacher.graph), pool: context.pool)
      try sums.add(found[0], wanted[1])
      readout = sums
    }
    guard let solution = try readout?.solve(toward: weight.doubles(), free: map.bias != nil) else {
      return []
    }
    let bias = map.bias.map {
      (graph[$0].name, Tensor(shape: [weight.shape[0]], floats: solution.bias))
    }
    return [(graph[id].name, Tensor(shape: weight.shape, floats: solution.weight))] + [bias].compactMap { $0 }
  }

  /// The linear map that takes the hybrid's stream to the teacher's behind the block, as near to the identity as the ridge draws it.
  private func solve(
    _ block: LinearBlock, in graph: Graph
  ) throws -> [(name: String, tensor: Tensor)] {
    let graph = try graph.keeping(tokensOf: teacher.graph)
    let weights = (try context.weights(of: teacher.graph), try context.weights(of: graph))
    try original.advance(teacher.graph, weights: weights.0, to: block.original.before)
    let own = stream(of: graph)
    try own.advance(graph, weights: weights.1, to: block.input)
    var readout: Readout?
    try original.pairs(
      with: own, teacher.graph, weights.0, [block.original.after], graph, weights.1, [block.input]
    ) { wanted, found in
      let width = found[0].shape.last ?? 0
      var sums =
        readout
        ?? Readout(
          inputs: width, outputs: width,
          weights: TokenGeometry.rowWeights(of: found[0].shape, in: teacher.graph), pool: context.pool)
      try sums.add(found[0], wanted[0])
      readout = sums
    }
    guard let width = graph.tensor(block.bias)?.count,
      let solution = try readout?.solve(toward: Tensor.identity(width).doubles())
    else { return [] }
    return [
      (graph[block.weight].name, Tensor(shape: [width, width], floats: solution.weight)),
      (graph[block.bias].name, Tensor(shape: [width], floats: solution.bias)),
    ]
  }

  /// The mixer, solved on what comes to it in `graph`, in which those before it are solved.
  private func solve(_ mixer: MixerNode, in graph: Graph) throws -> MixerRegion {
    guard let tokens = mixer.layer.input, let output = mixer.layer.output else { return mixer.region }
    let table = mixer.region.needsPlaces ? graph.placeTable(of: tokens) : nil
    func places(_ found: [View]) -> View? { table.map { _ in found[1] } }
    let sweep = try pairs(
      of: (mixer.target, output), mixer.scaled(in: teacher.graph)?.factors.floats(),
      tapped: [mixer.input, mixer.target], in: graph, inputs: [tokens] + [table].compactMap(\.self))
    var solver: RegionSolver?
    func each(_ body: (RegionSolver, [View], [View]) throws -> Void) throws {
      try sweep { wanted, found in
        let known =
          try solver
          ?? RegionSolver(
            mixer, mixer.region, teacher: teacher, shape: found[0].shape, places: places(found)?.shape,
            pool: context.pool)
        solver = known
        try body(known, wanted, found)
      }
    }
    if fit {
      try each { solver, wanted, found in try solver.addFit(found[0], teacher: wanted[0]) }
      solver?.finishFit()
    }
    var isReady = false
    try each { solver, wanted, found in
      if !isReady { try solver.prepareReadout() }
      isReady = true
      try solver.add(found[0], places: places(found), wanted[1])
    }
    try solver?.finish()
    return solver?.region ?? mixer.region
  }

  /// `y ← (after − before) / γ`: what brings the stream to the teacher's. Channels that are scaled by next to nothing keep `y`.
  private func correct(_ y: View, after: View, before: View, _ factors: [Float]?) {
    let width = y.shape.last ?? 1
    for index in 0..<y.count {
      let factor = factors.map { $0[index % width] } ?? 1
      if abs(factor) >= 1e-6 { y.f32[index] = (after.f32[index] - before.f32[index]) / factor }
    }
  }
}
