internal import VitIR

/// Where a value holds the images: along an axis, each once after every `outer`-th part of that axis.
struct BatchPlace: Equatable {
  var axis: Int
  var outer = 1
}

/// One node that `BatchSymboliser` looks at.
struct BatchStep {
  let node: Node
  /// The operands, as new values.
  var operands: [ValueID?]
  /// For each operand the axis that holds the images.
  let axes: [Int?]
  /// How many entries of that axis lie outside of the images: the same for all operands.
  let outer: Int
  /// The operands' old types.
  let types: [TensorType?]
  /// The old type of the first result.
  let result: TensorType
  let attributes: Attributes

  init(_ node: Node, _ operands: [ValueID?], places: [BatchPlace?], types: [Value]) throws(VitError) {
    self.node = node
    self.operands = operands
    let places = node.operands.map { $0.flatMap { places[$0.index] } }
    axes = places.map { $0?.axis }
    outer = places.lazy.compactMap { $0?.outer }.first ?? 1
    for case let place? in places where place.outer != outer {
      throw VitError("\(node.name) holds images in different orders", code: "batch-mixed")
    }
    self.types = node.operands.map { $0.map { types[$0.index].type } }
    result = types[node.results[0].index].type
    attributes = node.operation.attributes
  }

  var name: String { node.name }

  func axis(_ index: Int) -> Int? { index < axes.count ? axes[index] : nil }

  func rank(_ index: Int) -> Int { index < types.count ? types[index]?.rank ?? 0 : 0 }

  func int(_ name: String, default fallback: Int) -> Int {
    switch attributes[name] {
    case .int(let value)?: value
    case .bool(let value)?: value ? 1 : 0
    default: fallback
    }
  }

  /// The axis that an attribute names.
  func place(_ name: String, default fallback: Int, operand: Int = 0) -> Int {
    let value = int(name, default: fallback)
    return value < 0 ? value + rank(operand) : value
  }

  func require(_ condition: Bool, _ why: String = "works across images") throws(VitError) {
    if !condition { throw VitError("\(name) \(why)", code: "batch-mixed") }
  }

  /// The one axis with images; an error where other operands than the first hold some.
  func onlyFirst() throws(VitError) -> Int {
    guard let axis = axis(0) else {
      throw VitError("\(name) has images in its parameters", code: "batch-mixed")
    }
    try require(axes.dropFirst().allSatisfy { $0 == nil }, "has images in its parameters")
    return axis
  }

  /// The axis of the result for operands that broadcast against one another.
  func broadcastAxis(rank: Int, _ indices: Range<Int>) throws(VitError) -> Int {
    let found = indices.compactMap { index in axis(index).map { $0 + rank - self.rank(index) } }
    guard let first = found.first else { throw VitError("\(name) reads no images") }
    try require(found.allSatisfy { $0 == first }, "holds images in different axes")
    try require(first >= 0)
    return first
  }
}

/// What nodes do to the axis with the images. A rule may replace the node by one that does the same for any number of
/// images; it throws where images would mix. That the result has the wanted type is checked afterwards.
extension BatchSymboliser {
  struct Outcome {
    var results: [ValueID]
    /// For each result where the images are.
    var places: [BatchPlace?]
  }

  /// Operators that work element by element, operands broadcast.
  private static let pointwise: Set<String> = Set(
    [
      "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitwiseAnd", "BitwiseNot",
      "BitwiseOr", "BitwiseXor", "BitShift", "Cast", "Ceil", "Celu", "Clip", "Cos", "Cosh",
      "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
      "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log",
      "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu",
      "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub",
      "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
    ].map { "onnx." + $0 } + ["BiasGelu", "FastGelu", "Gelu", "QuickGelu"].map { "com.microsoft." + $0 })

  /// Operators that take images along the first axis of the first operand and treat each alike.
  private static let imagewise: Set<String> = Set(
    [
      "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace",
      "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization",
      "LRN", "LpPool", "MaxPool", "QLinearConv", "SpaceToDepth",
    ].map { "onnx." + $0 } + ["com.microsoft.FusedConv"])

  /// Operators with operands that are shapes, in which the size of the batch may stand.
  private static let readsShapes: Set<String> = [
    "onnx.Reshape", "onnx.Expand", "onnx.Slice", "onnx.Resize", "onnx.ConstantOfShape",
  ]

  /// Adds a node to the new graph.
  mutating func apply(_ step: BatchStep) throws(VitError) -> Outcome {
    let readsSize = step.operands.contains(where: holdsBatchSize)
    guard step.axes.contains(where: { $0 != nil }) else {
      return readsSize ? try applyToSize(step) : try add(step, nil)
    }
    try step.require(
      !readsSize || Self.readsShapes.contains(step.name), "computes with the size of the batch")
    if Self.pointwise.contains(step.name) {
      return try add(step, try step.broadcastAxis(rank: step.result.rank, 0..<step.axes.count))
    }
    if Self.imagewise.contains(step.name) {
      try step.require(try step.onlyFirst() == 0)
      return try add(step, 0)
    }
    if step.name.hasPrefix("onnx.Reduce") { return try applyReduce(step) }
    switch step.name {
    case "onnx.Shape", "onnx.Size": return try add(step, nil)
    case "onnx.CastLike": return try add(step, step.axis(0))  // only the type of the second operand counts
    case "onnx.MatMul", "onnx.MatMulInteger", "com.microsoft.FusedMatMul": return try applyProduct(step)
    case "onnx.Gemm": return try applyGemm(step)
    case "onnx.Softmax", "onnx.LogSoftmax", "onnx.Hardmax": return try applySoftmax(step)
    case "onnx.LayerNormalization", "onnx.RMSNormalization", "onnx.SimplifiedLayerNormalization":
      let axis = try step.onlyFirst()
      try step.require(axis < step.place("axis", default: -1))
      return try add(step, axis)
    case "com.microsoft.SkipLayerNormalization", "com.microsoft.SkipSimplifiedLayerNormalization":
      let axis = try step.broadcastAxis(rank: step.result.rank, 0..<2)
      try step.require(axis < step.rank(0) - 1 && step.axes.dropFirst(2).allSatisfy { $0 == nil })
      return try add(step, axis)
    case "onnx.QuantizeLinear", "onnx.DequantizeLinear":
      let axis = try step.onlyFirst()
      try step.require(
        step.types.dropFirst().allSatisfy { ($0?.rank ?? 0) == 0 || step.place("axis", default: 1) != axis })
      return try add(step, axis)
    case "onnx.Transpose":
      let axis = try step.onlyFirst()
      var order = Array((0..<step.rank(0)).reversed())
      if case .ints(let given)? = step.attributes["perm"], !given.isEmpty {
        order = given.map { $0 < 0 ? $0 + step.rank(0) : $0 }
      }
      return try add(step, order.firstIndex(of: axis))
    case "onnx.Reshape", "onnx.Flatten", "onnx.Squeeze", "onnx.Unsqueeze": return try applyReshape(step)
    case "onnx.Expand": return try applyExpand(step)
    case "onnx.Concat": return try applyConcat(step)
    case "onnx.Split", "onnx.TopK", "onnx.LpNormalization", "onnx.ArgMax", "onnx.ArgMin":
      return try applyAlong(step)
    case "onnx.CumSum":
      let axis = try step.onlyFirst()
      guard let along = known(step, 1)?.first else { throw VitError("\(step.name) along an unknown axis") }
      try step.require((along < 0 ? along + step.rank(0) : along) != axis)
      return try add(step, axis)
    case "onnx.Slice": return try applySlice(step)
    case "onnx.Pad", "onnx.Tile": return try applyGrowth(step)
    case "onnx.Resize": return try applyResize(step)
    case "onnx.Gather": return try applyGather(step)
    case "onnx.GatherElements": return try applyGatherElements(step)
    case "onnx.Einsum": return try applyEinsum(step)
    case "onnx.Trilu":
      let axis = try step.onlyFirst()
      try step.require(axis < step.rank(0) - 2)
      return try add(step, axis)
    case "onnx.Attention", "com.microsoft.MultiHeadAttention", "com.microsoft.Attention":
      // Masks that hold images have them along their first axis, as do keys and values that were computed before.
      try step.require(step.axes.allSatisfy { $0 == nil || $0 == 0 })
      return try add(step, 0)
    case "onnx.RotaryEmbedding", "com.microsoft.RotaryEmbedding":
      try step.require(try step.onlyFirst() == 0)
      return try add(step, 0)
    default: throw VitError("\(step.name) is not known to treat images alike", code: "batch-mixed")
    }
  }

  // MARK: - Adding nodes

  private mutating func add(_ step: BatchStep, _ axis: Int?) throws(VitError) -> Outcome {
    let results = try builder.add(
      step.node.operation, step.operands, resultCount: step.node.results.count,
      names: step.node.results.map { old[$0].name }, location: step.node.location)
    let place = axis.map { BatchPlace(axis: $0, outer: step.outer) }
    return Outcome(results: results, places: results.map { _ in place })
  }

  /// Whole numbers that an operand held in the old graph.
  private func known(_ step: BatchStep, _ index: Int) -> [Int]? {
    guard index < step.node.operands.count, let id = step.node.operands[index] else { return nil }
    if let tensor = old.tensor(id) { return KnownValue.tensor(tensor).integers }
    return oldKnown[id.index]?.integers
  }

  /// Whole numbers that are an attribute or, from some opset on, an operand.
  private func integers(_ step: BatchStep, _ name: String, operand: Int) -> [Int]? {
    if case .ints(let values)? = step.attributes[name] { return values }
    return known(step, operand)
  }

  private func holdsBatchSize(_ id: ValueID?) -> Bool {
    guard let id, case .integers(_, let values)? = builder.known(id) else { return false }
    return values.contains { $0.symbols.contains(InputTypes.batch) }
  }

  // MARK: - Rules

  /// Arithmetic of shapes with the size of the batch in it, and constants of such shapes.
  private mutating func applyToSize(_ step: BatchStep) throws(VitError) -> Outcome {
    var outcome = try add(step, nil)
    for (index, id) in outcome.results.enumerated() {
      let (new, before) = (builder.graph.type(id), old.type(step.node.results[index]))
      if builder.known(id) != nil, new == before { continue }
      try step.require(
        ["onnx.ConstantOfShape", "onnx.Expand"].contains(step.name), "computes with the size of the batch")
      outcome.places[index] = (0..<before.rank).first { opened(before, $0) == new }.map {
        BatchPlace(axis: $0)
      }
    }
    return outcome
  }

  private mutating func applyReduce(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst()
    let rank = step.rank(0)
    var reduced = integers(step, "axes", operand: 1) ?? []
    if reduced.isEmpty, step.int("noop_with_empty_axes", default: 0) != 0 { return try add(step, axis) }
    try step.require(!reduced.isEmpty)
    reduced = reduced.map { $0 < 0 ? $0 + rank : $0 }
    try step.require(!reduced.contains(axis))
    let keeps = step.result.rank == rank
    return try add(step, keeps ? axis : axis - reduced.filter { $0 < axis }.count)
  }

  private mutating func applyProduct(_ step: BatchStep) throws(VitError) -> Outcome {
    let (a, b, rank) = (step.rank(0), step.rank(1), step.result.rank)
    for name in ["transA", "transB", "transBatchA", "transBatchB"] where step.int(name, default: 0) != 0 {
      // Only axes before the last two stay where they are.
      try step.require(
        !name.hasPrefix("transBatch") && (step.axis(0) ?? 0) < max(a - 2, 1)
          && (step.axis(1) ?? 0) < max(b - 2, 1)
          && (step.axis(0) == nil || a > 2) && (step.axis(1) == nil || b > 2))
    }
    try step.require(step.axes.dropFirst(2).allSatisfy { $0 == nil }, "has images in its parameters")
    if let axis = step.axis(0), a >= 2, b >= 2, axis == a - 2, step.axis(1) == nil {
      return try add(step, rank - 2)
    }
    if let axis = step.axis(1), b >= 2, a >= 2, axis == b - 1, step.axis(0) == nil {
      return try add(step, rank - 1)
    }
    try step.require((step.axis(0) ?? -9) < a - 2 && (step.axis(1) ?? -9) < b - 2 && a > 1 && b > 1)
    return try add(step, try step.broadcastAxis(rank: rank, 0..<2))
  }

  private mutating func applyGemm(_ step: BatchStep) throws(VitError) -> Outcome {
    try step.require(step.axis(0) == (step.int("transA", default: 0) == 0 ? 0 : 1) && step.axis(1) == nil)
    if let axis = step.axis(2) { try step.require(axis == 0 && step.rank(2) == 2) }
    return try add(step, 0)
  }

  private mutating func applySoftmax(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst()
    let along = step.place("axis", default: -1)
    // Before opset 13 all axes from this one on were normalised as one.
    let isWhole = step.attributes.entries.contains { $0.value == .bool(true) }
    try step.require(isWhole ? axis < along : axis != along)
    return try add(step, axis)
  }

  /// A node with an axis attribute along which it works: the images must lie in another.
  private mutating func applyAlong(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst()
    let along = step.place(
      "axis", default: ["onnx.TopK", "onnx.LpNormalization"].contains(step.name) ? -1 : 0)
    try step.require(axis != along)
    return try add(step, step.result.rank < step.rank(0) && along < axis ? axis - 1 : axis)
  }

  private mutating func applyReshape(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst()
    guard let source = step.types[0] else { throw VitError("\(step.name) has no input") }
    let target = step.result.shape
    // In memory the images lie apart by what the axes before theirs hold; the same must be so in the result.
    let outer = source.shape[..<axis].reduce(.fixed(step.outer), *)
    var places: [BatchPlace] = []
    for (index, extent) in target.enumerated() {
      let before = target[..<index].reduce(.fixed(1), *)
      guard let rest = outer.exactlyDivided(by: before)?.fixedValue, rest > 0,
        rest == 1 || (extent.fixedValue ?? 1) % rest == 0
      else { continue }
      places.append(BatchPlace(axis: index, outer: rest))
    }
    // Best an axis of their own, then the one they had; then the end of the axis before what each image has, where that
    // is no more axes than it was (a new axis beside the images would be heads, which go with them); then the start of
    // an axis.
    let behind = source.shape[(axis + 1)...]
    let part = source.shape[axis].exactlyDivided(by: .fixed(step.outer)) ?? source.shape[axis]
    let image = (part == .fixed(1) ? [] : [part]) + behind
    let own = places.first { $0.outer == 1 && target[$0.axis] == .fixed(1) }
    let same = places.first { place in
      place.outer == step.outer && target[place.axis...] == source.shape[axis...]
    }
    let merged = places.first { place in
      let after = target[(place.axis + 1)...]
      return after.count <= image.count && after.reduce(.fixed(1), *) == image.reduce(.fixed(1), *)
    }
    let place = own ?? same ?? merged ?? places.first { $0.outer == 1 } ?? places.last
    if step.name != "onnx.Reshape" || !Self.hasExplicitOne(known(step, 1), places) {
      let types = try? step.node.operation.resultTypes(builder.operands(step.operands))
      if let place = places.first(where: { opened(step.result, $0.axis) == types?.first }) {
        return Outcome(results: try add(step, place.axis).results, places: [place])
      }
    }
    guard let place else { throw VitError("\(step.name) mixes images with other axes", code: "batch-mixed") }
    var extents: [Int] = []
    for (index, extent) in target.enumerated() {
      guard let number = index == place.axis ? -1 : extent.fixedValue else {
        throw VitError("\(step.name) has an extent that is not known: \(extent)")
      }
      extents.append(number)
    }
    let reshape = try builder.registry.make("onnx.Reshape")
    let results = try builder.add(
      reshape, [step.operands[0], builder.integers(extents)], names: [old[step.node.results[0]].name])
    return Outcome(results: results, places: [place])
  }

  /// Whether a shape as the file gives it has a one where the images could be.
  private static func hasExplicitOne(_ shape: [Int]?, _ places: [BatchPlace]) -> Bool {
    guard let shape else { return false }
    return places.contains { $0.outer == 1 && $0.axis < shape.count && shape[$0.axis] == 1 }
  }

  private mutating func applyExpand(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst() + step.result.rank - step.rank(0)
    var step = step
    step.operands[1] = try shape(opened(step.result, axis).shape)
    return try add(step, axis)
  }

  private mutating func applyConcat(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.broadcastAxis(rank: step.result.rank, 0..<step.axes.count)
    try step.require(step.place("axis", default: 0) != axis)
    var step = step
    // What is the same for all images must be repeated beside them.
    for index in step.operands.indices where step.axis(index) == nil {
      step.operands[index] = try repeated(step, index, axis)
    }
    return try add(step, axis)
  }

  /// An operand that all images share, once for each image along `axis`.
  private mutating func repeated(_ step: BatchStep, _ index: Int, _ axis: Int) throws(VitError) -> ValueID {
    guard let type = step.types[index], let id = step.operands[index], type.shape[axis] == .fixed(1) else {
      throw VitError(
        "\(step.name) has something beside the images that is not one for all", code: "batch-mixed")
    }
    return try builder.add("onnx.Expand", [id, try shape(opened(type, axis).shape)])
  }

  private mutating func applySlice(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst()
    if let steps = integers(step, "steps", operand: 4) {
      let sliced = integers(step, "axes", operand: 3) ?? Array(steps.indices)
      for (place, stride) in zip(sliced, steps) where (place < 0 ? place + step.rank(0) : place) == axis {
        try step.require(stride > 0)
      }
    }
    return try add(step, axis)
  }

  /// Padding and repetition: not along the images.
  private mutating func applyGrowth(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst()
    let rank = step.rank(0)
    if step.name == "onnx.Tile" {
      try step.require(known(step, 1)?[axis] == 1)
    } else {
      let padded = known(step, 3)?.map { $0 < 0 ? $0 + rank : $0 } ?? Array(0..<rank)
      guard let pads = integers(step, "pads", operand: 1), pads.count == 2 * padded.count else {
        throw VitError("\(step.name) with pads that are not known")
      }
      if let index = padded.firstIndex(of: axis) {
        try step.require(pads[index] == 0 && pads[index + padded.count] == 0)
      }
    }
    return try add(step, axis)
  }

  private mutating func applyResize(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.onlyFirst()
    try step.require(
      axis == 0 && step.attributes["coordinate_transformation_mode"] != .string("tf_crop_and_resize"))
    var step = step
    if step.operands.count > 3, let sizes = known(step, 3), sizes.count == step.rank(0) {
      step.operands[3] = try shape(opened(TensorType(.i64, fixed: sizes), axis).shape)
    }
    return try add(step, axis)
  }

  private mutating func applyGather(_ step: BatchStep) throws(VitError) -> Outcome {
    let along = step.place("axis", default: 0)
    switch (step.axis(0), step.axis(1)) {
    case (let axis?, nil):
      try step.require(axis != along)
      return try add(step, axis < along ? axis : axis - 1 + step.rank(1))
    case (nil, let axis?): return try add(step, along + axis)
    default: throw VitError("\(step.name) picks by image from images", code: "batch-mixed")
    }
  }

  private mutating func applyGatherElements(_ step: BatchStep) throws(VitError) -> Outcome {
    let axis = try step.broadcastAxis(rank: step.result.rank, 0..<2)
    try step.require(step.place("axis", default: 0) != axis)
    var step = step
    for index in 0..<2 where step.axis(index) == nil {
      step.operands[index] = try repeated(step, index, axis)
    }
    return try add(step, axis)
  }

  private mutating func applyEinsum(_ step: BatchStep) throws(VitError) -> Outcome {
    guard case .string(let equation)? = step.attributes["equation"] else {
      throw VitError("\(step.name) has no equation")
    }
    let text = equation.filter { $0 != " " }
    let sides = text.split(separator: ">", omittingEmptySubsequences: false)
    try step.require(sides.count == 2 && !text.contains("."), "has an equation that is not understood")
    let terms = sides[0].dropLast().split(separator: ",", omittingEmptySubsequences: false).map(Array.init)
    try step.require(terms.count == step.axes.count)
    var letter: Character?
    for (term, axis) in zip(terms, step.axes) {
      guard let axis, axis < term.count else { continue }
      try step.require(letter == nil || letter == term[axis], "holds images in different axes")
      letter = term[axis]
    }
    guard let letter, let place = Array(sides[1]).firstIndex(of: letter) else {
      throw VitError("\(step.name) sums over images", code: "batch-mixed")
    }
    for (term, axis) in zip(terms, step.axes) {
      try step.require(axis != nil ? term.filter { $0 == letter }.count == 1 : !term.contains(letter))
    }
    return try add(step, place)
  }
}
