import VitIR
import VitTestSupport

extension OpProblem {
  private static func softmax(_ name: String) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      .of(draw.normal(draw.shape, scale: 2), attributes: ["axis": .int(draw.pick([-1, 1]))], opset: 13)
    }
  }

  private static func extreme(_ name: String) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      .of(
        draw.normal(draw.shape),
        attributes: ["axis": .int(draw.pick([-1, 1])), "keepdims": .int(draw.below(2))])
    }
  }

  private static func reduction(_ name: String, _ range: ClosedRange<Double> = -2...2) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      .of(
        draw.uniform(draw.shape, range), .list(draw.pick([[-1], [1], [1, 2]])),
        attributes: ["keepdims": .int(draw.below(2))], opset: 18)
    }
  }

  /// A normalisation of the last axis, with as many results as it may have.
  private static func normalisation(_ name: String, bias: Bool, results: Int) -> OpProblem {
    OpProblem("onnx." + name, precision: 2e-5, followed: [0]) { draw in
      Problem(
        inputs: [draw.normal(draw.shape), draw.normal([draw.columns])]
          + (bias ? [draw.normal([draw.columns])] : []),
        attributes: [("epsilon", .float(1e-3))], results: 1 + draw.below(results))
    }
  }

  /// What is computed along rows, channels and axes.
  static let rows: [OpProblem] =
    ["Softmax", "LogSoftmax", "Hardmax"].map(softmax) + ["ArgMax", "ArgMin"].map(extreme)
    + ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"]
    .map { reduction($0) }
    + [
      reduction("ReduceSum"), reduction("ReduceSumSquare"), reduction("ReduceLogSum", 0.2...2),
      normalisation("LayerNormalization", bias: true, results: 3),
      normalisation("RMSNormalization", bias: false, results: 1),
      normalisation("SimplifiedLayerNormalization", bias: false, results: 2),
      OpProblem("onnx.CumSum") { draw in
        .of(
          draw.normal(draw.shape), .scalar(Double(draw.pick([-1, 1])), .i64),
          attributes: ["exclusive": .int(draw.below(2)), "reverse": .int(draw.below(2))])
      },
      OpProblem("onnx.LpNormalization") { draw in
        .of(
          draw.uniform(draw.shape, 0.2...2),
          attributes: ["axis": .int(draw.pick([-1, 1])), "p": .int(draw.pick([1, 2]))])
      },
      OpProblem("onnx.LRN") { draw in
        .of(
          draw.normal([draw.batch, draw.columns, draw.rows, 3]),
          attributes: ["size": .int(3), "alpha": .float(0.3)])
      },
      OpProblem("onnx.MeanVarianceNormalization", precision: 2e-5) { draw in
        // A variance that is nothing but rounding says nothing of precision.
        .of(
          draw.normal([draw.batch, draw.columns + 1, draw.rows + 1, 3]),
          attributes: ["axes": .ints(draw.pick([[2, 3], [-3, 3], [1]]))])
      },
      OpProblem("onnx.BatchNormalization") { draw in
        let channels = draw.columns
        return .of(
          draw.normal([draw.batch, channels, draw.rows, 3]), draw.normal([channels]), draw.normal([channels]),
          draw.normal([channels]), draw.uniform([channels], 0.5...2))
      },
      OpProblem("onnx.InstanceNormalization", precision: 2e-5) { draw in
        .of(
          draw.normal([draw.batch, 3, draw.rows, draw.columns]), draw.normal([3]), draw.normal([3]),
          attributes: ["epsilon": .float(1e-3)])
      },
      OpProblem("onnx.GroupNormalization", precision: 2e-5) { draw in
        .of(
          draw.normal([draw.batch, 6, draw.rows, draw.columns]), draw.normal([6]), draw.normal([6]),
          attributes: ["num_groups": .int(draw.pick([1, 2, 3, 6])), "epsilon": .float(1e-3)], opset: 21)
      },
    ]
}
