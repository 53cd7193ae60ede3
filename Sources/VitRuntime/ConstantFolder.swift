package import VitIR

/// Computes what nodes give whose operands are all known, by running their kernels.
package struct ConstantFolder {
  private let pool: any WorkPool
  private let limit: Int

  /// A folder that leaves alone what has more than `limit` elements: results, or operands together.
  package init(pool: any WorkPool, limit: Int = KnownValue.maximumIntegers) {
    self.pool = pool
    self.limit = limit
  }

  /// The results of a node as constants, or nothing where an operand is not known or something is too large.
  package func fold(_ node: Node, _ operands: Operands, _ results: [TensorType]) throws(VitError)
    -> [KnownValue?]
  {
    var total = 0
    for (type, value) in zip(operands.types, operands.values) {
      guard let type else { continue }
      guard let value, type.fixedShape != nil else { return [] }
      if case .integers(_, let elements) = value, !elements.allSatisfy(\.isFixed) { return [] }
      total += type.count
    }
    for type in results {
      guard type.fixedShape != nil else { return [] }
      total = max(total, type.count)
    }
    guard total <= limit else { return [] }
    let tensors = try ConstantFolder.evaluate(node.operation, operands, results, pool: pool)
    return tensors.map(KnownValue.tensor)
  }

  /// Runs one operation on known operands.
  package static func evaluate(
    _ operation: any Operation, _ operands: Operands, _ results: [TensorType], pool: any WorkPool
  ) throws(VitError) -> [Tensor] {
    let mode = ExecutionMode(training: false, workers: pool.workers)
    let inputTypes = operands.types.compactMap { $0 }
    try Blas.require(for: inputTypes + results, training: false, on: pool)
    let scratchTypes = operation.scratchTypes(operands, mode: mode)
    let blocks = inputTypes + results + scratchTypes
    let arena = try Arena(
      byteCount: blocks.reduce(0) { $0 + ArenaLayout.rounded($1.count * $1.element.size) },
      for: "computing a constant")
    var offset = 0
    func place(_ type: TensorType) -> View {
      defer { offset += ArenaLayout.rounded(type.count * type.element.size) }
      return arena.view(type, at: offset)
    }
    var inputs: [View?] = []
    for (type, value) in zip(operands.types, operands.values) {
      guard let type, let value else {
        inputs.append(nil)
        continue
      }
      let view = place(type)
      try Planner.store(value, in: view)
      inputs.append(view)
    }
    var outputs = results.map(place)
    let scratch = scratchTypes.map(place)
    if case .alias(let operand) = operation.memory, operand < inputs.count, let source = inputs[operand] {
      outputs[0] = source.reshaped(results[0].extents)
    } else {
      operation.forward(KernelContext(inputs: inputs, outputs: outputs, scratch: scratch, pool: pool))
    }
    do { return try outputs.map(Tensor.init(copying:)) } catch {
      throw VitError(error)
    }
  }
}
