internal import VitIR

/// Long short-term memories as ONNX operators.
extension ScanLowering {
  /// The gates of a weight or bias along `axis`, `width` each from `start(gate)` of `count` on, in ONNX's order.
  static func gates(
    _ value: ValueID, axis: Int, width: Int, of count: Int, into builder: inout GraphBuilder,
    start: (Int) -> Int
  ) throws(VitError) -> ValueID {
    var slices: [ValueID] = []
    // Ours are input, forget, cell, output; ONNX has input, output, forget, cell.
    for gate in [0, 3, 1, 2] {
      slices.append(
        try slice(value, start(gate)..<start(gate) + width, of: count, axis: axis, into: &builder))
    }
    return try join(slices, axis: axis, into: &builder)
  }

  /// The bias of a recurrence.
  static func zeros(_ width: Int, like x: ValueID, in builder: inout GraphBuilder) -> ValueID {
    builder.constant(
      [Double](repeating: 0, count: 4 * width), shape: [4 * width], element: builder.graph.type(x).element)
  }

  /// The states `[batch, tokens, width]` of one head's memory in direction `index` over `x`, `[batch, tokens, inputs]`.
  ///
  /// `gates` is `[1, 4·width, inputs]`, `recurrence` `[1, 4·width, width]`, `bias` `[4·width]`, with ONNX's order of gates;
  /// `zeros` are as many as the bias, which ONNX has twice.
  func memory(
    _ x: ValueID, direction index: Int, width: Int, gates: ValueID, recurrence: ValueID, bias: ValueID,
    zeros: ValueID, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let tokens = try read(x, direction: index, axis: 1, into: &builder)
    let sequence = try builder.add("onnx.Transpose", [tokens], [("perm", .ints([1, 0, 2]))])
    let both = try builder.add(
      "onnx.Unsqueeze",
      [try ScanLowering.join([bias, zeros], axis: 0, into: &builder), builder.integers([0])])
    // Lengths may be left out, but OpenVINO 2026.4 then reads only the first image of a batch that it does not know beforehand.
    let batch = try builder.add("onnx.Shape", [x], [("start", .int(0)), ("end", .int(1))])
    let length = builder.constant([Double(steps)], shape: [1], element: .i32)
    let lengths = try builder.add("onnx.Expand", [length, batch])
    let states = try builder.add(
      "onnx.LSTM", [sequence, gates, recurrence, both, lengths], [("hidden_size", .int(width))])
    let flat = try builder.add("onnx.Squeeze", [states, builder.integers([1])])
    let steps = try builder.add("onnx.Transpose", [flat], [("perm", .ints([1, 0, 2]))])
    return try write(steps, direction: index, axis: 1, into: &builder)
  }
}
