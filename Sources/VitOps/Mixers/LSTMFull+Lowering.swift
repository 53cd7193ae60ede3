public import VitIR

extension LSTMFull {
  /// An `LSTM` for each head and direction.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let types = builder.operands(operands)
    let (type, weight, last) = (try types.type(0, "x"), try types.type(1, "wp"), try types.type(9, "bo"))
    let layout = try scan.layout(type, width: weight.shape[0], outputDim: last.shape[0])
    let lowering = ScanLowering(layout)
    let (heads, width, w) = (layout.heads, layout.width, layout.headWidth)
    let directions = layout.order.directionCount
    guard let x = operands[0], let u = operands[3], let b = operands[4], let r = operands[5],
      let m = operands[6], let bm = operands[7]
    else { throw VitError("expected 10 inputs", code: "operand-missing") }
    let p = try LSTMFull.projection.lower(x, operands, into: &builder)
    let zeros = ScanLowering.zeros(w, like: x, in: &builder)
    var parts: [ValueID] = []
    for head in 0..<heads {
      let own = try ScanLowering.slice(p, head * w..<(head + 1) * w, of: width, axis: 2, into: &builder)
      for direction in 0..<directions {
        let block = head * directions + direction
        func matrix(_ value: ValueID) throws(VitError) -> ValueID {
          let slice = try ScanLowering.slice(
            value, block..<block + 1, of: heads * directions, axis: 0, into: &builder)
          return try ScanLowering.gates(slice, axis: 1, width: w, of: 4 * w, into: &builder) { $0 * w }
        }
        let (own4, all) = (4 * w * block, 4 * w * heads * directions)
        let bias = try ScanLowering.gates(b, axis: 0, width: w, of: all, into: &builder) { own4 + $0 * w }
        parts.append(
          try lowering.memory(
            own, direction: direction, width: w, gates: try matrix(u), recurrence: try matrix(r), bias: bias,
            zeros: zeros, into: &builder))
      }
    }
    let states = try ScanLowering.join(parts, axis: 2, into: &builder)
    // [batch, heads, tokens, channels]
    let split = try builder.add(
      "onnx.Reshape", [states, builder.integers([0, 0, heads, directions * w])])
    let byHead = try builder.add("onnx.Transpose", [split], [("perm", .ints([0, 2, 1, 3]))])
    let merge = try builder.add("onnx.Transpose", [m], [("perm", .ints([0, 2, 1]))])
    let merged = try builder.add("onnx.MatMul", [byHead, merge])
    let byToken = try builder.add("onnx.Transpose", [merged], [("perm", .ints([0, 2, 1, 3]))])
    let flat = try builder.add("onnx.Reshape", [byToken, builder.integers([0, 0, width])])
    return [
      try LSTMFull.output.lower(try builder.add("onnx.Add", [flat, bm]), operands, into: &builder)
    ]
  }
}
