internal import VitIR

/// Where every value of a graph lies when it runs on inputs of known shapes, and the kernels' contexts.
///
/// In inference the memory of values that nobody needs any more is used again, and elementwise results
/// overwrite their operands; in training every value keeps its place until the reverse pass has run.
struct Planner {
  let graph: Graph
  let weights: WeightStore
  let pool: any WorkPool
  let mode: ExecutionMode
  /// Whether weights are rearranged once for the kernels.
  let packing: Bool
  /// Concrete types over `ValueID.index`.
  let types: [TensorType]
  /// Values that no kernel needs to compute.
  let known: [KnownValue?]
  /// What runs, in order.
  let groups: [FusionGroup]

  init(
    _ graph: Graph, weights: WeightStore, inputShapes: [[Int]], training: Bool, packing: Bool,
    pool: any WorkPool
  ) throws(VitError) {
    self.graph = graph
    self.weights = weights
    self.packing = packing
    self.pool = pool
    mode = ExecutionMode(training: training, workers: pool.workers)
    let inputs = try Planner.bind(graph, inputShapes)
    let folder = ConstantFolder(pool: pool)
    var known: [KnownValue?]
    do throws(VitError) {
      (types, known) = try GraphBuilder.infer(graph, inputTypes: inputs, fold: folder.fold)
    } catch { throw Planner.explained(error, graph, inputs) }
    if training { Planner.forgetTrained(graph, weights, types, &known) }
    self.known = known
    groups = FusionPlanner.groups(of: graph, types: types, known: known, fusing: !training)
    try Blas.require(for: types, training: training, on: pool)
    for node in graph.nodes {
      for id in node.results where types[id.index].fixedShape == nil {
        throw VitError(
          "the shape \(types[id.index].shape) of '\(graph[id].name)' depends on data", code: "dynamic-shape",
          location: node.location)
      }
    }
  }

  /// An error of the types, with the sizes that were used where the model leaves some open.
  private static func explained(_ error: VitError, _ graph: Graph, _ types: [TensorType]) -> VitError {
    let isOpen = graph.inputs.contains { id in
      graph.type(id).shape.contains { !$0.symbols.allSatisfy { $0 == Dimension.batchName } }
    }
    guard isOpen, error.kind == .input, error.diagnostic.help == nil else { return error }
    var error = error
    error.diagnostic.help =
      "the model does not take every size: "
      + zip(graph.inputs, types).map { "'\(graph[$0].name)' is \($1)" }.joined(separator: ", ")
    return error
  }

  /// What follows from a weight that is being trained changes with it, so it is no constant of the plan.
  private static func forgetTrained(
    _ graph: Graph, _ weights: WeightStore, _ types: [TensorType], _ known: inout [KnownValue?]
  ) {
    var isTrained = graph.values.map { $0.isConstant && weights.isTrainable($0.name) }
    for node in graph.nodes where node.operands.contains(where: { $0.map { isTrained[$0.index] } ?? false }) {
      for id in node.results where types[id.index].element.isFloat {
        isTrained[id.index] = true
        known[id.index] = nil
      }
    }
  }

  /// The input types with the symbols that the shapes give a value; throws where a shape does not fit.
  private static func bind(_ graph: Graph, _ shapes: [[Int]]) throws(VitError) -> [TensorType] {
    guard shapes.count == graph.inputs.count else {
      throw VitError("the model has \(graph.inputs.count) inputs, found \(shapes.count)")
    }
    var bindings: [String: Int] = [:]
    var result: [TensorType] = []
    for (id, shape) in zip(graph.inputs, shapes) {
      let type = graph.type(id)
      guard type.rank == shape.count else {
        throw VitError("input '\(graph[id].name)' has the shape \(type.shape), found \(shape)")
      }
      for (dimension, extent) in zip(type.shape, shape) where dimension.fixedValue == nil {
        if dimension.symbols.count == 1, dimension == .symbol(dimension.symbols[0]) {
          bindings[dimension.symbols[0]] = bindings[dimension.symbols[0]] ?? extent
        }
      }
      for (dimension, extent) in zip(type.shape, shape) {
        let value = dimension.substituting { bindings[$0].map(Dimension.fixed) }
        guard value.fixedValue == nil || value.fixedValue == extent else {
          throw VitError(
            "input '\(graph[id].name)' has the shape \(type.shape), found \(shape)", code: "input-shape")
        }
      }
      result.append(TensorType(type.element, fixed: shape))
    }
    return result
  }

  func makePlan() throws(VitError) -> Plan {
    let storage = storageRoots()
    var layout = ArenaLayout()
    var offsets = [Int?](repeating: nil, count: types.count)
    var bytes = [Int](repeating: 0, count: types.count)
    for (index, type) in types.enumerated() where type.fixedShape != nil {
      bytes[index] = type.count * type.element.size
    }
    for id in graph.inputs { offsets[id.index] = layout.allocate(bytes[id.index]) }
    for (index, value) in known.enumerated() where value != nil && !graph.values[index].isConstant {
      offsets[index] = layout.allocate(bytes[index])
    }
    // What is used in every run, or by many nodes, lies apart from memory that values take in turns.
    var scratch: [[TensorType]] = []
    var scratchBytes = 0
    for group in groups {
      let operands = operands(of: group)
      let runs = needsRun(group)
      let types = runs ? group.operation.scratchTypes(operands, mode: mode) : []
      scratchBytes = max(
        scratchBytes, types.reduce(0) { $0 + ArenaLayout.rounded($1.count * $1.element.size) })
      scratch.append(types)
    }
    let scratchOffset = layout.allocate(scratchBytes)
    var saved: [[(TensorType, Int)]] = []
    var releases = [[Int]](repeating: [], count: groups.count)
    for (root, last) in storage.lastUse.enumerated() where storage.root[root] == root && offsets[root] == nil
    {
      if let last, last < groups.count { releases[last].append(root) }
    }
    for (index, group) in groups.enumerated() {
      for id in group.results where storage.root[id.index] == id.index && offsets[id.index] == nil {
        offsets[id.index] = layout.allocate(bytes[id.index])
        if storage.lastUse[id.index] == nil { releases[index].append(id.index) }
      }
      saved.append(
        mode.training && needsRun(group)
          ? group.operation.savedTypes(operands(of: group))
            .map { ($0, layout.allocate($0.count * $0.element.size)) } : [])
      if !mode.training {
        for root in releases[index] {
          if let offset = offsets[root] { layout.release(bytes[root], at: offset) }
        }
      }
    }
    let arena = try makeArena(layout.byteCount, bytes)
    let packings = groups.map(packings)
    let isPacked = packedConstants(packings)
    let views = try views(in: arena, storage: storage, offsets: offsets, isPacked: isPacked)
    var steps: [Plan.Step] = []
    for (index, group) in groups.enumerated() where needsRun(group) {
      var offset = scratchOffset
      let context = KernelContext(
        inputs: try group.operands.map { id throws(VitError) in try view(id, views) },
        outputs: try group.results.map { id throws(VitError) in try view(id, views) },
        saved: saved[index].map { arena.view($0.0, at: $0.1) },
        scratch: scratch[index].map { type in
          defer { offset += ArenaLayout.rounded(type.count * type.element.size) }
          return arena.view(type, at: offset)
        },
        prepared: try packings[index].map { packing throws(VitError) in try packed(packing, group) },
        epilogue: Epilogue(scale: try view(group.scale, views), residual: try view(group.residual, views)),
        pool: pool)
      let isAlias = if case .alias = group.operation.memory { true } else { false }
      steps.append(
        Plan.Step(nodes: group.nodes, operation: group.operation, context: context, runs: !isAlias))
    }
    return Plan(arena: arena, views: views, types: types, steps: steps)
  }

  private func makeArena(_ byteCount: Int, _ bytes: [Int]) throws(VitError) -> Arena {
    do { return try Arena(byteCount: byteCount, for: "running on this shape") } catch {
      let largest = graph.nodes.max { a, b in
        a.results.reduce(0) { $0 + bytes[$1.index] } < b.results.reduce(0) { $0 + bytes[$1.index] }
      }
      var error = error
      error.diagnostic.message += "; the largest value is this node's"
      throw error.at(largest?.location ?? Location())
    }
  }

  /// The forms of its constants that a group reads in their place.
  private func packings(_ group: FusionGroup) -> [Packing] {
    guard !mode.training, needsRun(group) else { return [] }
    let stored = group.operands.map { id -> ElementType? in
      guard let id, graph[id].isConstant, !weights.isTrainable(graph[id].name) else { return nil }
      return graph.tensor(id)?.element ?? types[id.index].element
    }
    let packings = group.operation.packings(operands(of: group), stored: stored)
    // What is computed in fewer bits is so wherever it runs; the rest is only a matter of speed.
    return packing || packings.contains(where: \.isNarrow) ? packings : []
  }

  private func packed(_ packing: Packing, _ group: FusionGroup) throws(VitError) -> View {
    let ids = packing.operands.compactMap { group.operands[$0] }
    let view = try loading { try weights.packed(packing, of: ids.map { graph[$0].name }, pool: pool) }
    if let view { return view }
    throw missing(ids.first { graph.tensor($0) == nil } ?? group.results[0])
  }

  /// Which constants are read in a packed form alone, by index.
  private func packedConstants(_ packings: [[Packing]]) -> [Bool] {
    var isPacked = graph.values.map { $0.isConstant && !weights.isTrainable($0.name) }
    for output in graph.outputs { isPacked[output.value.index] = false }
    var isRead = [Bool](repeating: false, count: types.count)
    for (group, packings) in zip(groups, packings) where needsRun(group) {
      let packed = Set(packings.flatMap(\.operands))
      for (place, id) in group.operands.enumerated() {
        guard let id else { continue }
        isRead[id.index] = true
        if !packed.contains(place) { isPacked[id.index] = false }
      }
      for case let id? in [group.scale, group.residual] { isPacked[id.index] = false }
    }
    return zip(isPacked, isRead).map { $0 && $1 }
  }

  private func loading<Result>(_ body: () throws -> Result) throws(VitError) -> Result {
    do { return try body() } catch { throw VitError(error) }
  }

  private func view(_ id: ValueID?, _ views: [View?]) throws(VitError) -> View? {
    guard let id else { return nil }
    return try view(id, views) as View
  }

  private func view(_ id: ValueID, _ views: [View?]) throws(VitError) -> View {
    if let view = views[id.index] { return view }
    throw missing(id)
  }

  private func missing(_ id: ValueID) -> VitError {
    VitError(
      "the tensor '\(graph[id].name)' is missing", code: "tensor-missing",
      help: "its weights were left out of this file")
  }

  private func operands(of group: FusionGroup) -> Operands {
    Operands(
      group.operands.map { $0.map { types[$0.index] } },
      values: group.operands.map { $0.flatMap { known[$0.index] } },
      resultCount: group.results.count)
  }

  private func needsRun(_ group: FusionGroup) -> Bool { group.results.contains { known[$0.index] == nil } }

  /// Which value's memory each value lies in, and the last group that touches that memory (`groups.count`
  /// for ever).
  private func storageRoots() -> (root: [Int], lastUse: [Int?]) {
    var root = Array(types.indices)
    for group in groups {
      if let source = group.alias, let result = group.results.first, known[result.index] == nil {
        root[result.index] = root[source.index]
      }
    }
    var last = [Int?](repeating: nil, count: types.count)
    for (index, group) in groups.enumerated() {
      for id in group.reads { last[root[id.index]] = index }
    }
    for output in graph.outputs { last[root[output.value.index]] = groups.count }
    guard !mode.training else { return (root, last) }
    var external = [Bool](repeating: false, count: types.count)
    for id in graph.inputs { external[id.index] = true }
    for index in types.indices where graph.values[index].isConstant || known[index] != nil {
      external[index] = true
    }
    // In-place: the operand's memory dies here and has just the result's type. Roots move forward, so the
    // chain of one buffer through many elementwise nodes is followed.
    var moved = root
    for (index, group) in groups.enumerated() {
      for id in group.results {
        moved[id.index] = root[id.index] == id.index ? id.index : moved[root[id.index]]
      }
      guard case .inPlace(let candidates) = group.operation.memory, !group.isFused,
        let result = group.results.first, known[result.index] == nil
      else { continue }
      for candidate in candidates where candidate < group.operands.count {
        guard let operand = group.operands[candidate] else { continue }
        let home = moved[root[operand.index]]
        guard !external[home], last[home] == index, types[operand.index] == types[result.index] else {
          continue
        }
        moved[result.index] = home
        last[home] = last[result.index].map { max($0, index) } ?? index
        break
      }
    }
    for index in root.indices { moved[index] = root[index] == index ? moved[index] : moved[root[index]] }
    return (moved, last)
  }

  private func views(
    in arena: Arena, storage: (root: [Int], lastUse: [Int?]), offsets: [Int?], isPacked: [Bool]
  ) throws(VitError) -> [View?] {
    var views = [View?](repeating: nil, count: types.count)
    for (index, value) in graph.values.enumerated() where value.isConstant {
      views[index] =
        isPacked[index]
        ? arena.placeholder(types[index]) : try loading { try weights.load(value.name) }
    }
    for (index, type) in types.enumerated() where type.fixedShape != nil {
      if let offset = offsets[index] {
        let view = arena.view(type, at: offset)
        views[index] = view
        if let value = known[index] { try Planner.store(value, in: view) }
      }
    }
    for (index, type) in types.enumerated() where views[index] == nil && type.fixedShape != nil {
      if let home = views[storage.root[index]] {
        views[index] = View(base: home.base, element: type.element, shape: type.extents)
      }
    }
    return views
  }

  static func store(_ value: KnownValue, in view: View) throws(VitError) {
    let target = UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount)
    switch value {
    case .integers(_, let elements):
      for (index, element) in elements.enumerated() {
        guard let number = element.fixedValue else { throw VitError("\(element) has no value on this shape") }
        target.store(Double(number), at: index, as: view.element)
      }
    case .tensor(let tensor):
      do { try tensor.copy(to: view) } catch { throw VitError(error) }
    }
  }
}
