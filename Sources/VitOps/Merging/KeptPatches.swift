internal import VitIR

/// The choice of patches that go on: those for which a number is greatest, of equal ones the first, in their order.
struct KeptPatches {
  /// How many stay.
  let count: Int
  /// The tokens before the patches, all of which stay.
  let prefix: Int

  /// Notes for each patch of `part` whether fewer than `count` others go before it.
  func rank(
    _ numbers: UnsafePointer<Double>, patches: Int, part: Range<Int>,
    into isKept: UnsafeMutablePointer<Int64>
  ) {
    for patch in part {
      let own = numbers[patch]
      var ahead = 0
      for other in 0..<patches {
        let number = numbers[other]
        ahead += number > own || number == own && other < patch ? 1 : 0
      }
      isKept[patch] = ahead < count ? 1 : 0
    }
  }

  /// Numbers the patches of an image that stay, of which `numbers` says so for each token, and writes the table.
  func number(
    _ image: Int, _ table: PlaceTable, _ numbers: UnsafeMutablePointer<Int64>,
    into result: UnsafeMutablePointer<Int64>
  ) {
    var next = Int64(prefix)
    for token in prefix..<table.tokens {
      let isKept = numbers[token] == 1
      numbers[token] = isKept ? next : Int64(prefix + count)
      if isKept { next += 1 }
    }
    for place in 0..<table.places {
      result[place] = table.token(image, place).map { numbers[$0] } ?? Int64(prefix + count)
    }
  }

  /// The table as ONNX operators, from `[images, patches]` numbers, which are whole, and the table so far.
  func lower(
    _ numbers: ValueID, patches: Int, table: ValueID?, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    // TopK puts the first of equal ones first.
    let top = try builder.registry.make("onnx.TopK", Attributes([("axis", .int(1))]))
    let chosen = try builder.add(top, [numbers, builder.integers([count])], resultCount: 2)[1]
    let column = try builder.add("onnx.Unsqueeze", [chosen, builder.integers([2])])
    let isChosen = try builder.add(
      "onnx.Equal", [column, builder.integers(Array(0..<patches), shape: [1, 1, patches])])
    let (one, zero) = (builder.integers([1], shape: []), builder.integers([0], shape: []))
    let kept = try builder.add(
      "onnx.ReduceSum", [try builder.add("onnx.Where", [isChosen, one, zero]), builder.integers([1])],
      [("keepdims", .bool(false))])
    let running = try builder.add("onnx.CumSum", [kept, builder.integers([1], shape: [])])
    let places = try builder.add("onnx.Add", [running, builder.integers([prefix - 1], shape: [])])
    let none = builder.integers([prefix + count], shape: [])
    let moved = try builder.add(
      "onnx.Where", [try builder.add("onnx.Equal", [kept, one]), places, none])
    guard let table else { return moved }
    // A place that has no token has the number behind the last, for which one that has none is added.
    let beyond = try builder.add(
      "onnx.Expand",
      [
        none,
        try builder.add(
          "onnx.Concat",
          [
            try builder.add(
              "onnx.Slice",
              [try builder.add("onnx.Shape", [moved]), builder.integers([0]), builder.integers([1])]),
            builder.integers([1]),
          ], [("axis", .int(0))]),
      ])
    let all = try builder.add("onnx.Concat", [moved, beyond], [("axis", .int(1))])
    let own = try builder.add("onnx.Sub", [table, builder.integers([prefix], shape: [])])
    return try builder.add("onnx.GatherElements", [all, own], [("axis", .int(1))])
  }
}
