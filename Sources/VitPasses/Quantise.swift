public import VitIR

/// Brings the matrices of linear maps into fewer bits, in which their products are then computed.
///
/// In 8 bits there is a scale for each row, and products are those of whole numbers: each token is brought into 8 bits, too, with a scale
/// of its own as it comes (dynamic quantisation per token), and what is added up is `f32` again. In bfloat16 tokens are rounded as
/// they come, where the processor is faster in it, and sums are `f32`; elsewhere products are those of the floats that it stands for.
/// Attention between such maps is computed in bfloat16 where the processor is faster in it.
///
/// The map that reads images and the one behind which no other stands, patch embedding and head, stay: they are a hundredth
/// of the work, and nothing behind the head makes up for what it loses. Maps of few rows, as those of a class token alone, are stored in 8 bits and computed in
/// `f32`.
public struct Quantise: Pass {
  /// `quantise`.
  public static let name = "quantise"
  /// See `Pass`.
  public static let summary =
    "Brings the weights of linear maps into 8 bits or bfloat16, in which their products are computed"
  /// See `Pass`.
  public static let example = "quantise{weights=int8}"

  /// What weights are brought into.
  public enum Weights: String, CaseIterable, Sendable {
    /// Whole numbers of 8 bits, a scale for each row.
    case int8
    /// bfloat16.
    case bf16

    /// What it is called.
    fileprivate var words: String { self == .int8 ? "8 bits" : "bfloat16" }
  }

  /// What weights are brought into.
  public var weights: Weights

  /// The pass.
  public init(weights: Weights = .int8) { self.weights = weights }

  /// Takes `weights` (int8; or bf16).
  public init(options: inout OptionReader) throws(VitError) {
    weights = try options.choice("weights", default: .int8)
  }

  /// It leaves weights as they are that have fewer bits already.
  public var worksOnNarrowWeights: Bool { true }
  /// All options.
  public var options: [(name: String, value: String)] {
    [("weights", weights.rawValue)]
  }

  /// Brings them into it. Throws where a weight cannot be read.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let (changed, count) = try narrow(&hybrid.graph)
    guard changed > 0 else {
      return PassResult(notes: [
        "nothing to bring into \(weights.words): no linear map stands between others, or they are not found yet ('raise' does)"
      ])
    }
    let left = hybrid.graph.parameterCount - count
    return PassResult(
      changes: changed,
      notes: [
        "\(changed) weights with \(count) numbers in \(weights.words), \(left) numbers as they were"
      ])
  }

  /// Does it; how many weights with how many numbers there were. Throws where a weight cannot be read.
  package func narrow(_ graph: inout Graph) throws -> (changed: Int, count: Int) {
    var (changed, count) = (0, 0)
    for id in InnerMaps(graph).ids {
      guard let tensor = graph.tensor(id), !tensor.element.isNarrow else { continue }
      let narrow =
        switch weights {
        case .int8: try tensor.quantised()
        case .bf16: try Tensor(shape: tensor.shape, floats: tensor.floats()).rounded(to: .bf16)
        }
      guard let narrow else { continue }
      graph.setTensor(narrow, of: id)
      changed += 1
      count += narrow.count
    }
    return (changed, count)
  }
}

/// The matrices of a graph that are read as weights alone, of maps with others before and behind them.
private struct InnerMaps {
  /// The constants, in the order of the values.
  private(set) var ids: [ValueID] = []

  init(_ graph: Graph) {
    let isEnd = InnerMaps.ends(graph)
    var (isInner, isOther) = (Set<ValueID>(), Set<ValueID>())
    for output in graph.outputs { isOther.insert(output.value) }
    for (node, isEnd) in zip(graph.nodes, isEnd) {
      for (place, id) in node.operands.enumerated() {
        guard let id, graph[id].isConstant else { continue }
        if !isEnd, InnerMaps.isMap(node, place, graph.type(id)) {
          isInner.insert(id)
        } else {
          isOther.insert(id)
        }
      }
    }
    ids = graph.values.indices.map(graph.valueID).filter { isInner.contains($0) && !isOther.contains($0) }
  }

  /// Whether an operand is a matrix whose rows give one entry of the result each, as they do in all of vitc's own operations, and
  /// with enough elements that a scale pays.
  private static func isMap(_ node: Node, _ place: Int, _ type: TensorType) -> Bool {
    node.name.hasPrefix("vit.") && node.operation.role(of: place) == .weight && type.element == .f32
      && type.rank == 2 && type.shape[1].fixedValue ?? 0 >= 4
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
