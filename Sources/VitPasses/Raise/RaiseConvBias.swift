internal import VitIR
internal import VitOps

/// A constant for each channel that is added to a convolution without bias becomes its bias.
enum RaiseConvBias: Pattern {
  static let name = "conv-bias"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes where node.isAny(Onnx.add, VitAdd.self) {
      guard let a = node.operands[0], let b = node.operands[1], let result = node.results.first,
        rewriter.type(result).element == .f32
      else { continue }
      for (map, vector) in [(a, b), (b, a)] {
        guard rewriter.isUsedOnce(map), let conv = rewriter.node(Onnx.conv, defining: map),
          rewriter.constant(conv.operands[1]) != nil, conv.operands.count < 3 || conv.operands[2] == nil,
          let bias = rewriter.constant(vector), isChannels(bias.shape, of: rewriter.type(map))
        else { continue }
        rewriter.tryReplace(result, at: conv) { builder throws(VitError) in
          let flat =
            bias.shape.count == 1
            ? vector
            : builder.graph.addConstant(bias.reshaped([bias.count]), name: builder.graph[vector].name)
          return try builder.add(conv.operation, [conv.operands[0], conv.operands[1], flat])[0]
        }
        break
      }
    }
  }

  /// Whether a constant has one number for each channel of `[batch, channels, …]`.
  private static func isChannels(_ shape: [Int], of type: TensorType) -> Bool {
    guard shape.count <= type.rank, type.rank > 1 else { return false }
    let full = Array(repeating: 1, count: type.rank - shape.count) + shape
    return full.indices.allSatisfy { $0 == 1 ? type.shape[1] == .fixed(full[1]) : full[$0] == 1 }
  }
}
