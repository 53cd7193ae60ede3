import VitIR
import VitTestSupport

extension OpProblem {
  private static func activation(_ name: String, bias: Bool) -> OpProblem {
    OpProblem("com.microsoft." + name) { draw in
      let x = draw.normal(draw.shape)
      return bias ? .of(x, draw.normal([draw.columns])) : .of(x)
    }
  }

  private static func skip(_ name: String, shift: Bool) -> OpProblem {
    OpProblem("com.microsoft." + name, precision: 2e-5, followed: [0, 3]) { draw in
      let width = [draw.columns]
      return Problem(
        inputs: [draw.normal(draw.shape), draw.normal(draw.shape), draw.normal(width)]
          + (shift ? [draw.normal(width)] : []) + [draw.normal(width)],
        attributes: [("epsilon", .float(1e-3))], results: draw.pick([1, 4]))
    }
  }

  /// Operators of ONNX Runtime on floats.
  static let microsoft: [OpProblem] = [
    activation("Gelu", bias: false), activation("QuickGelu", bias: false), activation("FastGelu", bias: true),
    activation("BiasGelu", bias: true), skip("SkipLayerNormalization", shift: true),
    skip("SkipSimplifiedLayerNormalization", shift: false),
    OpProblem("com.microsoft.BiasAdd") { draw in
      .of(draw.normal(draw.shape), draw.normal([draw.columns]), draw.normal(draw.shape))
    },
    OpProblem("com.microsoft.BiasSplitGelu") { draw in
      .of(draw.normal([draw.batch, draw.rows, 2 * draw.columns]), draw.normal([2 * draw.columns]))
    },
    OpProblem("com.microsoft.BiasSoftmax") { draw in
      .of(
        draw.normal(draw.shape), draw.normal([1, draw.rows, draw.columns]),
        attributes: ["axis": .int(2), "is_inner_broadcast": .int(0)])
    },
    OpProblem("com.microsoft.FusedConv") { draw in
      let window = draw.window()
      return .of(
        draw.images(3), draw.normal([4, 3] + window), draw.normal([4]),
        attributes: [
          "activation": .string(draw.pick(["Relu", "Tanh", "Sigmoid"])), "pads": .ints([1, 1, 1, 1]),
        ])
    },
    OpProblem("com.microsoft.FusedGemm") { draw in
      let rows = draw.extents == .emptyBatch ? 0 : draw.rows
      return .of(
        draw.normal([rows, 5]), draw.normal([draw.columns, 5]), draw.normal([draw.columns]),
        attributes: ["transB": .int(1), "activation": .string(draw.pick(["Relu", "Tanh"]))])
    },
    OpProblem("com.microsoft.FusedMatMul") { draw in
      let (a, b) = (draw.flip(), draw.flip())
      return .of(
        draw.normal(a ? [draw.batch, 5, draw.rows] : [draw.batch, draw.rows, 5]),
        draw.normal(b ? [draw.batch, draw.columns, 5] : [draw.batch, 5, draw.columns]),
        attributes: ["transA": .int(a ? 1 : 0), "transB": .int(b ? 1 : 0), "alpha": .float(0.25)])
    },
    OpProblem("com.microsoft.TransposeMatMul") { draw in
      .of(
        draw.normal([draw.batch, 5, draw.rows]), draw.normal([5, draw.columns]),
        attributes: ["transA": .int(1), "alpha": .float(1.5)])
    },
    OpProblem("com.microsoft.GroupNorm", precision: 2e-5) { draw in
      .of(
        draw.normal([draw.batch, draw.rows, draw.columns, 6]), draw.normal([6]), draw.normal([6]),
        attributes: [
          "groups": .int(draw.pick([1, 2, 3])), "activation": .int(draw.below(2)), "epsilon": .float(1e-3),
        ])
    },
    OpProblem("com.microsoft.Attention") { draw in
      let dim = 2 * draw.columns
      return .of(
        draw.normal([draw.batch, draw.rows, dim]), draw.normal([dim, 3 * dim], scale: 0.3),
        draw.normal([3 * dim]), attributes: ["num_heads": .int(2), "unidirectional": .int(draw.below(2))])
    },
    OpProblem("com.microsoft.MultiHeadAttention") { draw in
      let (dim, keys) = (2 * draw.columns, draw.pick([1, 5]))
      return .of(
        draw.normal([draw.batch, draw.rows, dim]), draw.normal([draw.batch, keys, dim]),
        draw.normal([draw.batch, keys, 6]), draw.normal([2 * dim + 6]), attributes: ["num_heads": .int(2)])
    },
    OpProblem("com.microsoft.RelativePositionBias") { draw in
      .of(
        draw.normal([8, 3]), .scalar(Double(draw.rows), .i64), .scalar(Double(draw.columns), .i64),
        attributes: ["max_distance": .int(draw.pick([5, 20])), "is_bidirectional": .int(draw.below(2))],
        known: [1, 2])
    },
    OpProblem("com.microsoft.RotaryEmbedding") { draw in
      let half = draw.columns
      return .of(
        draw.normal([draw.batch, 2, draw.rows, 2 * half]), draw.whole([draw.batch, draw.rows], 0...7),
        draw.normal([8, half]), draw.normal([8, half]), attributes: ["interleaved": .int(draw.below(2))])
    },
  ]
}
