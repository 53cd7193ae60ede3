internal import VitIR

/// What ONNX Runtime's attention operators have in common: heads, scale and masks.
struct MicrosoftAttentionOptions: Sendable {
  let heads: Int
  /// 0: the usual one over the root of the depth.
  let scale: Double
  let isCausal: Bool
  /// What is added to the score of a key that a mask hides.
  let filter: Double

  init(attributes: inout AttributeReader) throws(VitError) {
    heads = try attributes.int("num_heads")
    scale = try attributes.float("scale", default: 0)
    isCausal = try attributes.bool("unidirectional", default: false)
    filter = try attributes.float("mask_filter_value", default: -10000)
    guard heads >= 1 else { throw VitError("attribute 'num_heads' is \(heads), expected at least 1") }
  }

  var attributes: Attributes {
    Attributes([
      ("num_heads", .int(heads)), ("scale", .float(scale)), ("unidirectional", .bool(isCausal)),
      ("mask_filter_value", .float(filter)),
    ])
  }

  func scale(depth: Int) -> Double { scale != 0 ? scale : 1 / Double(max(1, depth)).squareRoot() }

  /// The depth of a head of `width` channels.
  func depth(_ width: Int, _ role: String) throws(VitError) -> Int {
    guard width > 0, width % heads == 0 else {
      throw VitError("\(width) channels of \(role) cannot be parted into \(heads) heads")
    }
    return width / heads
  }

  /// The rule for a mask of whole numbers: lengths `[batch]`, ends and starts `[2·batch]`, or zero for hidden
  /// keys in `[batch, keys]` or `[batch, queries, keys]`.
  func checkMask(
    _ operands: Operands, _ index: Int, _ role: String, batch: Dimension, queries: Dimension,
    keys: [Dimension]
  ) throws(VitError) {
    guard operands.has(index) else { return }
    let shape = try operands.typed(index, role, [.i32, .i64]).shape
    let known =
      switch shape.count {
      case 1: shape[0] == batch || shape[0] == batch * 2
      case 2: shape[0] == batch && keys.contains(shape[1])
      case 3: shape[0] == batch && shape[1] == queries && keys.last == shape[2]
      default: false
      }
    guard known else {
      throw VitError(
        "'\(role)' has the shape \(shape), expected [\(batch)], [2*(\(batch))], [\(batch), \(keys)] or "
          + "[\(batch), \(queries), \(keys)]", code: "shape-mismatch")
    }
  }

  /// The rule for what is added to the scores.
  func checkBias(
    _ operands: Operands, _ index: Int, _ element: ElementType, batch: Dimension, queries: Dimension,
    keys: Dimension
  ) throws(VitError) {
    guard operands.has(index) else { return }
    let shape = try operands.typed(index, "attention_bias", [element]).shape
    let scores: Shape = [batch, .fixed(heads), queries, keys]
    guard shape.count == 4, shape[3] == keys, try broadcast(shape, scores) == scores else {
      throw VitError("'attention_bias' has the shape \(shape), which does not broadcast to \(scores)")
    }
  }

  /// The masks of concrete operands.
  func mask(_ mask: View?, bias: View?, batch: Int, past: Int) -> AttentionMask {
    var result = AttentionMask()
    result.fill = filter
    result.offset = past
    if isCausal {
      result.right = 0
      // As ONNX Runtime hides later keys: where a bias hides all others, they are seen.
      result.beyond = -Double(Float.greatestFiniteMagnitude)
    }
    if let bias { result.terms.append(AttentionMask.Term(bias)) }
    guard let mask else { return result }
    switch mask.rank {
    case 1:
      result.lengths = mask
      if mask.count == 2 * batch { result.starts = mask.from(batch) }
    case 2: result.terms.append(AttentionMask.Term(items: mask))
    default: result.terms.append(AttentionMask.Term(queries: mask))
    }
    return result
  }

  /// For each operand the axis that counts images, of the masks where they have one; `nil` where a mask holds all
  /// images' lengths in a row.
  static func imageAxes(_ operands: Operands, masks: [Int]) -> [Int?]? {
    guard let batch = operands[0]?.shape.first else { return nil }
    var axes = [Int?](repeating: nil, count: operands.count)
    axes[0] = 0
    for index in masks {
      guard let shape = operands[index]?.shape, let first = shape.first, first == batch || first != 1 else {
        continue
      }
      guard first == batch else { return nil }
      axes[index] = 0
    }
    return axes
  }
}
