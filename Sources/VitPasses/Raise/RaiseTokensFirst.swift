internal import VitIR
internal import VitOps

/// Layers whose tokens lie as [tokens, batch, width] get [batch, tokens, width] where they begin and end, between transposes
/// that go there and back: a mixer can stand there.
enum RaiseTokensFirst: Pattern {
  static let name = "tokens-first"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    var finder = LayerFinder(rewriter.graph)
    finder.run()
    for layer in finder.layers where layer.obstacle != nil {
      guard let input = layer.input, let output = layer.output else { continue }
      for value in [input, output] where isTokensFirst(value, finder) {
        guard !rewriter.isReplaced(value), let (_, node) = rewriter.producer(of: value) else { continue }
        rewriter.tryReplace(value, at: node) { builder throws(VitError) in
          let turned = try builder.add(Onnx.transpose, [value], [("perm", .ints([1, 0, 2]))])
          return try builder.add(Onnx.transpose, [turned], [("perm", .ints([1, 0, 2]))])
        }
      }
    }
  }

  private static func isTokensFirst(_ id: ValueID, _ finder: LayerFinder) -> Bool {
    let shape = finder.shape(id)
    return shape.count == 3 && shape[1] == finder.batch && shape[0] != finder.batch
  }
}
