package import VitIR

/// What ONNX Runtime's optimiser fuses, taken apart again into what it was.
package enum MicrosoftDecomposition {
  /// What `node` gives by standard operators; `nil` where it is none of those that are taken apart, or somebody who `isRead` tells of
  /// reads what is not computed again: the statistics of a normalisation.
  package static func results(
    of node: Node, isRead: (ValueID) -> Bool, into builder: inout GraphBuilder
  ) throws(VitError) -> [ValueID]? {
    guard let x = node.operands.first ?? nil else { return nil }
    func operand(_ index: Int) -> ValueID? { index < node.operands.count ? node.operands[index] : nil }
    func sum(_ a: ValueID, _ b: ValueID?, _ builder: inout GraphBuilder) throws(VitError) -> ValueID {
      guard let b else { return a }
      return try builder.add("onnx.Add", [a, b])
    }
    // Mean and deviation stand between the result and the sum.
    if node.results.dropFirst().prefix(2).contains(where: isRead) { return nil }
    switch node.operation {
    case is MicrosoftGelu, is MicrosoftBiasGelu:
      return [try builder.add("onnx.Gelu", [try sum(x, operand(1), &builder)])]
    case is MicrosoftFastGelu:
      return [
        try builder.add(
          "onnx.Gelu", [try sum(x, operand(1), &builder)], [("approximate", .string("tanh"))])
      ]
    case let operation as MicrosoftQuickGelu:
      let alpha = builder.constant([operation.alpha], shape: [], element: builder.graph.type(x).element)
      let gate = try builder.add("onnx.Sigmoid", [try builder.add("onnx.Mul", [x, alpha])])
      return [try builder.add("onnx.Mul", [x, gate])]
    case is MicrosoftBiasAdd:
      return [try sum(try sum(x, operand(1), &builder), operand(2), &builder)]
    case let operation as MicrosoftSkipNormalization<SkipLayerNormalizationKind>:
      let total = try sum(try sum(x, operand(1), &builder), operand(4), &builder)
      let result = try builder.add(
        "onnx.LayerNormalization", [total, operand(2)] + [operand(3)].compactMap { $0 },
        [("axis", .int(-1)), ("epsilon", .float(operation.norm.epsilon))])
      return node.results.indices.map { $0 == 0 ? result : total }
    case let operation as MicrosoftSkipNormalization<SkipSimplifiedLayerNormalizationKind>:
      let total = try sum(try sum(x, operand(1), &builder), operand(3), &builder)
      let result = try builder.add(
        "onnx.RMSNormalization", [total, operand(2)],
        [("axis", .int(-1)), ("epsilon", .float(operation.norm.epsilon))])
      return node.results.indices.map { $0 == 0 ? result : total }
    default: return nil
    }
  }
}
