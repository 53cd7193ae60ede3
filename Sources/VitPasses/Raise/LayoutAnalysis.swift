internal import VitIR
internal import VitOps

/// The layouts of all values of a graph.
struct LayoutAnalysis {
  private(set) var layouts: [Layout]
  private let graph: Graph

  subscript(id: ValueID) -> Layout { layouts[id.index] }

  /// Walks the nodes once.
  init(_ graph: Graph) {
    self.graph = graph
    layouts = graph.values.indices.map { index in
      LayoutAnalysis.fresh(index, graph.values[index].type.shape, graph)
    }
    for node in graph.nodes {
      let map = graph.axes(of: node)
      for (place, id) in node.results.enumerated() {
        if let moved = scaled(node) ?? moved(node, map, place) {
          layouts[id.index] = moved
        } else {
          let own = layouts[id.index].axes
          layouts[id.index].axes = LayoutAnalysis.distinct(kept(node, map, place, own), own: own)
        }
      }
    }
  }

  /// Axes of which none counts along what another counts along: else they could trade places unseen, as queries and keys
  /// of the same tokens do when scores are transposed. The later of two such axes is its own origin.
  private static func distinct(_ axes: [[AxisFactor]], own: [[AxisFactor]]) -> [[AxisFactor]] {
    var result: [[AxisFactor]] = []
    for (place, axis) in axes.enumerated() {
      let isTaken = axis.contains { factor in result.joined().contains { $0.overlaps(factor) } }
      result.append(isTaken ? own[place] : axis)
    }
    return result
  }

  private static func fresh(_ index: Int, _ shape: Shape, _ graph: Graph) -> Layout {
    Layout(
      axes: shape.enumerated().map { [AxisFactor(origin: index, axis: $0.offset, size: $0.element)] }
        .map(Layout.normalised),
      source: graph.valueID(index), scale: 1)
  }

  private func isConstant(_ id: ValueID?) -> Bool { id.map { graph[$0].isConstant } ?? false }

  // MARK: Movement

  /// The layout of a result that has elements of one operand, in other places.
  private func moved(_ node: Node, _ map: AxisMap, _ result: Int) -> Layout? {
    let data = node.operands.indices.filter {
      node.operands[$0] != nil && node.operation.role(of: $0) == .data
    }
    let (id, type) = (node.results[result], graph.type(node.results[result]))
    guard node.operation is any MovementOperation || node.isAny(Onnx.cast), data.count == 1,
      let input = node.operands[data[0]], graph.type(input).element == type.element
    else { return nil }
    let from = layouts[input.index]
    let axes =
      map.regroups ? from.reshaped(to: type.shape) : moved(from, map, operand: data[0], to: id, result)
    return axes.map { Layout(axes: $0, source: from.source, scale: from.scale) }
  }

  /// The axes of a result of which a letter says for each where its entries come from.
  private func moved(
    _ from: Layout, _ map: AxisMap, operand: Int, to id: ValueID, _ result: Int
  ) -> [[AxisFactor]]? {
    var axes: [[AxisFactor]] = []
    for (axis, size) in graph.type(id).shape.enumerated() {
      let letters = map.letters.filter { $0.axis(ofResult: result) == axis }
      if let letter = letters.first(where: { $0.axis(ofOperand: operand) != nil }),
        let place = letter.axis(ofOperand: operand)
      {
        switch letter.kind {
        case .parallel: axes.append(from.axes[place])
        case .ranges:
          guard
            let cut = LayoutAnalysis.cut(from.axes[place], start: letter.resultStarts[result], size: size)
          else { return nil }
          axes.append(cut)
        case .aligned: return nil
        }
      } else if letters.contains(where: { $0.operands.allSatisfy { $0 == nil } }) {
        // The one entry that there is, again and again.
        var factor = AxisFactor(origin: from.source.index, axis: -1, size: size)
        factor.stride = 0
        axes.append(size == 1 ? [] : [factor])
      } else {
        return nil
      }
    }
    // An entry that was picked out of an axis that is gone: its place moves to the next axis, which `normalised` adds it to.
    for letter in map.letters where letter.kind == .ranges && letter.axis(ofResult: result) == nil {
      guard let place = letter.axis(ofOperand: operand), let start = letter.resultStarts[result].fixedValue,
        let picked = LayoutAnalysis.picked(from.axes[place], start)
      else { return nil }
      if place < axes.count {
        axes[place] = picked + axes[place]
      } else if let last = axes.indices.last {
        axes[last] += picked
      }
    }
    return axes
  }

  /// The layout of a value times a constant number.
  private func scaled(_ node: Node) -> Layout? {
    guard node.isAny(Onnx.mul, Onnx.div), let a = node.operands[0], let b = node.operands[1],
      let result = node.results.first
    else { return nil }
    func number(_ id: ValueID) -> Double? {
      guard let tensor = graph.tensor(id), tensor.count == 1 else { return nil }
      return try? tensor.doubles().first
    }
    let isDivision = node.isAny(Onnx.div)
    if let factor = number(b), graph.type(a) == graph.type(result), factor != 0, graph.type(a).element.isFloat
    {
      var layout = layouts[a.index]
      layout.scale = isDivision ? layout.scale / factor : layout.scale * factor
      return layout
    }
    if !isDivision, let factor = number(a), graph.type(b) == graph.type(result), graph.type(b).element.isFloat
    {
      var layout = layouts[b.index]
      layout.scale *= factor
      return layout
    }
    return nil
  }

  /// Entries `start ..< start + size` of an axis: of a single factor, or of whole steps of the outermost one.
  private static func cut(_ axis: [AxisFactor], start: Dimension, size: Dimension) -> [AxisFactor]? {
    if size == 1, let place = start.fixedValue { return picked(axis, place) }
    guard var first = axis.first else { return start == 0 && size == 1 ? [] : nil }
    let inner = axis.dropFirst().reduce(Dimension.fixed(1)) { $0 * $1.size }
    guard let from = start.exactlyDivided(by: inner) ?? (start == 0 ? 0 : nil),
      let count = size.exactlyDivided(by: inner)
    else { return nil }
    first.offset = first.offset + first.stride * from
    first.size = count
    return [first] + axis.dropFirst()
  }

  /// Entry `place` of an axis, as factors of size one that remember where they are.
  private static func picked(_ axis: [AxisFactor], _ place: Int) -> [AxisFactor]? {
    var rest = place
    var result: [AxisFactor] = []
    for factor in axis.reversed() {
      guard let size = factor.size.fixedValue, size > 0 else { return nil }
      var one = factor
      one.size = 1
      one.offset = factor.offset + factor.stride * .fixed(rest % size)
      rest /= size
      result.insert(one, at: 0)
    }
    return result
  }

  // MARK: Kept axes

  /// The axes of the result of an operation that computes, as far as positions are kept: along each axis those of the first
  /// operand that is no constant and has some.
  private func kept(_ node: Node, _ map: AxisMap, _ result: Int, _ own: [[AxisFactor]]) -> [[AxisFactor]] {
    own.indices.map { axis in
      for letter in map.letters where letter.axis(ofResult: result) == axis {
        if letter.kind == .ranges { return joined(node, letter) ?? own[axis] }
        for index in order(node, map) {
          guard let id = node.operands[index], !isConstant(id), let place = letter.axis(ofOperand: index),
            !layouts[id.index].axes[place].isEmpty
          else { continue }
          return layouts[id.index].axes[place]
        }
      }
      return own[axis]
    }
  }

  /// The operands, those of joined ones first that have positions: an expanded token has the extents only.
  private func order(_ node: Node, _ map: AxisMap) -> [Int] {
    guard map.letters.contains(where: { $0.kind == .ranges }) else { return Array(node.operands.indices) }
    func isExpanded(_ id: ValueID?) -> Bool {
      id.map { layouts[$0.index].axes.joined().contains { $0.axis < 0 } } ?? false
    }
    return node.operands.indices.filter { !isExpanded(node.operands[$0]) }
      + node.operands.indices.filter { isExpanded(node.operands[$0]) }
  }

  /// Positions along the joined axis are kept where its pieces follow each other along one origin.
  private func joined(_ node: Node, _ letter: AxisMap.Letter) -> [AxisFactor]? {
    guard letter.operands.count(where: { $0 != nil }) > 1 else { return nil }
    var joined: AxisFactor?
    for (index, place) in letter.operands.enumerated() {
      guard let place, let id = node.operands[index] else { continue }
      let axis = layouts[id.index].axes[place]
      guard var factor = axis.first, axis.count == 1 else { return nil }
      factor.size = graph.type(id).shape[place]
      guard let last = joined else {
        joined = factor
        continue
      }
      guard last.origin == factor.origin, last.axis == factor.axis, last.stride == factor.stride,
        last.offset + last.size * last.stride == factor.offset
      else { return nil }
      joined?.size = last.size + factor.size
    }
    return joined.map { [$0] }
  }
}
