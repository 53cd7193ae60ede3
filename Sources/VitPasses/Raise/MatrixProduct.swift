internal import VitIR

/// Products of matrices in all their forms.
enum MatrixProduct {
  /// The operands that are multiplied, rows of the first with columns of the second, or `nil` for another operation.
  static func factors(_ node: Node) -> (left: ValueID, right: ValueID)? {
    guard let place = rightOperand[node.name], node.operands.count > place, let left = node.operands[0],
      let right = node.operands[place], !isTransposed(node)
    else { return nil }
    return (left, right)
  }

  /// Where the second matrix stands among the operands.
  private static let rightOperand: [String: Int] = [
    "onnx.MatMul": 1, "onnx.MatMulInteger": 1, "onnx.QLinearMatMul": 3, "com.microsoft.FusedMatMul": 1,
    "com.microsoft.MatMulIntegerToFloat": 1, "com.microsoft.DynamicQuantizeMatMul": 1,
  ]

  private static func isTransposed(_ node: Node) -> Bool {
    ["transA", "transB", "transBatchA", "transBatchB"].contains { name in
      switch node.operation.attributes[name] {
      case .bool(let value)?: value
      case .int(let value)?: value != 0
      default: false
      }
    }
  }
}
