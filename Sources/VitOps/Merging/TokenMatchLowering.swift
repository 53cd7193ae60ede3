internal import VitIR

/// A matching of patches as ONNX operators.
struct TokenMatchLowering {
  /// Patches at even and at odd places.
  let even, odd: Int
  /// How many are given away.
  let count: Int
  let prefix, heads: Int
  let element: ElementType

  private var patches: Int { even + odd }

  /// The token that stands for each patch, `[images, patches]`.
  func moved(
    _ x: ValueID, _ operands: [ValueID?], width: Int, dim: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let all = (0..<patches).map { prefix + $0 }
    guard count > 0 else {
      // The same for every image: nothing times the first channel, which counts them.
      let first = try slice(x, [0], [1], axis: 2, into: &builder)
      let row = try builder.add(
        "onnx.ReduceMax", [first, builder.integers([1, 2])], [("keepdims", .bool(false))])
      let column = try builder.add("onnx.Unsqueeze", [row, builder.integers([1])])
      let isThere = try builder.add("onnx.Equal", [column, column])
      let numbers = builder.integers(all, shape: [1, patches])
      return try builder.add("onnx.Where", [isThere, numbers, numbers])
    }
    let metric = try metric(x, operands, width: width, dim: dim, into: &builder)
    let norm = try builder.add("onnx.ReduceL2", [metric, builder.integers([2])])
    let least = builder.constant([1e-12], shape: [], element: element)
    let unit = try builder.add("onnx.Div", [metric, try builder.add("onnx.Max", [norm, least])])
    let a = try slice(unit, [prefix], [prefix + patches], axis: 1, step: 2, into: &builder)
    let b = try slice(unit, [prefix + 1], [prefix + patches], axis: 1, step: 2, into: &builder)
    let turned = try builder.add("onnx.Transpose", [b], [("perm", .ints([0, 2, 1]))])
    let steps = builder.constant([0x1p20], shape: [], element: element)
    let scores = try builder.add(
      "onnx.Round", [try builder.add("onnx.Mul", [try builder.add("onnx.MatMul", [a, turned]), steps])])
    let best = try builder.add(
      "onnx.ReduceMax", [scores, builder.integers([2])], [("keepdims", .bool(false))])
    let partner = try builder.add("onnx.ArgMax", [scores], [("axis", .int(2)), ("keepdims", .bool(false))])
    // TopK puts the first of equal ones first.
    let top = try builder.registry.make("onnx.TopK", Attributes([("axis", .int(1))]))
    let chosen = try builder.add(top, [best, builder.integers([count])], resultCount: 2)[1]
    let isGiven = try given(chosen, into: &builder)
    return try numbers(isGiven, partner, into: &builder)
  }

  /// What is compared of each token.
  private func metric(
    _ x: ValueID, _ operands: [ValueID?], width: Int, dim: Int, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    guard operands.count > 1, let weight = operands[1] else { return x }
    func mean(_ value: ValueID, _ shape: [Int]) throws(VitError) -> ValueID {
      let cut = try builder.add("onnx.Reshape", [value, builder.integers([heads] + shape)])
      return try builder.add("onnx.ReduceMean", [cut, builder.integers([0])], [("keepdims", .bool(false))])
    }
    let map = try builder.add(
      "onnx.Transpose", [try mean(weight, [width, dim])], [("perm", .ints([1, 0]))])
    let product = try builder.add("onnx.MatMul", [x, map])
    guard operands.count > 2, let bias = operands[2] else { return product }
    return try builder.add("onnx.Add", [product, try mean(bias, [width])])
  }

  /// One for each even patch that is given away, else zero: `[images, even]`.
  private func given(_ chosen: ValueID, into builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let column = try builder.add("onnx.Unsqueeze", [chosen, builder.integers([2])])
    let isChosen = try builder.add(
      "onnx.Equal", [column, builder.integers(Array(0..<even), shape: [1, 1, even])])
    let (one, zero) = (builder.integers([1], shape: []), builder.integers([0], shape: []))
    let ones = try builder.add("onnx.Where", [isChosen, one, zero])
    return try builder.add("onnx.ReduceSum", [ones, builder.integers([1])], [("keepdims", .bool(false))])
  }

  /// The new numbers, from how many have gone before each patch.
  private func numbers(
    _ isGiven: ValueID, _ partner: ValueID, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let gone = try builder.add("onnx.CumSum", [isGiven, builder.integers([1], shape: [])])
    func number(_ patches: [Int], _ gone: ValueID) throws(VitError) -> ValueID {
      let own = builder.integers(patches.map { prefix + $0 }, shape: [1, patches.count])
      return try builder.add("onnx.Sub", [own, gone])
    }
    let odds = try number(
      (0..<odd).map { 2 * $0 + 1 }, try slice(gone, [0], [odd], axis: 1, into: &builder))
    let kept = try number(
      (0..<even).map { 2 * $0 }, try builder.add("onnx.Sub", [gone, isGiven]))
    let taken = try builder.add("onnx.GatherElements", [odds, partner], [("axis", .int(1))])
    let isMoved = try builder.add("onnx.Equal", [isGiven, builder.integers([1], shape: [])])
    let evens = try builder.add("onnx.Where", [isMoved, taken, kept])
    let both = try builder.add("onnx.Concat", [evens, odds], [("axis", .int(1))])
    let order = (0..<patches).map { $0 % 2 == 0 ? $0 / 2 : even + $0 / 2 }
    return try builder.add("onnx.Gather", [both, builder.integers(order)], [("axis", .int(1))])
  }

  private func slice(
    _ x: ValueID, _ start: [Int], _ end: [Int], axis: Int, step: Int = 1, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    try builder.add(
      "onnx.Slice",
      [x, builder.integers(start), builder.integers(end), builder.integers([axis]), builder.integers([step])])
  }
}
