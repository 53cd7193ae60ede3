internal import VitIR
internal import VitOps

/// `MatMul` or `Gemm` with a constant matrix becomes `vit.linear`, whose weight is [out, in].
enum RaiseMatMul: Pattern {
  static let name = "linear"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes {
      guard let result = node.results.first, let x = node.operands.first.flatMap({ $0 }) else { continue }
      switch node.name {
      case Onnx.matMul.name:
        guard let weight = node.operands[1], let tensor = rewriter.constant(weight), tensor.shape.count >= 2,
          tensor.shape.dropLast(2).allSatisfy({ $0 == 1 }), rewriter.type(x).rank >= tensor.shape.count,
          rewriter.type(x).element == .f32, rewriter.constant(x) == nil
        else { continue }
        rewriter.tryReplace(result, at: node) { builder throws(VitError) in
          let transposed = try builder.transposedWeight(weight)
          return try builder.add(VitLinear.self, [x, transposed])
        }
      case Onnx.gemm.name:
        gemm(node, x, result, &rewriter)
      default: continue
      }
    }
  }

  private static func gemm(_ node: Node, _ x: ValueID, _ result: ValueID, _ rewriter: inout Rewriter) {
    let attributes = node.operation.attributes
    func flag(_ name: String) -> Bool {
      switch attributes[name] {
      case .bool(let value)?: value
      case .int(let value)?: value != 0
      default: false
      }
    }
    func factor(_ name: String) -> Double {
      if case .float(let value)? = attributes[name] { value } else { 1 }
    }
    guard !flag("transA"), let weight = node.operands[1],
      rewriter.constant(weight) != nil, rewriter.type(x).element == .f32
    else { return }
    let bias = node.operands.count > 2 ? node.operands[2] : nil
    let rows = rewriter.type(weight).shape[flag("transB") ? 0 : 1]
    if let bias {
      let type = rewriter.type(bias)
      guard rewriter.constant(bias) != nil, type.elements == rows, type.shape.last == rows else { return }
    }
    rewriter.tryReplace(result, at: node) { builder throws(VitError) in
      let matrix = flag("transB") ? weight : try builder.transposedWeight(weight)
      let vector = try bias.map { id throws(VitError) in try builder.vector(id) }
      return try builder.add(
        VitLinear.self,
        [
          x, try builder.scaled(matrix, by: factor("alpha")),
          try vector.map { id throws(VitError) in try builder.scaled(id, by: factor("beta")) },
        ])
    }
  }
}

/// Additions of values of one shape (or of a table without the batch axis) become `vit.add`, multiplications
/// with a constant vector `vit.scale`.
enum RaiseResidual: Pattern {
  static let name = "residual"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes {
      guard node.operands.count == 2, let a = node.operands[0], let b = node.operands[1],
        let result = node.results.first, rewriter.type(result).element == .f32
      else { continue }
      let shape = rewriter.type(result).shape
      switch node.name {
      case Onnx.add.name
      where rewriter.type(a).shape == shape && rewriter.type(b).shape == shape && shape.count >= 3:
        rewriter.tryReplace(result, at: node) { builder throws(VitError) in
          try builder.add(VitAdd.self, [a, b])
        }
      case Onnx.mul.name:
        for (x, gamma) in [(a, b), (b, a)] {
          guard rewriter.constant(gamma) != nil, rewriter.constant(x) == nil, rewriter.type(x).shape == shape,
            shape.count >= 3, let width = shape.last, width != 1, rewriter.type(gamma).elements == width,
            rewriter.type(gamma).shape.last == width
          else { continue }
          rewriter.tryReplace(result, at: node) { builder throws(VitError) in
            try builder.add(VitScale.self, [x, try builder.vector(gamma)])
          }
          break
        }
      default: continue
      }
    }
  }
}

extension GraphBuilder {
  /// A constant matrix, transposed.
  mutating func transposedWeight(_ id: ValueID) throws(VitError) -> ValueID {
    guard let tensor = graph.tensor(id), tensor.shape.count >= 2,
      tensor.shape.dropLast(2).allSatisfy({ $0 == 1 })
    else { throw VitError("expected a constant matrix") }
    let name = graph[id].name
    return graph.addConstant(tensor.reshaped(tensor.shape.suffix(2)).transposed(), name: name)
  }

  /// A constant times a number; itself where that is one.
  mutating func scaled(_ id: ValueID, by factor: Double) throws(VitError) -> ValueID {
    guard factor != 1 else { return id }
    guard let tensor = graph.tensor(id) else { throw VitError("expected a constant") }
    let factors = Tensor(.f32, shape: [], values: [factor])
    return graph.addConstant(try tensor.scaled(by: factors, axis: 0), name: graph[id].name)
  }

  /// A constant with as many elements as its last axis, as a vector.
  mutating func vector(_ id: ValueID) throws(VitError) -> ValueID {
    guard let tensor = graph.tensor(id) else { throw VitError("expected a constant vector") }
    return tensor.shape.count == 1
      ? id : graph.addConstant(tensor.reshaped([tensor.count]), name: graph[id].name)
  }

  /// The rows of a constant matrix (or entries of a vector) that `rows` lists; the constant itself where it
  /// lists all.
  mutating func rows(_ rows: [Int], of id: ValueID) throws(VitError) -> ValueID {
    guard let tensor = graph.tensor(id), let count = tensor.shape.first,
      rows.allSatisfy({ $0 >= 0 && $0 < count })
    else { throw VitError("expected a constant with the rows \(rows)") }
    if rows == Array(0..<count) { return id }
    return graph.addConstant(tensor.selecting(rows), name: graph[id].name)
  }
}

/// Runs `body`; what it throws comes out as a `VitError`.
func rethrowing<Result>(_ body: () throws -> Result) throws(VitError) -> Result {
  do { return try body() } catch {
    throw (error as? VitError) ?? VitError("\(error)", kind: .environment, code: "internal")
  }
}
