import VitIR
import VitTestSupport

extension OpProblem {
  /// An operation on one float tensor and a list of numbers that the type rule must know.
  private static func listed(
    _ name: String, _ list: @escaping @Sendable (inout Draw) -> [Int]
  ) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      let numbers = list(&draw)
      return .of(draw.normal(draw.shape), .list(numbers))
    }
  }

  /// What moves numbers without looking at them.
  static let movement: [OpProblem] = [
    OpProblem("onnx.Identity") { draw in .of(draw.normal(draw.shape)) },
    listed("Reshape") { [$0.batch, $0.rows * $0.columns] },
    listed("Expand") { [2, $0.batch, $0.rows, $0.columns] },
    listed("Tile") { [1, $0.pick([1, 2]), 3] },
    listed("Unsqueeze") { $0.pick([[0], [-1], [1, 2]]) },
    listed("Pad") { [0, $0.below(3), $0.below(2), 0, $0.below(3), 2] },
    listed("CenterCropPad") { [$0.batch, $0.pick([1, 4]), $0.pick([2, 11])] },
    OpProblem("onnx.Squeeze") { draw in
      .of(draw.normal([draw.batch, 1, draw.rows, 1, draw.columns]), .list([1, -2]))
    },
    OpProblem("onnx.Flatten") { draw in
      .of(draw.normal(draw.shape), attributes: ["axis": .int(draw.pick([0, 1, 2, 3]))])
    },
    OpProblem("onnx.Transpose") { draw in
      .of(
        draw.normal(draw.shape), attributes: ["perm": .ints(draw.pick([[0, 2, 1], [2, 1, 0], [1, 0, 2]]))])
    },
    OpProblem("onnx.DepthToSpace") { draw in
      .of(
        draw.normal([draw.batch, 8, draw.rows, draw.columns]),
        attributes: ["blocksize": .int(2), "mode": .string(draw.pick(["DCR", "CRD"]))])
    },
    OpProblem("onnx.SpaceToDepth") { draw in
      .of(
        draw.normal([draw.batch, 3, 2 * draw.rows, 2 * draw.columns]),
        attributes: ["blocksize": .int(2), "mode": .string(draw.pick(["DCR", "CRD"]))])
    },
    OpProblem("onnx.Concat") { draw in
      .of(
        draw.normal(draw.shape), draw.normal([draw.batch, 2, draw.columns]),
        draw.normal([draw.batch, 0, draw.columns]), attributes: ["axis": .int(1)])
    },
    OpProblem("onnx.Split") { draw in
      .of(
        draw.normal([draw.batch, draw.rows + 2, draw.columns]), .list([draw.rows, 2]),
        attributes: ["axis": .int(1)], results: 2)
    },
    OpProblem("onnx.Slice") { draw in
      .of(
        draw.normal(draw.shape), .list([draw.rows - 1, 0]), .list([Int(Int32.min), draw.columns]),
        .list([1, 2]), .list([-draw.pick([1, 2]), 1]))
    },
    OpProblem("onnx.Trilu") { draw in
      .of(
        draw.normal(draw.shape), .scalar(Double(draw.pick([-1, 0, 2])), .i64),
        attributes: ["upper": .int(draw.below(2))])
    },
    OpProblem("onnx.ReverseSequence") { draw in
      .of(
        draw.normal(draw.shape), draw.whole([draw.batch], 1...draw.rows),
        attributes: ["batch_axis": .int(0), "time_axis": .int(1)])
    },
    OpProblem("onnx.Where") { draw in
      .of(
        draw.bools([draw.batch, draw.rows, 1]), draw.normal(draw.broadcasting(to: draw.shape)),
        draw.normal(draw.shape))
    },
    OpProblem("onnx.Cast") { draw in
      .of(draw.normal(draw.shape, scale: 9), attributes: ["to": .int(draw.pick([1, 6, 7, 9, 11]))])
    },
    OpProblem("onnx.CastLike") { draw in
      .of(draw.normal(draw.shape, scale: 9), .scalar(0, draw.pick([.i64, .i32, .bool])))
    },
  ]

  /// What looks numbers up, and what makes them of shapes.
  static let indexing: [OpProblem] = [
    OpProblem("onnx.Gather") { draw in
      .of(
        draw.normal(draw.shape), draw.whole([2, 2], -draw.rows...(draw.rows - 1)),
        attributes: ["axis": .int(1)])
    },
    OpProblem("onnx.GatherElements") { draw in
      .of(
        draw.normal(draw.shape),
        draw.whole([draw.batch, 2, draw.columns], -draw.rows...(draw.rows - 1), .i32),
        attributes: ["axis": .int(1)])
    },
    OpProblem("onnx.GatherND") { draw in
      .of(
        draw.normal(draw.shape), draw.whole([draw.batch, 3, 1], -draw.rows...(draw.rows - 1)),
        attributes: ["batch_dims": .int(1)])
    },
    OpProblem("onnx.ScatterElements") { draw in
      let shape = [draw.batch, 2, draw.columns]
      // Two equal places without a sum: which one is kept is nobody's to say.
      return .of(
        draw.normal(draw.shape), draw.whole(shape, 0...(draw.rows - 1)), draw.normal(shape),
        attributes: ["axis": .int(1), "reduction": .string("add")], opset: 18)
    },
    OpProblem("onnx.ScatterND") { draw in
      let rows = draw.extents == .emptyBatch ? 0 : draw.rows
      return .of(
        draw.normal([rows, draw.columns]), draw.whole([rows, 1], 0...max(0, rows - 1)),
        draw.normal([rows, draw.columns]), attributes: ["reduction": .string("add")], opset: 18)
    },
    OpProblem("onnx.TopK") { draw in
      .of(
        draw.normal(draw.shape), .list([draw.pick([1, draw.rows])]),
        attributes: ["axis": .int(1), "largest": .int(draw.below(2))], results: 2)
    },
    OpProblem("onnx.Compress") { draw in
      .of(draw.normal(draw.shape), draw.bools([draw.rows]), attributes: ["axis": .int(1)])
    },
    OpProblem("onnx.NonZero") { draw in .of(draw.whole(draw.shape, 0...1)) },
    OpProblem("onnx.OneHot") { draw in
      .of(
        draw.whole([draw.batch, draw.rows], -4...4), .scalar(4, .i64), draw.normal([2]),
        attributes: ["axis": .int(draw.pick([-1, 1]))])
    },
    OpProblem("onnx.EyeLike") { draw in
      .of(draw.normal([draw.rows, draw.columns]), attributes: ["k": .int(draw.pick([-1, 0, 1]))])
    },
    OpProblem("onnx.Range") { draw in
      .of(.scalar(Double(draw.rows), .i64), .scalar(Double(-draw.columns), .i64), .scalar(-2, .i64))
    },
    OpProblem("onnx.ConstantOfShape") { draw in
      .of(.list(draw.shape), attributes: ["element": .int(1), "value": .float(0.5)])
    },
    OpProblem("onnx.Shape") { draw in .of(draw.normal(draw.shape), attributes: ["start": .int(-2)]) },
    OpProblem("onnx.Size") { draw in .of(draw.normal(draw.shape)) },
  ]
}
