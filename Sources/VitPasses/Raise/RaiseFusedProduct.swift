internal import VitIR
internal import VitOps

/// ONNX Runtime's product of transposed factors times a number becomes transposes, a product and a factor, which the other
/// patterns know.
enum RaiseFusedProduct: Pattern {
  static let name = "fused-product"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes where node.isAny(Microsoft.fusedMatMul) {
      guard let a = node.operands[0], let b = node.operands[1], let result = node.results.first,
        rewriter.type(a).rank >= 2, rewriter.type(b).rank >= 2
      else { continue }
      let attributes = node.operation.attributes
      func flag(_ name: String) -> Bool {
        switch attributes[name] {
        case .bool(let value)?: value
        case .int(let value)?: value != 0
        default: false
        }
      }
      guard !flag("transBatchA"), !flag("transBatchB") else { continue }
      var alpha = 1.0
      if case .float(let value)? = attributes["alpha"] { alpha = value }
      rewriter.tryReplace(result, at: node) { builder throws(VitError) in
        func factor(_ id: ValueID, _ isTurned: Bool) throws(VitError) -> ValueID {
          guard isTurned else { return id }
          let rank = builder.graph.type(id).rank
          return try builder.graph[id].isConstant && rank == 2
            ? builder.transposedWeight(id) : builder.turned(id, rank: rank)
        }
        var (left, right) = (try factor(a, flag("transA")), try factor(b, flag("transB")))
        // A factor of constants is theirs.
        let hasConstant = [left, right].contains { builder.graph[$0].isConstant }
        if alpha != 1, builder.graph[right].isConstant {
          right = try builder.scaled(right, by: alpha)
        } else if alpha != 1, builder.graph[left].isConstant {
          left = try builder.scaled(left, by: alpha)
        }
        let product = try builder.add(Onnx.matMul, [left, right])
        guard alpha != 1, !hasConstant else { return product }
        return try builder.add(Onnx.mul, [product, builder.constant([alpha], shape: [])])
      }
    }
  }
}
