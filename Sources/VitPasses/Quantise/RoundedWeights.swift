internal import VitIR
internal import VitOps
internal import VitRuntime

/// What the matrices of a graph become in fewer bits.
struct RoundedWeights {
  /// A matrix in fewer bits, and what the bias behind it becomes, that means of what the map gives stay.
  struct Change {
    let tensor: Tensor
    var bias: (id: ValueID, tensor: Tensor)?
  }

  private(set) var changes: [ValueID: Change] = [:]

  /// Each of `maps` rounded by itself; what has fewer bits already and what is not finite stays. Throws where a weight cannot be read.
  init(_ maps: InnerMaps, of graph: Graph, to element: ElementType) throws {
    for id in maps.ids where changes[id] == nil {
      guard let tensor = graph.tensor(id), !tensor.element.isNarrow, !tensor.element.isQuantised else {
        continue
      }
      let narrow =
        element.isQuantised
        ? try tensor.quantised(to: element)
        : try Tensor(shape: tensor.shape, floats: tensor.floats()).rounded(to: element)
      if let narrow { changes[id] = Change(tensor: narrow) }
    }
  }

  /// Rounds the matrices of linear maps and perceptrons once more, so that later columns make up for earlier ones on `images` samples
  /// of the data. Throws where those cannot be read, and without OpenBLAS.
  mutating func compensate(
    in hybrid: Hybrid, to element: ElementType, images: Int, _ context: PassContext
  ) throws {
    let sites = try RoundingSite.all(in: hybrid).filter { $0.maps.contains { changes[$0.weight] != nil } }
    guard !sites.isEmpty else { return }
    try Blas.require(on: context.pool)
    var done = 0
    for group in Prune.groups(sites.indices.map { ($0, sites[$0].inputs) }) {
      let moments = try Prune(images: images).moments(
        of: group.map { sites[$0].inputs }, for: Quantise.name, hybrid.graph, context
      ) { builder in
        var values: [ValueID] = []
        for place in group { values.append(try sites[place].tap(&builder)) }
        return values
      }
      for (place, moments) in zip(group, moments) {
        let site = sites[place]
        done += 1
        context.progress(Quantise.name, done, sites.count, "making up")
        for (weight, bias) in site.maps where changes[weight] != nil {
          let found = try change(weight, bias, moments, hybrid.graph, element, context.pool)
          changes[weight] = found ?? changes[weight]
        }
      }
    }
  }

  private func change(
    _ weight: ValueID, _ bias: ValueID?, _ moments: ChannelMoments, _ graph: Graph, _ element: ElementType,
    _ pool: any WorkPool
  ) throws -> Change? {
    let bias = bias.flatMap { id in graph.tensor(id).map { (id: id, tensor: $0) } }
    guard let tensor = graph.tensor(weight),
      let rounded = try CompensatedRounding(
        tensor.floats(), shape: tensor.shape, to: element,
        covariance: moments.covariance(centred: bias != nil),
        pool: pool)
    else { return nil }
    guard let bias else { return Change(tensor: rounded.tensor) }
    let (mean, inputs) = (moments.mean, tensor.shape[1])
    let values = try bias.tensor.doubles().enumerated().map { output, value in
      (0..<inputs).reduce(value) { $0 + rounded.errors[output * inputs + $1] * mean[$1] }
    }
    return Change(
      tensor: rounded.tensor,
      bias: (bias.id, Tensor(bias.tensor.element, shape: bias.tensor.shape, values: values)))
  }

  /// Puts them into `graph`, but for those of blocks in `kept`, by the places of their layers; where `only` is given, those of that block
  /// alone. How many with how many numbers there were.
  func put(
    into graph: inout Graph, _ maps: InnerMaps, beside kept: Set<Int>, only block: Int? = nil
  ) -> (changed: Int, count: Int) {
    var (changed, count) = (0, 0)
    for id in maps.ids {
      if let own = maps.blocks[id], kept.contains(own) { continue }
      if let block, maps.blocks[id] != block { continue }
      guard let change = changes[id] else { continue }
      graph.setTensor(change.tensor, of: id)
      if let bias = change.bias { graph.setTensor(bias.tensor, of: bias.id) }
      changed += 1
      count += change.tensor.count
    }
    return (changed, count)
  }
}
