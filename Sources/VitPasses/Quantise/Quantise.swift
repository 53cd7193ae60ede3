public import VitIR

/// Brings the matrices of linear maps into fewer bits, in which their products are then computed, or in which they are only stored.
///
/// In 8 bits there is a scale for each row, and products are those of whole numbers: each token is brought into 8 bits, too, with a scale
/// of its own as it comes (dynamic quantisation per token), and what is added up is `f32` again. In bfloat16 tokens are rounded as
/// they come, where the processor is faster in it, and sums are `f32`; elsewhere products are those of the floats that it stands for.
/// Attention between such maps is computed in bfloat16 where the processor is faster in it.
///
/// In 4 bits, with a scale for 32 elements of a row, and with `activations=f32` in 8, weights are stored so, and products are those of the floats that
/// they stand for. Where there are data, what 4 bits lose in one column later ones make up for (GPTQ, `CompensatedRounding`), and the
/// bias keeps the mean.
///
/// The map that reads images and the one behind which no other stands, patch embedding and head, stay: they are a hundredth
/// of the work, and nothing behind the head makes up for what it loses. Maps of few rows, as those of a class token alone, are stored in 8 bits and computed in
/// `f32`.
public struct Quantise: Pass {
  /// `quantise`.
  public static let name = "quantise"
  /// See `Pass`.
  public static let summary =
    "Brings the weights of linear maps into 8 bits or bfloat16, in which their products are computed, or stores them in 4"
  /// See `Pass`.
  public static let example = "quantise{weights=int8}"

  /// What weights are brought into.
  public enum Weights: String, CaseIterable, Sendable {
    /// Whole numbers of 8 bits, a scale for each row.
    case int8
    /// bfloat16.
    case bf16
    /// Whole numbers of 4 bits, a scale for 32 elements.
    case int4

    /// What it is called.
    fileprivate var words: String {
      switch self {
      case .int8: "8 bits"
      case .bf16: "bfloat16"
      case .int4: "4 bits"
      }
    }
  }

  /// What becomes of the tokens that are multiplied with weights.
  public enum Activations: String, CaseIterable, Sendable {
    /// They are brought into the weights' type as they come.
    case dynamic
    /// They stay floats, and weights are taken for the floats that they stand for.
    case f32
  }

  /// What weights are brought into.
  public var weights: Weights
  /// What becomes of tokens.
  public var activations: Activations
  /// The samples on which weights of 4 bits make up for each other; 0 for rounding each by itself.
  public var solved: Int
  /// The numbers of the layers in whose blocks weights stay as they are.
  public var keep: [Int]
  /// The damage on held-out samples that it may do; `nil` for whatever it does.
  public var limit: Double?
  /// The held-out samples on which that is measured.
  public var images: Int

  /// The pass; `activations` are those of `weights` where nothing is said.
  public init(
    weights: Weights = .int8, activations: Activations? = nil, solved: Int = Quantise.usualImages,
    keep: [Int] = [], limit: Double? = nil, images: Int = Quantise.usualImages
  ) {
    (self.weights, self.keep, self.limit, self.images) = (weights, keep, limit, images)
    self.activations = activations ?? (weights == .int4 ? .f32 : .dynamic)
    self.solved = solved
  }

  /// The samples that tell layers apart, and on which weights make up for each other.
  public static let usualImages = 128

  /// Takes `weights` (int8; bf16 or int4); `activations` (dynamic, and f32 of int4): whether tokens are brought into fewer bits as they come; `solved` (128): on how
  /// many samples, where there are some, weights of 4 bits make up for each other; `keep`, the numbers of layers in whose blocks weights stay; and `limit`, the most damage on `images`
  /// (128) held-out samples that it may do: weights stay in the blocks of the layers that are most sensitive, as many as that takes.
  public init(options: inout OptionReader) throws(VitError) {
    let weights: Weights = try options.choice("weights", default: .int8)
    self.init(weights: weights)
    activations = try options.choice("activations", default: activations)
    solved = try options.value("solved", default: solved)
    keep = try options.integers("keep") ?? []
    limit = try options.optional("limit")
    images = try options.value("images", default: images)
  }

  /// Throws where a number is out of range.
  public func check() throws(VitError) {
    if weights != .int8, activations != Quantise(weights: weights).activations {
      throw VitError(
        "quantise: option 'activations' cannot be '\(activations.rawValue)' with weights in \(weights.words) (expected \(Quantise(weights: weights).activations.rawValue))",
        kind: .usage, code: "option-value",
        help: weights == .bf16 ? "'round{weights=f16}' stores weights in as many bits" : nil)
    }
    guard limit ?? 0 >= 0, (limit ?? 0).isFinite, images > 0, solved >= 0, keep.allSatisfy({ $0 >= 0 }) else {
      throw VitError(
        "quantise: expected limit >= 0, images > 0, solved >= 0 and numbers of layers in keep", kind: .usage,
        code: "option-value")
    }
  }

  /// It leaves weights as they are that have fewer bits already.
  public var worksOnNarrowWeights: Bool { true }
  /// All options.
  public var options: [(name: String, value: String)] {
    [("weights", weights.rawValue), ("activations", activations.rawValue)]
      + (weights == .int4 ? [("solved", "\(solved)")] : [])
      + (keep.isEmpty ? [] : [("keep", "\(keep)".filter { $0 != " " })])
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
    var rounded = try RoundedWeights(maps, of: hybrid.graph, to: element)
    if weights == .int4, solved > 0, context.data != nil {
      try rounded.compensate(in: hybrid, to: element, images: solved, context)
    }
    var result = PassResult()
    var kept = Set(keep)
    if let limit, !maps.ids.isEmpty {
      let found = try Sensitivity(self, maps, rounded, hybrid, limit: limit, context)
      kept = Set(found.kept)
      for (place, damage) in found.damages {
        hybrid.layers[place].scores["narrow_damage"] = .float(damage)
      }
      result.notes = found.notes
      result.damage = (0, found.damage)
      var same = self
      (same.keep, same.limit, same.images) = (found.kept, nil, Quantise.usualImages)
      result.found = [same]
    }
    let places = hybrid.layers.indices.filter { kept.contains(hybrid.layers[$0].index) }
    let (changed, count) = rounded.put(into: &hybrid.graph, maps, beside: Set(places))
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
    let maps = InnerMaps(graph)
    return try RoundedWeights(maps, of: graph, to: element).put(into: &graph, maps, beside: [])
  }

  /// The type that weights have behind it.
  var element: ElementType {
    switch weights {
    case .int8: activations == .f32 ? .w8 : .q8
    case .bf16: .bf16
    case .int4: .w4
    }
  }
}
