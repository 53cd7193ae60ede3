import VitIR
import VitOps
import VitTestSupport

extension OpProblem {
  /// A mixer with its first values, on an image of `rows` by two patches and the tokens before them.
  private static func mixer(
    _ name: String, _ kind: String,
    _ options: @escaping @Sendable (inout Draw) -> Attributes = { _ in Attributes() }
  ) -> OpProblem {
    OpProblem(name) { draw in
      let pattern = draw.pick(ScanOrder.Pattern.allCases)
      let prefix = draw.below(3)
      let order = try ScanOrder(
        pattern, grid: .init(rows: draw.rows, columns: 2), prefix: prefix, outputs: min(prefix, 1),
        placement: draw.pick(ScanOrder.Placement.allCases))
      let kind = try Mixers.named(kind)
      let options = options(&draw)
      let splitsHeads = try kind.splitsHeads(options)
      let heads = splitsHeads ? order.directionCount : draw.pick([1, 3])
      let layout = try MixerLayout(
        dim: draw.columns, outputDim: draw.pick([1, draw.columns]), width: heads * draw.pick([1, 3]),
        heads: heads, order: order, ownsPrefix: draw.flip(), splitsHeads: splitsHeads)
      let mixer = try kind.make(layout, options)
      var random = SplitMix(seed: UInt64(draw.below(1000)))
      let parameters = try mixer.initialise(layout, from: nil, random: &random)
      let isMerged = mixer.table != nil && draw.flip()
      let tokens = isMerged ? prefix + draw.rows : order.tokens
      let x = draw.normal([draw.batch, tokens, draw.columns])
      let attributes = mixer.attributes.entries.map { ($0.name, $0.value) }
      let sizes = mixer.sizes == nil ? [] : [draw.logarithms([draw.batch, 1, 1, order.tokens], 1...3)]
      let table =
        isMerged ? [table(&draw, prefix, tokens, order.grid.count)] : []
      return Problem(inputs: [x] + parameters + sizes + table, attributes: attributes, results: 1)
    }
  }

  private static func activation(_ draw: inout Draw) -> Attribute {
    .string(draw.pick(["none", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid", "mish"]))
  }

  /// The operations that attention blocks are raised to, and the mixers.
  static let vit: [OpProblem] =
    [
      mixer("vit.conv", "conv") { draw in
        Attributes([
          ("kernel", .ints([draw.pick([1, 3, 5]), draw.pick([1, 3])])),
          ("border", .string(draw.pick(["zero", "edge", "centre"]))), ("mean", .bool(draw.flip())),
        ])
      },
      mixer("vit.glr", "glr"), mixer("vit.lstm", "lstm"),
      mixer("vit.lstm_full", "lstm") { _ in Attributes([("form", .string("full"))]) },
      mixer("vit.none", "none"), mixer("vit.pointwise", "pointwise"), mixer("vit.static", "static"),
      mixer("vit.ssd", "ssd") { draw in
        Attributes([
          ("conv", .int(draw.pick([0, 1, 4]))), ("act", .string(draw.pick(["none", "silu"]))),
          ("write", .string(draw.pick(["one", "delta"]))), ("gate", .bool(draw.flip())),
          ("skip", .bool(draw.flip())), ("form", .string(draw.pick(["split", "full"]))),
        ])
      },
      OpProblem("vit.add") { draw in
        .of(draw.normal(draw.shape), draw.normal(draw.pick([draw.shape, Array(draw.shape.dropFirst())])))
      },
      OpProblem("vit.scale") { draw in .of(draw.normal(draw.shape), draw.normal([draw.columns])) },
      OpProblem("vit.layer_norm", precision: 2e-5) { draw in
        .of(
          draw.normal(draw.shape), draw.normal([draw.columns]),
          draw.flip() ? draw.normal([draw.columns]) : nil, attributes: ["epsilon": .float(1e-3)])
      },
      OpProblem("vit.linear") { draw in
        let width = draw.pick([1, 5, 19])
        return .of(
          draw.normal(draw.shape), draw.normal([width, draw.columns]),
          draw.flip() ? draw.normal([width]) : nil, attributes: ["activation": activation(&draw)])
      },
      OpProblem("vit.mlp") { draw in
        let width = draw.pick([1, 5, 19])
        return .of(
          draw.normal(draw.shape), draw.normal([width, draw.columns], scale: 0.5), draw.normal([width]),
          draw.normal([draw.columns, width]), draw.flip() ? draw.normal([draw.columns]) : nil,
          attributes: ["activation": activation(&draw)])
      },
      OpProblem("vit.patch_embed") { draw in
        .of(draw.images(3), draw.normal([5, 3, min(draw.rows, 2), min(draw.columns, 3)]), draw.normal([5]))
      },
      OpProblem("vit.sdpa") { draw in
        let (groups, keys) = (draw.pick([1, 2]), draw.pick([1, 5, 9]))
        return .of(
          draw.normal([draw.batch, 2, draw.rows, draw.columns]),
          draw.normal([draw.batch, groups, keys, draw.columns]), draw.normal([draw.batch, groups, keys, 3]),
          draw.flip() ? draw.normal([2, draw.rows, keys]) : nil, attributes: ["causal": .bool(draw.flip())])
      },
      OpProblem("vit.prefix_attention") { draw in
        let (dim, heads, width, prefix) = (draw.columns, 2, draw.pick([1, 3]), draw.pick([1, draw.rows]))
        let inner = heads * width
        return .of(
          draw.normal(draw.shape), draw.normal([draw.batch, draw.rows, 5]),
          draw.normal([inner, dim], scale: 0.5), draw.flip() ? draw.normal([inner]) : nil,
          draw.normal([inner, dim], scale: 0.5), draw.normal([inner, dim]), draw.normal([inner]),
          draw.normal([5, inner]), draw.normal([5]),
          draw.flip() ? draw.normal([draw.batch, 1, 1, draw.rows]) : nil,
          attributes: ["heads": .int(heads), "prefix": .int(prefix), "scale": .float(0.5)])
      },
      OpProblem("vit.attention") { draw in
        let (dim, heads, width) = (draw.columns, 2, draw.pick([1, 3]))
        let inner = heads * width
        return .of(
          draw.normal(draw.shape), draw.normal([inner, dim], scale: 0.5), draw.normal([inner]),
          draw.normal([inner, dim], scale: 0.5), nil, draw.normal([inner, dim]), draw.normal([inner]),
          draw.normal([dim, inner]), draw.normal([dim]),
          draw.flip() ? draw.normal([heads, draw.rows, draw.rows]) : nil,
          attributes: ["heads": .int(heads), "causal": .bool(draw.flip())])
      },
    ]
}
