internal import VitIR
internal import VitOps

/// The nodes by which tokens halt (Mixers.md §4), added to a graph from the first block to the last.
///
/// Behind each block but the last a token's score is σ(γ e − β), e the first channel of its stream; behind the last it is 1. Where the sum of
/// its scores has reached 1 − ε it halts. The class token's output is the mean of what it is behind all blocks, each weighted by its score, the
/// one at which it halts by what is left of 1.
struct HaltingNodes {
  /// What makes scores of channels, and how near to 1 a sum has to come.
  let rule: Halting.Rule
  /// The sums of the scores so far, `[batch, tokens, 1]`.
  var sums: ValueID?
  /// What is left of the class token's weight, `[batch, 1, 1]`, and the mean so far, `[batch, 1, dim]`.
  private var rest: ValueID?
  private var mean: ValueID?

  /// Constants that several nodes read.
  private var constants: [Double: ValueID] = [:]

  /// Nothing has halted.
  init(_ rule: Halting.Rule) { self.rule = rule }

  /// Adds the scores of tokens behind a block, and what its class token adds to the mean; gives the scores.
  mutating func add(_ stream: ValueID, into builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let element = builder.graph.type(stream).element
    let channel = try HaltingNodes.slice(stream, axis: 2, into: &builder)
    let scaled = try builder.add(Onnx.mul, [channel, number(rule.gamma, element, into: &builder)])
    let score = try builder.add(
      Onnx.sigmoid, [try builder.add(Onnx.sub, [scaled, number(rule.beta, element, into: &builder)])])
    let sum =
      try sums.map { before throws(VitError) in try builder.add(Onnx.add, [before, score]) } ?? score
    sums = sum
    let own = try HaltingNodes.slice(sum, axis: 1, into: &builder)
    let goesOn = try builder.add(Onnx.less, [own, number(1 - rule.epsilon, element, into: &builder)])
    let left = try builder.add(
      Onnx.where,
      [
        goesOn, try builder.add(Onnx.sub, [number(1, element, into: &builder), own]),
        number(0, element, into: &builder),
      ])
    let weight = try builder.add(Onnx.sub, [rest ?? number(1, element, into: &builder), left])
    let part = try builder.add(
      Onnx.mul, [try HaltingNodes.slice(stream, axis: 1, into: &builder), weight])
    mean = try mean.map { before throws(VitError) in try builder.add(Onnx.add, [before, part]) } ?? part
    rest = left
    return score
  }

  /// The stream behind the last block with the mean in the place of the class token.
  mutating func finish(_ stream: ValueID, into builder: inout GraphBuilder) throws(VitError) -> ValueID {
    guard let rest, let mean, let tokens = builder.graph.type(stream).shape[1].fixedValue else {
      return stream
    }
    let one = number(1, builder.graph.type(stream).element, into: &builder)
    let row = try HaltingNodes.slice(stream, axis: 1, into: &builder)
    let last = try builder.add(Onnx.mul, [row, try builder.add(Onnx.sub, [rest, one])])
    let change = try builder.add(Onnx.add, [mean, last])
    let all = try builder.add(Onnx.pad, [change, builder.integers([0, 0, 0, 0, tokens - 1, 0])])
    return try builder.add(VitAdd(), [stream, all], names: ["halted"])[0]
  }

  /// 1 for tokens that have not halted and for those before the patches, else 0, `[batch, tokens, 1]`.
  mutating func mask(prefix: Int, into builder: inout GraphBuilder) throws(VitError) -> ValueID? {
    guard let sums, let tokens = builder.graph.type(sums).shape[1].fixedValue else { return nil }
    let element = builder.graph.type(sums).element
    let patches = builder.constant(
      (0..<tokens).map { $0 < prefix ? 0 : 1 }, shape: [1, tokens, 1], element: element)
    let counted = try builder.add(Onnx.mul, [sums, patches])
    let goesOn = try builder.add(Onnx.less, [counted, number(1 - rule.epsilon, element, into: &builder)])
    return try builder.add(
      Onnx.where, [goesOn, number(1, element, into: &builder), number(0, element, into: &builder)])
  }

  /// What hides the keys of masked tokens, `[batch, 1, 1, tokens]`.
  static func hiding(_ mask: ValueID, into builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let type = builder.graph.type(mask)
    func number(_ value: Double) -> ValueID { builder.constant([value], shape: [], element: type.element) }
    let isMasked = try builder.add(Onnx.less, [mask, number(0.5)])
    let row = try builder.add(Onnx.where, [isMasked, number(-.infinity), number(0)])
    return try builder.add(
      Onnx.reshape, [row, builder.integers([0, 1, 1, type.shape[1].fixedValue ?? -1])])
  }

  /// The first entry of an axis.
  private static func slice(
    _ value: ValueID, axis: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    try builder.add(
      Onnx.slice, [value, builder.integers([0]), builder.integers([1]), builder.integers([axis])])
  }

  /// A constant of one number.
  private mutating func number(
    _ value: Double, _ element: ElementType, into builder: inout GraphBuilder
  ) -> ValueID {
    if let known = constants[value] { return known }
    let constant = builder.constant([value], shape: [], element: element)
    constants[value] = constant
    return constant
  }
}
