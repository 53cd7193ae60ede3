extension Graph {
  /// The graph with its weights rounded to a narrower element type, `f16` or `bf16`: half the bytes.
  ///
  /// Weights are `f32` constants with more than one axis that is longer than 1: matrices, convolutions,
  /// embeddings. Biases, gains and scales keep their precision, which costs next to nothing; so do masks,
  /// statistics and other numbers that no layer has learned, and a tensor in which one would become infinite. `f32` leaves the graph as it is. Results are computed in
  /// `f32` as before, from rounded numbers: what is measured on the rounded graph holds for the file. Throws
  /// where a tensor cannot be read.
  public func roundingWeights(to element: ElementType) throws -> Graph {
    guard element == .f16 || element == .bf16 else { return self }
    var result = self
    let roles = ValueRoles(self)
    for (index, value) in values.enumerated() where value.isConstant {
      guard roles.isLearned(ValueID(index), of: self), let tensor = tensors[value.name],
        tensor.element == .f32,
        tensor.shape.filter({ $0 > 1 }).count > 1, let rounded = try tensor.rounded(to: element)
      else { continue }
      result.setTensor(rounded, of: ValueID(index))
    }
    return result
  }
}

extension Tensor {
  /// This `f32` tensor in 16 bits, or `nil` where a finite number would become infinite.
  package func rounded(to element: ElementType) throws -> Tensor? {
    try storage.withBytes { bytes in
      var overflows = false
      let result = try Tensor(element, shape: shape) { buffer in
        for index in 0..<count {
          let value = bytes.loadUnaligned(fromByteOffset: index * 4, as: Float.self)
          let bits = element == .f16 ? value.halfBits : value.brainBits
          let infinity: UInt16 = element == .f16 ? 0x7c00 : 0x7f80
          if bits & 0x7fff == infinity && value.isFinite { overflows = true }
          buffer.storeBytes(of: bits, toByteOffset: index * 2, as: UInt16.self)
        }
      }
      return overflows ? nil : result
    }
  }
}
