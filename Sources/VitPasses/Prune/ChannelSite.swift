internal import VitIR
internal import VitOps

/// Channels between two linear maps that can go one by one: the hidden ones of a perceptron, plain or gated.
///
/// Every value between the maps is computed channel by channel, so leaving out a channel means leaving out one entry of each
/// constant before the last map, and one column of that map.
struct ChannelSite {
  /// The node that holds the last map.
  let node: Int
  /// The channels.
  let channels: Int
  /// The last map's weight, `[outputs, channels]`, and bias.
  let weight: ValueID
  let bias: ValueID?
  /// What the last map gives.
  let result: ValueID
  /// The constants before the last map, each with the axis that runs over the channels.
  let constants: [(value: ValueID, axis: Int)]
  /// What the last map reads; `nil` within one operation for both maps.
  fileprivate let hidden: ValueID?

  /// All sites of a graph, in the order of their last maps.
  static func all(in graph: Graph) -> [ChannelSite] {
    let finder = ChannelFinder(graph)
    return graph.nodes.indices.compactMap(finder.site)
  }

  /// The value that the last map reads; adds the nodes that compute it where there is none.
  func tap(_ builder: inout GraphBuilder) throws(VitError) -> ValueID {
    if let hidden { return hidden }
    let operands = builder.graph.nodes[node].operands
    guard let perceptron = builder.graph.nodes[node].operation as? VitMLP else {
      throw VitError("a perceptron is none", code: "invalid-graph")
    }
    return try perceptron.hidden(into: &builder, operands: operands)
  }
}

extension Hybrid {
  /// The perceptrons, each with that of the teacher and its number there: those of blocks that are gone have none. None where the
  /// two do not fit together.
  func perceptrons(beside teacher: Teacher) -> [(index: Int, own: ChannelSite, original: ChannelSite)] {
    let gone = Set(
      layers.filter(\.isRemoved).compactMap { teacher.layer($0.index) }.flatMap { layer in
        (try? ResidualBlock(layer, in: teacher.graph, teacher.layers))?.nodes ?? []
      })
    let originals = ChannelSite.all(in: teacher.graph).enumerated().filter { !gone.contains($0.element.node) }
    let own = ChannelSite.all(in: graph)
    guard own.count == originals.count else { return [] }
    return zip(own, originals).map { (index: $1.offset, own: $0, original: $1.element) }
  }
}

/// Looks for sites.
private struct ChannelFinder {
  private let graph: Graph
  private let producers: [Int?]
  private let consumers: [[Int]]
  private let outputs: Set<ValueID>

  init(_ graph: Graph) {
    self.graph = graph
    producers = graph.producers()
    consumers = graph.consumers()
    outputs = Set(graph.outputs.map(\.value))
  }

  /// The site whose last map is in a node; `nil` where there is none.
  func site(_ place: Int) -> ChannelSite? {
    let node = graph.nodes[place]
    guard node.results.count == 1, let result = node.results.first else { return nil }
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    if node.operation is VitMLP {
      guard let w1 = operand(1), let weight = own(operand(3), by: place), own(w1, by: place) != nil,
        isOwnOrAbsent(operand(2), place), isOwnOrAbsent(operand(4), place),
        let channels = graph.type(w1).shape[0].fixedValue
      else { return nil }
      let constants = [(value: w1, axis: 0)] + (operand(2).map { [(value: $0, axis: 0)] } ?? [])
      return ChannelSite(
        node: place, channels: channels, weight: weight, bias: operand(4), result: result,
        constants: constants, hidden: nil)
    }
    guard node.operation is VitLinear, let hidden = operand(0), let weight = own(operand(1), by: place),
      isOwnOrAbsent(operand(2), place), let channels = graph.type(weight).shape[1].fixedValue,
      let constants = constants(before: hidden, of: place, channels: channels)
    else { return nil }
    return ChannelSite(
      node: place, channels: channels, weight: weight, bias: operand(2), result: result,
      constants: constants, hidden: hidden)
  }

  /// A constant that this node alone reads.
  private func own(_ value: ValueID?, by place: Int) -> ValueID? {
    guard let value, graph[value].isConstant, graph.tensor(value) != nil, consumers[value.index] == [place],
      !outputs.contains(value)
    else { return nil }
    return value
  }

  private func isOwnOrAbsent(_ value: ValueID?, _ place: Int) -> Bool {
    value == nil || own(value, by: place) != nil
  }

  /// The constants that a value's channels come from; `nil` where they do not come from linear maps channel by channel, or
  /// something else reads them.
  private func constants(
    before hidden: ValueID, of place: Int, channels: Int
  ) -> [(value: ValueID, axis: Int)]? {
    var found: [(value: ValueID, axis: Int)] = []
    var inside: Set<Int> = []
    var hasMap = false
    var stack = [(value: hidden, axis: graph.type(hidden).rank - 1)]
    while let (value, axis) = stack.popLast() {
      guard let index = producers[value.index] else { return nil }
      guard inside.insert(index).inserted else { continue }
      let node = graph.nodes[index]
      let map = graph.axes(of: node)
      guard node.results.count == 1, inside.count < 64, let letter = map.letter(ofResult: 0, axis: axis),
        letter.kind == .parallel, graph.type(value).shape[axis].fixedValue == channels
      else { return nil }
      var isFed = false
      for (operand, id) in node.operands.enumerated() {
        guard let id, let own = letter.axis(ofOperand: operand) else { continue }
        // What is broadcast over the channels stays.
        guard let extent = graph.type(id).shape[own].fixedValue, extent == channels else {
          if graph.type(id).shape[own] == 1 { continue }
          return nil
        }
        isFed = true
        if graph[id].isConstant {
          guard self.own(id, by: index) != nil else { return nil }
          found.append((id, own))
        } else {
          stack.append((id, own))
        }
      }
      guard isFed else { return nil }
      hasMap = hasMap || node.operation is VitLinear
    }
    let values = inside.flatMap { graph.nodes[$0].results }
    // Two maps with nothing between them are one of low rank, and no perceptron.
    guard hasMap, inside.contains(where: { !(graph.nodes[$0].operation is VitLinear) }),
      values.allSatisfy({ value in
        !outputs.contains(value) && consumers[value.index].allSatisfy { inside.contains($0) || $0 == place }
      })
    else { return nil }
    return found.sorted { $0.value.index < $1.value.index }
  }
}
