internal import VitIR
internal import VitOps
internal import VitRuntime

/// Builds a graph anew in which quantised numbers are the floats that they stand for.
///
/// The old nodes stay beside the new ones: those that nobody reads in the end are dropped, those that read what has no float
/// form go on as they are.
struct Dequantiser {
  private var builder: GraphBuilder
  private let nodes: [Node]
  private let folder: ConstantFolder
  /// Results of operations that quantise by the range of their operand and must stay: something reads them as they are.
  private let kept: Set<ValueID>
  private var replaced: [ValueID: ValueID] = [:]
  private var meanings: [ValueID: Meaning] = [:]
  /// Values that follow from constants alone.
  private var derived: Set<ValueID> = []
  private var weights: Set<ValueID> = []
  private var activations = 0
  /// The weights that were unpacked, by what they were made of: shared ones stay shared.
  private var unpacked: [[ValueID?]: ValueID] = [:]
  /// What saturates at zero already.
  private var rectified: Set<ValueID> = []
  /// Products of floats in the place of those of whole numbers.
  private(set) var products: Set<ValueID> = []
  /// How many values were replaced.
  private(set) var changes = 0

  /// What quantised numbers stand for: `float / scale + zero`; without them the float itself.
  private struct Meaning {
    let float: ValueID
    let scale: ValueID?
    let zero: ValueID?
  }

  init(_ graph: Graph, registry: Registry, pool: any WorkPool, keeping kept: Set<ValueID>) {
    builder = GraphBuilder(graph, registry: registry)
    nodes = graph.nodes
    folder = ConstantFolder(pool: pool)
    self.kept = kept
  }

  /// The graph that was built.
  var graph: Graph { builder.graph }

  /// What quantises by its own range and is still read as it was.
  var remaining: Set<ValueID> {
    Set(
      builder.graph.nodes.compactMap { node in
        guard let result = node.results.first, replaced.isEmpty == false, !kept.contains(result),
          let operation = node.operation as? any QuantisedOperation,
          case .ownRange = operation.quantisedResult(node.operands)
        else { return nil }
        return result
      })
  }

  /// How many of what became floats.
  var text: String {
    let parts = [(weights.count, "weight"), (activations, "activation")].filter { $0.0 > 0 }
      .map { "\($0.0) quantised \($0.1)\($0.0 == 1 ? "" : "s")" }
    let rounding = activations > 0 ? ", without the rounding of activations" : ""
    return parts.joined(separator: " and ") + " taken as floats" + rounding
  }

  mutating func run() throws(VitError) {
    builder.graph.nodes = []
    for var node in nodes {
      node.operands = node.operands.map { id in id.map { replaced[$0] ?? $0 } }
      _ = try builder.visit(node, fold: folder.fold)
      builder.graph.nodes.append(node)
      builder.location = node.location
      if node.operands.contains(where: { $0 != nil }),
        node.operands.allSatisfy({ $0.map(isConstant) ?? true })
      {
        derived.formUnion(node.results)
        // A quantised constant is what it is rounded to; folding computes it.
        if let operation = node.operation as? any QuantisedOperation { count(operation, node) }
        continue
      }
      guard
        node.operation is any QuantisedOperation
          || node.operands.contains(where: { $0.map { meanings[$0] != nil } ?? false })
      else { continue }
      let before = (builder, meanings, replaced, weights, activations, changes, products, rectified)
      do throws(VitError) {
        if let operation = node.operation as? any QuantisedOperation {
          try convert(node, operation)
        } else {
          try follow(node)
        }
      } catch {
        (builder, meanings, replaced, weights, activations, changes, products, rectified) = before
      }
    }
    for index in builder.graph.outputs.indices {
      let id = builder.graph.outputs[index].value
      builder.graph.outputs[index].value = replaced[id] ?? id
    }
    builder.graph.removeDeadNodes()
  }

  private func isConstant(_ id: ValueID) -> Bool { builder.graph[id].isConstant || derived.contains(id) }

  /// Notes the weights that a node gives the numbers of.
  private mutating func count(_ operation: any QuantisedOperation, _ node: Node) {
    for operand in operation.quantisedOperands(node.operands) {
      if let id = node.operands[operand.value], builder.graph[id].isConstant { weights.insert(id) }
    }
  }

  // MARK: Operations on quantised numbers

  private mutating func convert(_ node: Node, _ operation: any QuantisedOperation) throws(VitError) {
    guard let result = node.results.first, !kept.contains(result) else { return }
    var operands = node.operands
    let quantised = operation.quantisedOperands(operands)
    for operand in quantised {
      guard let id = operands[operand.value] else { continue }
      func at(_ index: Int?) -> ValueID? { index.flatMap { $0 < operands.count ? operands[$0] : nil } }
      operands[operand.value] = try float(id, scale: at(operand.scale), zero: at(operand.zero), operand)
    }
    let start = builder.graph.nodes.count
    let float = try operation.addFloatForm(operands, &builder)
    if quantised.isEmpty, operands.count > 1, let packed = operands[1], operation.role(of: 1) == .weight {
      weights.insert(packed)
      share(Array(operands.dropFirst()), from: start)
    }
    switch operation.quantisedResult(node.operands) {
    case .float:
      try replace(result, with: float)
      products.insert(float)
    case .whole:
      meanings[result] = Meaning(float: float, scale: nil, zero: nil)
      products.insert(float)
    case .steps(let scale, let zero):
      let zero = zero < node.operands.count ? node.operands[zero] : nil
      meanings[result] = Meaning(
        float: try saturated(float, scale: node.operands[scale], zero: zero, of: result),
        scale: node.operands[scale], zero: zero)
      activations += 1
    case .ownRange:
      meanings[result] = Meaning(float: float, scale: nil, zero: nil)
      activations += 1
      for (place, number) in [(1, 1.0), (2, 0.0)] where place < node.results.count {
        let type = builder.graph.type(node.results[place])
        replaced[node.results[place]] = builder.constant([number], shape: [], element: type.element)
      }
    }
  }

  /// Lets a product that was added behind node `start` read the weight that was unpacked before of the same constants.
  private mutating func share(_ constants: [ValueID?], from start: Int) {
    for place in start..<builder.graph.nodes.count where builder.graph.nodes[place].isAny(Onnx.matMul) {
      if let known = unpacked[constants] {
        builder.graph.nodes[place].operands[1] = known
      } else {
        unpacked[constants] = builder.graph.nodes[place].operands[1]
      }
    }
  }

  private mutating func replace(_ old: ValueID, with new: ValueID) throws(VitError) {
    guard builder.graph.type(old) == builder.graph.type(new) else {
      throw VitError("\(builder.graph.type(new)) cannot take the place of \(builder.graph.type(old))")
    }
    guard old != new else { return }
    replaced[old] = new
    changes += 1
  }

  /// The floats that numbers stand for which are read with a scale and a zero point.
  private mutating func float(
    _ id: ValueID, scale: ValueID?, zero: ValueID?, _ operand: QuantisedOperand
  ) throws(VitError) -> ValueID {
    if let meaning = meanings[id] {
      guard isSame(meaning.zero, zero, default: 0) else { throw VitError("another zero point") }
      guard let scale else {
        return try meaning.scale.map { scale throws(VitError) in
          try builder.add(Onnx.div, [meaning.float, scale])
        } ?? meaning.float
      }
      guard isSame(meaning.scale, scale, default: 1) else { throw VitError("another scale") }
      return meaning.float
    }
    if builder.graph[id].isConstant { weights.insert(id) }
    return try dequantised(id, scale: scale, zero: zero, operand)
  }

  /// A node that gives the floats of numbers that are constant or come in as they are.
  private mutating func dequantised(
    _ id: ValueID, scale: ValueID?, zero: ValueID?, _ operand: QuantisedOperand
  ) throws(VitError) -> ValueID {
    var (scale, zero) = (scale ?? builder.constant([1], shape: []), zero)
    let counts = [scale, zero].map { $0.flatMap { builder.graph.type($0).elements.fixedValue } ?? 1 }
    if operand.block == 0, let count = counts.max(), count > 1 {
      // One for each entry of the axis: vectors of one length.
      scale = try spread(scale, to: count)
      zero = try zero.map { id throws(VitError) in try spread(id, to: count) }
    }
    let attributes: [(String, Attribute)] =
      [("axis", .int(operand.axis))] + (operand.block == 0 ? [] : [("block_size", .int(operand.block))])
    let operation = try builder.registry.make(Onnx.dequantizeLinear.name, Attributes(attributes))
    return try builder.add(operation, [id, scale, zero], names: [builder.graph[id].name])[0]
  }

  /// A constant as a vector of `count` numbers, one for all repeated.
  private mutating func spread(_ id: ValueID, to count: Int) throws(VitError) -> ValueID {
    guard builder.graph.type(id).shape != [.fixed(count)] else { return id }
    guard let tensor = builder.graph.tensor(id), tensor.count == 1 || tensor.count == count else {
      throw VitError("expected \(count) numbers that are constant")
    }
    let numbers = try rethrowing { try tensor.doubles() }
    return builder.constant(
      tensor.count == 1 ? Array(repeating: numbers[0], count: count) : numbers, shape: [count],
      element: tensor.element, name: builder.graph[id].name)
  }

  /// Whether two scales, or zero points, are the same; one that is absent is `default`.
  private func isSame(_ a: ValueID?, _ b: ValueID?, default absent: Double) -> Bool {
    if a == b { return true }
    func numbers(_ id: ValueID?) -> [Double]? {
      guard let id else { return [absent] }
      return try? builder.graph.tensor(id)?.doubles()
    }
    guard let x = numbers(a), let y = numbers(b) else { return false }
    return x == y
  }

  /// A float as far as the range of its numbers matters: one whose end is zero cuts off what lies beyond, as a rectifier
  /// does, which quantisers leave out before it.
  private mutating func saturated(
    _ x: ValueID, scale: ValueID?, zero: ValueID?, of result: ValueID, limits: (Double?, Double?) = (nil, nil)
  ) throws(VitError) -> ValueID {
    let tensor = zero.flatMap { builder.graph.tensor($0) }
    let element = tensor?.element ?? builder.graph.type(result).element
    guard zero == nil || tensor?.count == 1, let range = element.quantisedRange,
      let step = scale.flatMap({ builder.graph.tensor($0) }), step.count == 1
    else { return x }
    let (unit, offset) = try rethrowing { (try step.doubles()[0], try tensor?.doubles()[0] ?? 0) }
    let ends = [limits.0 ?? Double(range.lowerBound), limits.1 ?? Double(range.upperBound)].map {
      $0 - offset
    }
    guard ends.contains(0), !(ends[0] == 0 && isPositive(x)) else { return x }
    let bounds = ends.map { builder.constant([$0 * unit], shape: []) }
    let clipped = try builder.add(Onnx.clip, [x, bounds[0], bounds[1]])
    if ends[0] == 0 { rectified.insert(clipped) }
    return clipped
  }

  /// Whether a value is known to have no negative elements.
  private func isPositive(_ id: ValueID) -> Bool {
    if rectified.contains(id) { return true }
    guard let node = builder.graph.nodes.last(where: { $0.results.contains(id) }) else { return false }
    if node.isAny(Onnx.softmax, Onnx.sigmoid, Onnx.relu, Onnx.exp, Onnx.sqrt) { return true }
    // 1 + erf(x), as it stands in a GELU.
    if node.isAny(Onnx.add), let a = node.operands[0], let b = node.operands[1] {
      return [(a, b), (b, a)].contains { part, constant in
        guard let tensor = builder.graph.tensor(constant), tensor.count == 1,
          let least = try? tensor.doubles()
        else { return false }
        return least[0] >= 1
          && builder.graph.nodes.contains { $0.results.contains(part) && $0.isAny(Onnx.erf, Onnx.tanh) }
      }
    }
    guard node.operation is any MovementOperation || node.isAny(Onnx.maxPool), let data = node.operands[0],
      !node.isAny(Onnx.pad)
    else { return false }
    return isPositive(data)
  }

  // MARK: Operations that numbers go through

  /// An operation that moves or casts quantised numbers does so with the floats.
  private mutating func follow(_ node: Node) throws(VitError) {
    let data = node.operands.indices.filter {
      node.operands[$0] != nil && node.operation.role(of: $0) == .data
    }
    let sources = data.compactMap { node.operands[$0].flatMap { meanings[$0] } }
    guard let first = sources.first, sources.count == data.count, let result = node.results.first else {
      return
    }
    if node.isAny(Onnx.cast) {
      guard first.scale == nil, first.zero == nil else { return }
      return try replace(result, with: first.float)
    }
    if node.isAny(Onnx.clip) {
      // A narrower range than the type's.
      func limit(_ place: Int, _ name: String) -> Double? {
        if case .float(let value)? = node.operation.attributes[name] { return value }
        guard place < node.operands.count, let id = node.operands[place] else { return nil }
        return (try? builder.graph.tensor(id)?.doubles())?.first
      }
      guard node.operands.dropFirst().allSatisfy({ $0.map { builder.graph[$0].isConstant } ?? true }) else {
        return
      }
      let float = try saturated(
        first.float, scale: first.scale, zero: first.zero, of: result,
        limits: (limit(1, "min"), limit(2, "max")))
      meanings[result] = Meaning(float: float, scale: first.scale, zero: first.zero)
      return
    }
    let isSingle = [first.scale, first.zero].allSatisfy {
      $0.map { builder.graph.type($0).elements == 1 } ?? true
    }
    guard node.operation is any MovementOperation || node.isAny(Onnx.maxPool), !node.isAny(Onnx.pad),
      isSingle,
      sources.allSatisfy({
        isSame($0.scale, first.scale, default: 1) && isSame($0.zero, first.zero, default: 0)
      })
    else { return }
    var operands = node.operands
    for (place, source) in zip(data, sources) { operands[place] = source.float }
    let moved = try builder.add(node.operation, operands, resultCount: node.results.count)
    for (old, new) in zip(node.results, moved) {
      meanings[old] = Meaning(float: new, scale: first.scale, zero: first.zero)
    }
  }
}
