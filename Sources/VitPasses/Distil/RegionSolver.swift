internal import VitIR
internal import VitOps
internal import VitRuntime

/// Solves for a mixer in closed form: what lies before its last linear map by its own fit towards the attended values, then
/// that map by ridge regression on what the mixer gives before it.
///
/// Both look at the same batches, one after the other: `addFit` for each, `finishFit`, `add` for each, `finish`.
final class RegionSolver {
  /// The region as far as it is solved.
  private(set) var region: MixerRegion
  private let shape: [Int]
  private let places: [Int]?
  private let weights: [Double]
  private let pool: any WorkPool
  private let attention: AttendedValues?
  /// The attention's own output map, where the mixer's channels are the attention's.
  private let inherited: [Double]?
  private var interior: (any InteriorFit)?
  private var inner: Executor?
  private var readout: Readout?

  /// A solver for the mixer at `node`, whose tokens have that `shape`, and the table of their places its own, where the mixer takes it;
  /// with weights as they are in `region`.
  init(
    _ node: MixerNode, _ region: MixerRegion, teacher: Teacher, shape: [Int], places: [Int]? = nil,
    pool: any WorkPool
  ) throws {
    self.region = region
    self.shape = shape
    self.places = places
    self.pool = pool
    let geometry = TokenGeometry(teacher.graph, tokens: shape[1])
    weights = geometry.rowWeights(tokens: shape[1], unread: region.unreadRows)
    let weight = region.readout?.weight.map { region.constants[$0].tensor }
    if let fit = try region.fit(geometry, dim: shape[2]),
      let attention = try AttendedValues(
        node, of: teacher, shape: shape, maps: fit.readsMaps, pool: pool)
    {
      interior = fit
      self.attention = attention
    } else {
      attention = nil
    }
    let original = teacher.attentionOutput(of: node.layer.index)
    inherited = region.readsAttendedValues && original?.shape == weight?.shape ? try original?.doubles() : nil
  }

  /// Whether there is anything to fit before the last map.
  var hasFit: Bool { interior != nil }

  /// Takes the tokens of a batch into account, and those that the teacher has there.
  func addFit(_ x: View, teacher: View) throws {
    guard let attention, interior != nil else { return }
    let found = attention.run(teacher)
    try interior?.add(FitBatch(x: x, context: found.context, maps: found.maps, pool: pool))
  }

  /// Takes over what was fitted.
  func finishFit() {
    for (operand, tensor) in interior?.solve() ?? [] {
      if let place = region.constant(ofMixer: operand) { region.constants[place].tensor = tensor }
    }
    interior = nil
  }

  /// Gets ready for the last map; there may be none.
  func prepareReadout() throws {
    guard let map = region.readout else { return }
    let outputs = region.constants[map.bias].tensor.count
    guard let weight = map.weight else {
      readout = Readout(inputs: 0, outputs: outputs, weights: weights, pool: pool)
      return
    }
    let inputs = region.constants[weight].tensor.shape[1]
    readout = Readout(inputs: inputs, outputs: outputs, weights: weights, pool: pool)
    inner = try region.beforeReadout()?.executor(on: shape, places: places, pool: pool)
  }

  /// Takes a batch into account: the mixer's tokens, with their places where it takes them, and what it should give there.
  func add(_ x: View, places: View? = nil, _ target: View) throws {
    if let inner {
      inner.read(x, places: places)
      inner.run()
    }
    try readout?.add(inner?.outputs[0], target)
  }

  /// Takes over the solution.
  func finish() throws {
    guard let map = region.readout else { return }
    let current = try map.weight.map { try region.constants[$0].tensor.doubles() }
    guard let solution = readout?.solve(toward: inherited ?? current) else { return }
    if let weight = map.weight {
      region.constants[weight].tensor = Tensor(
        shape: region.constants[weight].tensor.shape, floats: solution.weight)
    }
    region.constants[map.bias].tensor = Tensor(
      shape: region.constants[map.bias].tensor.shape, floats: solution.bias)
    (inner, readout) = (nil, nil)
  }
}

extension MixerRegion {
  /// The region as a graph of its own, on tokens of that shape, and a table of `places` of that where it needs one; with `factors`, its
  /// result times them channel by channel.
  func alone(
    on shape: [Int], places: [Int]? = nil, scaledBy factors: Tensor? = nil
  ) throws(VitError) -> (graph: Graph, constants: [ValueID]) {
    var builder = GraphBuilder(Graph(name: mixer.kind), registry: Registry([]))
    let tokens = builder.graph.addInput(TensorType(.f32, fixed: shape), name: "x")
    let table =
      needsPlaces
      ? places.map { builder.graph.addInput(TensorType(.i64, fixed: $0), name: "places") } : nil
    let (results, constants) = try build(into: &builder, tokens: tokens, places: table, name: "y")
    guard var result = results.last else { throw VitError("a mixer gives nothing", location: location) }
    if let factors {
      let scale = builder.graph.addConstant(factors, name: "factors")
      result = try builder.add(VitScale(), [result, scale])[0]
    }
    builder.graph.outputs = [("y", result)]
    return (builder.graph, constants)
  }

  /// What runs the region on tokens of that shape.
  func executor(on shape: [Int], places: [Int]?, pool: any WorkPool) throws -> Executor {
    let graph = try alone(on: shape, places: places).graph
    return try Executor(
      graph, weights: WeightStore(graph), inputShapes: inputShapes(shape, places: places), pool: pool)
  }

  /// The shapes of what it reads.
  func inputShapes(_ shape: [Int], places: [Int]?) -> [[Int]] {
    [shape] + (needsPlaces ? [places].compactMap(\.self) : [])
  }

  /// The mixer's operands behind the tokens.
  private var mixerConstants: [(name: String, tensor: Tensor)] {
    steps[0].sources.compactMap { if case .constant(let place) = $0 { constants[place] } else { nil } }
  }

  /// What fits the mixer's parameters before its last map; `nil` where there is nothing.
  func fit(_ geometry: TokenGeometry, dim: Int) throws -> (any InteriorFit)? {
    // Taps and maps are fitted on whole grids only.
    guard !needsPlaces, let layout = try layout(geometry, dim: dim) else { return nil }
    return try mixer.fit(layout, mixerConstants.map(\.tensor))
  }

  /// The layout that the mixer was made for, as its attributes and parameters say.
  private func layout(_ geometry: TokenGeometry, dim: Int) throws(VitError) -> MixerLayout? {
    guard let readout, let weight = readout.weight else { return nil }
    let attributes = mixer.attributes
    func word<Word: RawRepresentable<String>>(_ name: String, _ fallback: Word) -> Word {
      if case .string(let text)? = attributes[name] { Word(rawValue: text) ?? fallback } else { fallback }
    }
    let order = try ScanOrder(
      word("order", ScanOrder.Pattern.forward), grid: geometry.grid, prefix: geometry.prefix,
      outputs: geometry.outputs, placement: word("placement", ScanOrder.Placement.last))
    return try MixerLayout(
      dim: dim, outputDim: constants[readout.bias].tensor.count, width: constants[weight].tensor.shape[1],
      heads: mixer.heads, order: order, ownsPrefix: prefix == nil, splitsHeads: mixer.splitsHeads)
  }
}

extension Executor {
  /// Takes a mixer's tokens, and the table of their places where it reads one.
  func read(_ tokens: View, places: View?) {
    inputs[0].copy(from: tokens)
    if let places, inputs.count > 1 { inputs[1].copy(from: places) }
  }
}
