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
  /// The numbers of the layers in whose blocks weights stay as they are.
  public var keep: [Int]
  /// The damage on held-out samples that it may do; `nil` for whatever it does.
  public var limit: Double?
  /// The held-out samples on which that is measured.
  public var images: Int

  /// The pass.
  public init(
    weights: Weights = .int8, keep: [Int] = [], limit: Double? = nil, images: Int = Quantise.usualImages
  ) {
    (self.weights, self.keep, self.limit, self.images) = (weights, keep, limit, images)
  }

  /// The samples that tell layers apart.
  public static let usualImages = 128

  /// Takes `weights` (int8; or bf16); `keep`, the numbers of layers in whose blocks weights stay; and `limit`, the most damage on `images`
  /// (128) held-out samples that it may do: weights stay in the blocks of the layers that are most sensitive, as many as that takes.
  public init(options: inout OptionReader) throws(VitError) {
    self.init(weights: try options.choice("weights", default: .int8))
    keep = try options.integers("keep") ?? []
    limit = try options.optional("limit")
    images = try options.value("images", default: images)
  }

  /// Throws where a number is out of range.
  public func check() throws(VitError) {
    guard limit ?? 0 >= 0, (limit ?? 0).isFinite, images > 0, keep.allSatisfy({ $0 >= 0 }) else {
      throw VitError(
        "quantise: expected limit >= 0, images > 0 and numbers of layers in keep", kind: .usage,
        code: "option-value")
    }
  }

  /// It leaves weights as they are that have fewer bits already.
  public var worksOnNarrowWeights: Bool { true }
  /// All options.
  public var options: [(name: String, value: String)] {
    [("weights", weights.rawValue)] + (keep.isEmpty ? [] : [("keep", "\(keep)".filter { $0 != " " })])
      + (limit.map { [("limit", "\($0)"), ("images", "\(images)")] } ?? [])
  }

  /// Brings them into it. Throws where a weight cannot be read, for a layer that there is not, and where damage is to be measured without
  /// samples.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    for index in keep where !hybrid.layers.contains(where: { $0.index == index }) {
      let known = hybrid.layers.map { "\($0.index)" }.joined(separator: ", ")
      throw VitError(
        "quantise: there is no layer \(index) to keep (expected \(known.isEmpty ? "none" : "some of \(known)"))",
        kind: .usage, code: "option-value")
    }
    let maps = InnerMaps(hybrid.graph, layers: hybrid.layers)
    var result = PassResult()
    var kept = Set(keep)
    if let limit, !maps.ids.isEmpty {
      let found = try Sensitivity(self, maps, hybrid, limit: limit, context)
      kept = Set(found.kept)
      for (place, damage) in found.damages {
        hybrid.layers[place].scores["narrow_damage"] = .float(damage)
      }
      result.notes = found.notes
      result.damage = (0, found.damage)
      result.found = [Quantise(weights: weights, keep: found.kept)]
    }
    let places = hybrid.layers.indices.filter { kept.contains(hybrid.layers[$0].index) }
    let (changed, count) = try narrow(&hybrid.graph, maps, beside: Set(places))
    guard changed > 0 else {
      result.notes.append(
        kept.isEmpty
          ? "nothing to bring into \(weights.words): no linear map stands between others, or they are not found yet ('raise' does)"
          : "nothing is brought into \(weights.words) beside the layers that are kept")
      return result
    }
    let left = hybrid.graph.parameterCount - count
    result.changes = changed
    result.notes.append(
      "\(changed) weights with \(count) numbers in \(weights.words), \(left) numbers as they were")
    return result
  }

  /// Does it to a graph without layers; how many weights with how many numbers there were. Throws where a weight cannot be read.
  package func narrow(_ graph: inout Graph) throws -> (changed: Int, count: Int) {
    try narrow(&graph, InnerMaps(graph), beside: [])
  }

  /// Does it to the maps of the blocks that are not in `kept`, by the places of their layers; where `only` is given, to those of that
  /// block alone.
  func narrow(
    _ graph: inout Graph, _ maps: InnerMaps, beside kept: Set<Int>, only block: Int? = nil
  ) throws -> (changed: Int, count: Int) {
    var (changed, count) = (0, 0)
    for id in maps.ids {
      if let own = maps.blocks[id], kept.contains(own) { continue }
      if let block, maps.blocks[id] != block { continue }
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
