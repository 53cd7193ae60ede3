internal import VitIR
internal import VitPasses

/// Runs of models whose batch is fixed, on other numbers of images.
extension Session {
  /// How many images run at a time where the batch is fixed at that number and `inputs` hold another; else `nil`.
  ///
  /// Images have four axes or more: of what has fewer, nothing says that the first axis counts samples.
  func partSize(first shape: [Int]?, of inputs: Int) -> Int? {
    guard let count = fixedBatch, let id = graph.inputs.first, let shape, inputs == graph.inputs.count,
      shape.count == graph.type(id).rank, shape.count > 3, shape[0] > 0, shape[0] != count
    else { return nil }
    return count
  }

  /// The shapes of the outputs for inputs of these shapes, both in the model's order. Plans the run, which is kept for it. Throws where a shape is not
  /// the model's.
  public func outputShapes(for shapes: [[Int]]) throws -> [[Int]] {
    guard let size = partSize(first: shapes.first, of: shapes.count) else {
      return try plannedShapes(for: shapes)
    }
    let total = shapes[0][0]
    try checkParts(of: size, total)
    let parts = zip(graph.inputs, shapes).map { id, shape in
      isCut(graph.type(id), size, shape, total) ? [size] + shape.dropFirst() : shape
    }
    return try plannedShapes(for: parts).map { [total] + $0.dropFirst() }
  }

  /// Whether an input is handed over in parts: it has a row for each of `total` images, and the model for `count`.
  private func isCut(_ type: TensorType, _ count: Int, _ shape: [Int], _ total: Int) -> Bool {
    type.shape.first == .fixed(count) && shape.first == total
  }

  /// Throws where an output has no row for each image.
  private func checkParts(of count: Int, _ total: Int) throws(VitError) {
    if let output = graph.outputs.first(where: { graph.type($0.value).shape.first != .fixed(count) }) {
      throw VitError(
        "the batch is fixed at \(count), and output '\(output.name)' has no row for each image: found \(total) images",
        code: "input-shape")
    }
  }

  /// The outputs for `inputs`, `count` images at a time; the last ones are run with the first beside them, and what that
  /// gives is left out. Throws where an output has no row for each image.
  func run(_ inputs: [Tensor], inPartsOf count: Int) throws -> [Tensor] {
    let total = inputs[0].shape[0]
    try checkParts(of: count, total)
    var rows = graph.outputs.map { _ in [Tensor]() }
    for start in stride(from: 0, to: total, by: count) {
      let part = try zip(graph.inputs, inputs).map { id, tensor in
        guard isCut(graph.type(id), count, tensor.shape, total) else { return tensor }
        return try tensor.rows(start, count: count)
      }
      for (index, output) in try run(part).enumerated() {
        rows[index].append(try output.rows(0, count: min(count, total - start)))
      }
    }
    return try rows.map(Tensor.init(joining:))
  }
}

extension Tensor {
  /// So many entries of the first axis from one on; behind the last comes the first, again and again.
  fileprivate func rows(_ start: Int, count: Int) throws -> Tensor {
    let size = shape.dropFirst().reduce(element.size, *)
    return try storage.withBytes { source in
      try Tensor(element, shape: [count] + shape.dropFirst()) { target in
        for row in 0..<count {
          let place = start + row < shape[0] ? start + row : 0
          UnsafeMutableRawBufferPointer(rebasing: target[row * size..<(row + 1) * size])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[place * size..<(place + 1) * size]))
        }
      }
    }
  }

  /// Tensors one behind the other along their first axis; there is at least one, and the others are like it.
  fileprivate init(joining parts: [Tensor]) throws {
    let shape = [parts.reduce(0) { $0 + $1.shape[0] }] + parts[0].shape.dropFirst()
    try self.init(parts[0].element, shape: shape) { target in
      var offset = 0
      for part in parts {
        try part.storage.withBytes { bytes in
          UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + bytes.count]).copyMemory(
            from: bytes)
          offset += bytes.count
        }
      }
    }
  }
}
