extension Graph {
  /// Makes one of constants that are the same view (turned, reshaped, rows of it) of one tensor, so that a weight which several
  /// nodes use stays one weight: it is counted, held, trained and written once. Returns how many are gone.
  ///
  /// What decides is where the numbers come from, not what they are: two weights that happen to be equal stay two.
  public mutating func shareConstants() -> Int {
    var first: [TensorOrigin: ValueID] = [:]
    var same: [ValueID: ValueID] = [:]
    for name in tensors.names {
      guard let id = value(named: name), let tensor = tensor(id), !tensor.isElided, tensor.count > 0 else {
        continue
      }
      let origin = TensorOrigin(tensor)
      if let earlier = first[origin] { same[id] = earlier } else { first[origin] = id }
    }
    guard !same.isEmpty else { return 0 }
    for place in nodes.indices {
      nodes[place].operands = nodes[place].operands.map { id in id.map { same[$0] ?? $0 } }
    }
    for place in outputs.indices { outputs[place].value = same[outputs[place].value] ?? outputs[place].value }
    removeDeadNodes()
    return same.count
  }
}

/// Where a tensor's numbers come from: a storage, and what was taken of it in which order.
private struct TensorOrigin: Hashable {
  let element: ElementType
  let shape: [Int]
  let source: ObjectIdentifier
  let views: [MatrixStorage.View]

  init(_ tensor: Tensor) {
    element = tensor.element
    shape = tensor.shape
    var views: [MatrixStorage.View] = []
    var storage = tensor.storage
    while let matrix = storage as? MatrixStorage {
      views.append(matrix.view)
      storage = matrix.source
    }
    self.views = views
    source = ObjectIdentifier(storage)
  }
}
