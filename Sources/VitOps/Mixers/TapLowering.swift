internal import VitIR
internal import VitRuntime

/// Depthwise taps as ONNX operators: a convolution of images with a channel for each channel of the tokens.
struct TapLowering {
  private let grid: TapGrid
  private let width: Int

  init(_ grid: TapGrid, width: Int) {
    self.grid = grid
    self.width = width
  }

  /// The sums of `patches`, `[batch, patches, width]`, with taps `[width, *kernel]`.
  func taps(_ patches: ValueID, _ taps: ValueID?, into builder: inout GraphBuilder) throws(VitError)
    -> ValueID
  {
    let (high, wide) = (grid.kernelRows / 2, grid.kernelColumns / 2)
    let byChannel = try builder.add("onnx.Transpose", [patches], [("perm", .ints([0, 2, 1]))])
    var image = try builder.add(
      "onnx.Reshape", [byChannel, builder.integers([0, width, grid.rows, grid.columns])])
    let windows = try builder.add(
      "onnx.Reshape", [taps, builder.integers([width, 1, grid.kernelRows, grid.kernelColumns])])
    let plain = image
    var pads = [high, wide, high, wide]
    if grid.border == .edge {
      image = try builder.add(
        "onnx.Pad", [image, builder.integers(pads), nil, builder.integers([2, 3])],
        [("mode", .string("edge"))])
      pads = [0, 0, 0, 0]
    }
    var sums = try builder.add(
      "onnx.Conv", [image, windows], [("group", .int(width)), ("pads", .ints(pads))])
    if grid.border == .centre {
      // What the taps beyond the border weigh together: all of them less those inside.
      let ones = builder.constant(
        [Double](repeating: 1, count: grid.patches), shape: [1, 1, grid.rows, grid.columns],
        element: builder.graph.type(patches).element)
      let inside = try builder.add("onnx.Conv", [ones, windows], [("pads", .ints(pads))])
      let all = try builder.add(
        "onnx.ReduceSum", [windows, builder.integers([1, 2, 3])], [("keepdims", .int(0))])
      let column = try builder.add("onnx.Reshape", [all, builder.integers([width, 1, 1])])
      let outside = try builder.add("onnx.Sub", [column, inside])
      sums = try builder.add("onnx.Add", [sums, try builder.add("onnx.Mul", [plain, outside])])
    }
    let flat = try builder.add("onnx.Reshape", [sums, builder.integers([0, width, grid.patches])])
    return try builder.add("onnx.Transpose", [flat], [("perm", .ints([0, 2, 1]))])
  }
}
