import VitIR
import VitTestSupport

extension OpProblem {
  /// A recurrent operator, all of whose states are results.
  private static func recurrent(_ name: String, gates: Int, results: Int) -> OpProblem {
    OpProblem("onnx." + name) { draw in
      let (steps, dim, hidden) = (draw.rows, draw.columns, draw.pick([1, 3, 17]))
      let rows = gates * hidden
      return .of(
        draw.normal([steps, draw.batch, dim]), draw.normal([1, rows, dim], scale: 0.3),
        draw.normal([1, rows, hidden], scale: 0.3), draw.normal([1, 2 * rows], scale: 0.3),
        attributes: [
          "hidden_size": .int(hidden), "direction": .string(draw.pick(["forward", "reverse"])),
        ], results: results)
    }
  }

  /// Products of matrices, and attention.
  static let products: [OpProblem] = [
    OpProblem("onnx.MatMul") { draw in
      let inner = draw.pick([1, 5, 17])
      let right = [inner, draw.columns]
      return .of(
        draw.normal([draw.batch, draw.rows, inner]), draw.normal(draw.flip() ? right : [draw.batch] + right))
    },
    OpProblem("onnx.Gemm") { draw in
      let (inner, a, b) = (draw.pick([1, 5, 17]), draw.flip(), draw.flip())
      // Rows are the batch here.
      let rows = draw.extents == .emptyBatch ? 0 : draw.rows
      return .of(
        draw.normal(a ? [inner, rows] : [rows, inner]),
        draw.normal(b ? [draw.columns, inner] : [inner, draw.columns]),
        draw.normal([draw.columns]),
        attributes: [
          "transA": .int(a ? 1 : 0), "transB": .int(b ? 1 : 0), "alpha": .float(0.7), "beta": .float(1.3),
        ])
    },
    OpProblem("onnx.Einsum") { draw in
      let (b, t, c) = (draw.batch, draw.rows, draw.columns)
      switch draw.below(3) {
      case 0:
        return .of(
          draw.normal([b, t, 2, c]), draw.normal([b, 5, 2, c]),
          attributes: ["equation": .string("bihc,bjhc->bhij")])
      case 1:
        return .of(
          draw.normal([b, t, c]), draw.normal([c, 3]), attributes: ["equation": .string("btc,cd->btd")])
      default:
        return .of(draw.normal([b, t, c]), attributes: ["equation": .string("btc->bct")])
      }
    },
    OpProblem("onnx.Attention") { draw in
      let (keyHeads, width) = (draw.pick([1, 2]), draw.columns)
      let keys = draw.pick([1, 5, 9])
      return .of(
        draw.normal([draw.batch, 2, draw.rows, width]), draw.normal([draw.batch, keyHeads, keys, width]),
        draw.normal([draw.batch, keyHeads, keys, 3]),
        draw.flip() ? draw.normal([draw.rows, keys]) : nil,
        attributes: ["is_causal": .int(draw.below(2))], opset: 23)
    },
    OpProblem("onnx.RotaryEmbedding") { draw in
      let half = draw.columns
      return .of(
        draw.normal([draw.batch, 2, draw.rows, 2 * half]), draw.normal([8, half]), draw.normal([8, half]),
        draw.whole([draw.batch, draw.rows], 0...7), attributes: ["interleaved": .int(draw.below(2))],
        opset: 23)
    },
    recurrent("LSTM", gates: 4, results: 3), recurrent("GRU", gates: 3, results: 2),
    recurrent("RNN", gates: 1, results: 2),
  ]
}
