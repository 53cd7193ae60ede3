internal import VitIR
internal import VitOps

/// Looks for the channels of perceptrons.
struct ChannelFinder {
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
      let constants = ([w1] + [operand(2)].compactMap(\.self)).map {
        ChannelSite.Constant(value: $0, axis: 0, runs: 1)
      }
      return ChannelSite(
        node: place, channels: channels, weight: weight, bias: operand(4), result: result,
        constants: constants, cuts: [], hidden: nil)
    }
    guard node.operation is VitLinear, let hidden = operand(0), let weight = own(operand(1), by: place),
      isOwnOrAbsent(operand(2), place), let channels = graph.type(weight).shape[1].fixedValue,
      channels > 0, let (constants, cuts) = try? origin(of: hidden, at: place, channels: channels)
    else { return nil }
    return ChannelSite(
      node: place, channels: channels, weight: weight, bias: operand(2), result: result,
      constants: constants, cuts: cuts, hidden: hidden)
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

  /// One run of the channels along an axis of a value: from which entry on.
  private struct Run: Hashable {
    let value: ValueID
    let axis: Int
    let start: Int
  }

  /// The constants that a value's channels come from, and the cuts on the way; `nil` where they do not come from linear maps
  /// channel by channel, or something else reads them.
  private func origin(
    of hidden: ValueID, at place: Int, channels: Int
  ) throws(VitError) -> (constants: [ChannelSite.Constant], cuts: [ChannelSite.Cut])? {
    var runs: Set<Run> = []
    var inside: Set<Int> = []
    var cuts: [Int: ChannelSite.Cut] = [:]
    var stack = [Run(value: hidden, axis: graph.type(hidden).rank - 1, start: 0)]
    while let run = stack.popLast() {
      guard runs.insert(run).inserted, !graph[run.value].isConstant else { continue }
      guard let index = producers[run.value.index], runs.count < 128 else { return nil }
      inside.insert(index)
      let node = graph.nodes[index]
      let result = node.results.firstIndex(of: run.value) ?? 0
      guard let letter = graph.axes(of: node).letter(ofResult: result, axis: run.axis),
        let extent = graph.type(run.value).shape[run.axis].fixedValue,
        letter.kind == .parallel && node.results.count == 1
          || letter.kind == .ranges && extent == channels
      else { return nil }
      if letter.kind == .ranges {
        guard let cut = try cut(index, letter, channels: channels), let axis = letter.axis(ofOperand: 0),
          let operand = node.operands[0]
        else { return nil }
        cuts[index] = cut
        stack.append(Run(value: operand, axis: axis, start: cut.runs[result] * channels))
        continue
      }
      var isFed = false
      for (operand, id) in node.operands.enumerated() {
        guard let id, let own = letter.axis(ofOperand: operand) else { continue }
        // What is broadcast over the channels stays.
        guard graph.type(id).shape[own].fixedValue == extent else {
          if graph.type(id).shape[own] == 1 { continue }
          return nil
        }
        isFed = true
        if graph[id].isConstant, self.own(id, by: index) == nil { return nil }
        stack.append(Run(value: id, axis: own, start: run.start))
      }
      guard isFed else { return nil }
    }
    guard isPerceptron(inside, before: place), let wholes = wholes(runs, channels) else { return nil }
    return (wholes.filter { graph[$0.value].isConstant }, cuts.keys.sorted().compactMap { cuts[$0] })
  }

  /// What a node cuts, where each of its results is a run of the channels, and it can cut shorter ones.
  private func cut(
    _ index: Int, _ letter: AxisMap.Letter, channels: Int
  ) throws(VitError) -> ChannelSite.Cut? {
    let node = graph.nodes[index]
    guard let operation = node.operation as? any CuttingOperation, let axis = letter.axis(ofOperand: 0),
      letter.operandStarts.first == 0
    else { return nil }
    let starts = letter.resultStarts.compactMap(\.fixedValue)
    guard starts.count == node.results.count, starts.allSatisfy({ $0 % channels == 0 }) else { return nil }
    let cut = ChannelSite.Cut(node: index, axis: axis, runs: starts.map { $0 / channels })
    let known = try operation.cutting(cut.ranges(channels), along: axis, of: graph.operands(of: node))
    return known == nil ? nil : cut
  }

  /// The values that hold the runs, in their order; `nil` where one holds something else, too.
  private func wholes(_ runs: Set<Run>, _ channels: Int) -> [ChannelSite.Constant]? {
    var result: [ChannelSite.Constant] = []
    for (value, runs) in Dictionary(grouping: runs, by: \.value) {
      guard let axis = runs.first?.axis, runs.allSatisfy({ $0.axis == axis }),
        graph.type(value).shape[axis].fixedValue == runs.count * channels
      else { return nil }
      result.append(ChannelSite.Constant(value: value, axis: axis, runs: runs.count))
    }
    return result.sorted { $0.value.index < $1.value.index }
  }

  /// Whether nodes are a perceptron's before the map at `place`: nothing else reads what they give.
  private func isPerceptron(_ inside: Set<Int>, before place: Int) -> Bool {
    let maps = inside.compactMap { graph.nodes[$0].operation as? VitLinear }
    // Two maps with nothing between them are one of low rank, and no perceptron.
    guard !maps.isEmpty, maps.count < inside.count || maps.contains(where: { $0.activation != .none })
    else { return false }
    return inside.flatMap { graph.nodes[$0].results }.allSatisfy { value in
      !outputs.contains(value) && consumers[value.index].allSatisfy { inside.contains($0) || $0 == place }
    }
  }
}
