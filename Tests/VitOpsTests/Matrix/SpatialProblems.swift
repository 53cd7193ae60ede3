import VitIR
import VitTestSupport

extension Draw {
  /// Images of this many channels.
  mutating func images(_ channels: Int) -> Tensor { normal([batch, channels, rows, columns]) }

  /// A window that fits the images once they are padded by one pixel all around.
  mutating func window() -> [Int] { [1 + below(min(rows + 2, 3)), 1 + below(min(columns + 2, 3))] }
}

extension OpProblem {
  private static func pool(_ name: String, _ more: [(String, Attribute)] = []) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      let x = draw.images(3)
      let window = draw.window()
      // A window may not lie in the padding alone.
      let pads = window.map { $0 > 1 ? 1 : 0 }
      return Problem(
        inputs: [x],
        attributes: [
          ("kernel_shape", .ints(window)), ("pads", .ints(pads + pads)),
          ("strides", .ints([draw.pick([1, 2]), draw.pick([1, 2])])),
        ] + more, results: 1, opset: 19)
    }
  }

  /// Operations on images.
  static let spatial: [OpProblem] = [
    OpProblem("onnx.Conv") { draw in
      let group = draw.pick([1, 2, 4])
      let window = draw.window()
      return .of(
        draw.images(4), draw.normal([8, 4 / group] + window), draw.normal([8]),
        attributes: [
          "group": .int(group), "pads": .ints([1, 1, 1, 1]), "strides": .ints([1, draw.pick([1, 2])]),
        ])
    },
    OpProblem("onnx.ConvTranspose") { draw in
      let group = draw.pick([1, 2])
      return .of(
        draw.images(4), draw.normal([4, 3, 2, 3]), draw.normal([3 * group]),
        attributes: ["group": .int(group), "strides": .ints([2, draw.pick([1, 2])])])
    },
    pool("MaxPool"), pool("AveragePool", [("count_include_pad", .int(1))]), pool("LpPool", [("p", .int(2))]),
    OpProblem("onnx.GlobalAveragePool") { draw in .of(draw.images(3)) },
    OpProblem("onnx.GlobalMaxPool") { draw in .of(draw.images(3)) },
    OpProblem("onnx.Resize") { draw in
      .of(
        draw.images(3), nil, nil, .list([draw.batch, 3, draw.pick([1, 4, 9]), draw.pick([2, 13])]),
        attributes: ["mode": .string(draw.pick(["nearest", "linear", "cubic"]))], opset: 13)
    },
    OpProblem("onnx.Upsample") { draw in
      .of(
        draw.images(3), Tensor(.f32, shape: [4], values: [1, 1, 2, 3]),
        attributes: ["mode": .string(draw.pick(["nearest", "linear"]))], opset: 9,
        known: [1])
    },
    OpProblem("onnx.GridSample") { draw in
      .of(
        draw.images(3), draw.uniform([draw.batch, 4, 5, 2], -1.2...1.2),
        attributes: [
          "mode": .string(draw.pick(["bilinear", "nearest", "bicubic"])),
          "padding_mode": .string(draw.pick(["zeros", "border", "reflection"])),
          "align_corners": .int(draw.below(2)),
        ], opset: 16)
    },
    OpProblem("onnx.AffineGrid") { draw in
      .of(
        draw.normal([draw.batch, 2, 3]), .list([draw.batch, 3, draw.rows, draw.columns]),
        attributes: ["align_corners": .int(draw.below(2))], opset: 20)
    },
    OpProblem("onnx.Col2Im") { draw in
      let window = [min(draw.rows, 2), min(draw.columns, 3)]
      let places = (draw.rows - window[0] + 1) * (draw.columns - window[1] + 1)
      return .of(
        draw.normal([draw.batch, 3 * window[0] * window[1], places]), .list([draw.rows, draw.columns]),
        .list(window), opset: 18)
    },
  ]
}
