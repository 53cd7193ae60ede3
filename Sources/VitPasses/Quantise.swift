public import VitIR
internal import VitRuntime

/// Brings the weights of linear maps into 8 bits, a scale for each row, so that their products are computed in whole numbers:
/// each token is brought into 8 bits, too, with a scale of its own as it comes (dynamic quantisation per token), and what is
/// added up is `f32` again.
///
/// The map that reads images and the one behind which no other stands, patch embedding and head, stay: they are a hundredth
/// of the work and most of the damage. So do maps that no kernel takes in that form.
public struct Quantise: Pass {
  /// `quantise`.
  public static let name = "quantise"
  /// See `Pass`.
  public static let summary =
    "Brings the weights of linear maps into 8 bits, in which their products are computed"
  /// See `Pass`.
  public static let example = "quantise{weights=int8}"

  /// What weights are brought into.
  public enum Weights: String, CaseIterable, Sendable {
    /// Whole numbers of 8 bits, a scale for each row.
    case int8
  }

  /// What weights are brought into.
  public var weights: Weights

  /// The pass.
  public init(weights: Weights = .int8) { self.weights = weights }

  /// Takes `weights` (int8).
  public init(options: inout OptionReader) throws(VitError) {
    weights = try options.choice("weights", default: .int8)
  }

  /// It leaves weights as they are that have 8 bits already.
  public var worksOnQuantisedWeights: Bool { true }
  /// All options.
  public var options: [(name: String, value: String)] {
    [("weights", weights.rawValue)]
  }

  /// Brings them into it. Throws where a weight cannot be read.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    var graph = hybrid.graph
    let maps = try InnerMaps(graph, pool: context.pool)
    var (changed, count) = (0, 0)
    for id in maps.ids {
      guard let tensor = graph.tensor(id), tensor.element != .q8 else { continue }
      guard let rows = try tensor.quantised() else { continue }
      graph.setTensor(rows, of: id)
      changed += 1
      count += rows.count
    }
    hybrid.graph = graph
    guard changed > 0 else {
      return PassResult(notes: [
        "nothing to bring into 8 bits: no linear map stands between others, or they are not found yet ('raise' does)"
      ])
    }
    let left = graph.parameterCount - count
    return PassResult(
      changes: changed,
      notes: ["\(changed) weights with \(count) numbers in 8 bits, \(left) numbers as they were"])
  }
}

/// The constants of a graph that are rows of linear maps, and nothing else, whose products kernels can compute in 8 bits: of
/// maps with others before and behind them.
struct InnerMaps {
  /// The constants, in the order of the values.
  private(set) var ids: [ValueID] = []

  /// Looks for them with the shapes of one sample. Throws where the model takes none.
  init(_ graph: Graph, pool: any WorkPool) throws {
    let shapes = try ModelShapes(graph).shapes(batch: 1)
    let inputs = zip(graph.inputs, shapes).map { TensorType(graph.type($0).element, fixed: $1) }
    let types = try GraphBuilder.infer(
      graph, inputTypes: inputs, fold: ConstantFolder(pool: pool).fold
    ).types
    var (isLinear, isOther) = (Set<ValueID>(), Set<ValueID>())
    var rows: [[ValueID]] = []
    for node in graph.nodes {
      let linear = InnerMaps.rows(of: node, graph, types)
      rows.append(linear)
      isLinear.formUnion(linear)
      for case let id? in node.operands where graph[id].isConstant && !linear.contains(id) {
        isOther.insert(id)
      }
    }
    for output in graph.outputs { isOther.insert(output.value) }
    let isEnd = InnerMaps.ends(graph)
    var atEnd = Set<ValueID>()
    for (place, ids) in rows.enumerated() where isEnd[place] { atEnd.formUnion(ids) }
    for index in graph.values.indices {
      let id = graph.valueID(index)
      guard isLinear.contains(id), !isOther.contains(id) else { continue }
      if !atEnd.contains(id) { ids.append(id) }
    }
  }

  /// The constants that a node reads as rows of a linear map alone.
  private static func rows(of node: Node, _ graph: Graph, _ types: [TensorType]) -> [ValueID] {
    let operands = Operands(node.operands.map { $0.map { types[$0.index] } }, resultCount: node.results.count)
    guard operands.types.allSatisfy({ $0?.fixedShape != nil || $0 == nil }) else { return [] }
    let stored = node.operands.map { id -> ElementType? in
      id.flatMap { graph[$0].isConstant ? types[$0.index].element : nil }
    }
    let packings = node.operation.packings(operands, stored: stored)
    let others = Set(packings.filter { !$0.isLinear }.flatMap(\.operands))
    return packings.filter(\.isLinear).flatMap(\.operands).filter { !others.contains($0) }
      .compactMap { node.operands[$0] }
  }

  /// For each node whether it is a map that none with weights stands before, or none behind.
  private static func ends(_ graph: Graph) -> [Bool] {
    var isBehind = [Bool](repeating: false, count: graph.values.count)
    var isFirst = [Bool](repeating: false, count: graph.nodes.count)
    func hasWeight(_ node: Node) -> Bool {
      node.operands.enumerated().contains { place, id in
        id.map { graph[$0].isConstant && node.operation.role(of: place) == .weight } ?? false
      }
    }
    for (place, node) in graph.nodes.enumerated() {
      let isAfter = node.operands.contains { $0.map { isBehind[$0.index] } ?? false }
      isFirst[place] = !isAfter && hasWeight(node)
      for id in node.results { isBehind[id.index] = isAfter || isFirst[place] }
    }
    var isBefore = [Bool](repeating: false, count: graph.values.count)
    var isLast = [Bool](repeating: false, count: graph.nodes.count)
    for (place, node) in graph.nodes.enumerated().reversed() {
      let isFollowed = node.results.contains { isBefore[$0.index] }
      isLast[place] = !isFollowed && hasWeight(node)
      guard isFollowed || isLast[place] else { continue }
      for case let id? in node.operands { isBefore[id.index] = true }
    }
    return zip(isFirst, isLast).map { $0 || $1 }
  }
}
