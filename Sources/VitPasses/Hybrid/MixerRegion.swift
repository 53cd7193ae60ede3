internal import VitIR
internal import VitOps

/// What stands in a layer's place: a mixer, and where output tokens keep their attention what writes their rows behind
/// it.
struct MixerRegion {
  /// What an operation of it reads.
  enum Source: Hashable {
    /// The tokens of the layer.
    case tokens
    /// What the operation before gives.
    case before
    /// A parameter, by its place in `constants`.
    case constant(Int)
    /// The table of the places of tokens of which some were dropped.
    case places
    /// Nothing.
    case absent
  }

  /// One operation and what it reads.
  struct Step {
    let operation: any Operation
    let sources: [Source]
  }

  /// The parameters; two operations may read one.
  var constants: [(name: String, tensor: Tensor)]
  /// The operations, the mixer first.
  private(set) var steps: [Step]
  /// The mixer.
  let mixer: any Mixer
  /// Where it comes from.
  let location: Location
  /// Whether the mixer needs a token for each place, and gets zeros where some were dropped; the number of tokens before the patches.
  private(set) var spreading: Int?

  /// A mixer alone.
  init(_ mixer: any Mixer, _ constants: [(name: String, tensor: Tensor)], location: Location) {
    self.mixer = mixer
    self.constants = constants
    self.location = location
    steps = [Step(operation: mixer, sources: [.tokens] + constants.indices.map(Source.constant))]
  }

  /// A mixer alone, for tokens of which so many are left: as a sequence of those where it is one, with the table of their places where
  /// it takes that, else with a token for each place again. Throws where it can do none of it.
  init(
    _ mixer: any Mixer, _ constants: [(name: String, tensor: Tensor)], left patches: Int, prefix: Int,
    location: Location
  ) throws(VitError) {
    if let sequence = try mixer.merged(patches: patches) {
      self.init(sequence, constants, location: location)
      return
    }
    self.init(mixer, constants, location: location)
    if mixer.table == steps[0].sources.count {
      steps[0] = Step(operation: mixer, sources: steps[0].sources + [.places])
    } else {
      spreading = prefix
    }
  }

  /// The region of a graph's `nodes` on `tokens`; `nil` where they are no mixer with its tokens' rows behind it, or a
  /// parameter is no constant. What carries merged tokens through it does not belong to it.
  init?(_ nodes: [Node], tokens: ValueID, in graph: Graph) {
    spreading = nodes.lazy.compactMap { ($0.operation as? TokenUnmerge)?.prefix }.first
    let nodes = graph.withoutMerging(nodes)
    let (merged, found) = graph.mergedValues
    let table = graph.placeTable(of: tokens)
    guard let first = nodes.first, let mixer = first.operation as? any Mixer, nodes.count <= 2,
      nodes.dropFirst().allSatisfy({ $0.operation is PrefixAttention })
    else { return nil }
    self.mixer = mixer
    location = first.location
    constants = []
    steps = []
    var places: [ValueID: Int] = [:]
    var before: ValueID?
    for node in nodes {
      var sources: [Source] = []
      for operand in node.operands {
        switch operand.map({ $0 == tokens ? $0 : merged[$0] ?? $0 }) {
        case nil: sources.append(.absent)
        case let id? where id == table: sources.append(.places)
        case let id? where found.contains(id): sources.append(.absent)
        case tokens: sources.append(.tokens)
        case let id? where id == before: sources.append(.before)
        case let id?:
          guard let tensor = graph.tensor(id) else { return nil }
          let place = places[id] ?? constants.count
          if place == constants.count { constants.append((graph[id].name, tensor)) }
          places[id] = place
          sources.append(.constant(place))
        }
      }
      guard sources.first == .tokens, before == nil || sources.contains(.before) else { return nil }
      steps.append(Step(operation: node.operation, sources: sources))
      before = node.results.first
    }
  }

  /// The region with an operation behind it.
  func appending(_ operation: any Operation, _ sources: [Source], _ more: [(name: String, tensor: Tensor)])
    -> MixerRegion
  {
    var region = self
    region.constants += more
    region.steps.append(Step(operation: operation, sources: sources))
    return region
  }

  /// Whether it has to know the places of tokens of which some were dropped.
  var needsPlaces: Bool { spreading != nil || steps[0].sources.contains(.places) }

  /// The attention of the first tokens; `nil` where the mixer's own rows stand.
  var prefix: PrefixAttention? { steps.last?.operation as? PrefixAttention }

  /// The place in `constants` of an operand of the mixer.
  func constant(ofMixer operand: Int) -> Int? {
    if operand < steps[0].sources.count, case .constant(let place) = steps[0].sources[operand] {
      return place
    }
    return nil
  }

  /// The mixer's last linear map, by places in `constants`; `nil` where it has none.
  var readout: (weight: Int?, bias: Int)? {
    guard let readout = mixer.readout, let bias = constant(ofMixer: readout.bias) else { return nil }
    return (readout.weight.flatMap(constant), bias)
  }

  /// Whether the rows of the first tokens go through the mixer's last map, too.
  var sharesReadout: Bool {
    guard let prefix = steps.last, prefix.operation is PrefixAttention else { return true }
    guard let weight = readout?.weight else { return false }
    return prefix.sources.contains(.constant(weight))
  }

  /// How many of the first rows the last map has no part in.
  var unreadRows: Int { sharesReadout ? 0 : prefix?.prefix ?? 0 }

  /// Whether the mixer's last map reads the attention's values after mixing, channel for channel.
  var readsAttendedValues: Bool { mixer.values != nil || !mixer.frozen.isEmpty }

  /// The region as far as its last map, in whose place is an identity: what it gives is what that map reads. Rows that go
  /// past the map are of no use then. The parameters are followed by those of the identity. `nil` without such a map.
  func beforeReadout() throws -> MixerRegion? {
    guard let map = readout, let weight = map.weight else { return nil }
    let inputs = constants[weight].tensor.shape[1]
    var region = self
    if !sharesReadout { region.steps.removeLast() }
    let identity = try Tensor.identity(inputs)
    let places = [weight: constants.count, map.bias: constants.count + 1]
    region.constants.append(("identity.weight", identity))
    region.constants.append(("identity.bias", try Tensor(.f32, shape: [inputs]) { _ in }))
    region.steps = region.steps.map { step in
      let sources = step.sources.map { source -> Source in
        if case .constant(let place) = source, let other = places[place] { .constant(other) } else { source }
      }
      return Step(operation: step.operation, sources: sources)
    }
    return region
  }

  /// The tensors of the mixer's operands behind the tokens.
  var mixerTensors: [Tensor] {
    steps[0].sources.compactMap { if case .constant(let place) = $0 { constants[place].tensor } else { nil } }
  }

  /// Adds the operations to a graph; gives the result of each. `places` is the table of the tokens' places, where some were dropped.
  func build(
    into builder: inout GraphBuilder, tokens: ValueID, places: ValueID?, name: String
  ) throws(VitError) -> (results: [ValueID], constants: [ValueID]) {
    let ids = constants.map { builder.graph.addConstant($0.tensor, name: $0.name) }
    let isSpread = spreading != nil && places != nil
    let prefix = spreading ?? 0
    var results: [ValueID] = []
    for (number, step) in steps.enumerated() {
      var read = tokens
      if isSpread, number == 0 {
        read = try builder.add(
          TokenUnmerge(prefix: prefix, hasGaps: true), [tokens, places], names: ["\(name).all"],
          location: location)[0]
      }
      let operands = step.sources.map { source -> ValueID? in
        switch source {
        case .tokens: read
        case .before: results.last
        case .constant(let place): ids[place]
        case .places: places
        case .absent: nil
        }
      }
      results += try builder.add(step.operation, operands, names: [name], location: location)
      guard isSpread, number == 0, let left = builder.graph.type(tokens).shape[1].fixedValue else { continue }
      results += try builder.add(
        TokenMerge(tokens: left, prefix: prefix, hasGaps: true), [results[0], places],
        names: ["\(name).kept"], location: location)
    }
    return (results, ids)
  }
}
