internal import VitIR

extension Tensor {
  /// The identity of so many channels, `[count, count]` in f32.
  static func identity(_ count: Int) throws -> Tensor {
    try Tensor(.f32, shape: [count, count]) { buffer in
      for index in 0..<count { buffer.store(1, at: index * count + index, as: .f32) }
    }
  }

  /// The listed entries of an axis, in that order, as they are stored. Throws where the storage is damaged.
  func entries(_ list: [Int], axis: Int) throws -> Tensor {
    var shape = self.shape
    let extent = shape[axis]
    shape[axis] = list.count
    let inner = self.shape[(axis + 1)...].reduce(element.size, *)
    let outer = self.shape[..<axis].reduce(1, *)
    return try storage.withBytes { source in
      try Tensor(element, shape: shape) { target in
        for row in 0..<outer {
          for (place, entry) in list.enumerated() {
            let from = UnsafeRawBufferPointer(
              rebasing: source[(row * extent + entry) * inner..<(row * extent + entry + 1) * inner])
            UnsafeMutableRawBufferPointer(
              rebasing: target[(row * list.count + place) * inner..<(row * list.count + place + 1) * inner]
            ).copyMemory(from: from)
          }
        }
      }
    }
  }
}
