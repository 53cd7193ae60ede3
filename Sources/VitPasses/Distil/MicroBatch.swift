internal import VitIR

/// How many samples run at once: so many that the values looked at stay within bounds, whatever the batch.
enum MicroBatch {
  /// The bytes that the values looked at may take.
  private static let limit = 128 << 20

  /// The largest divisor of `batch` that stays within bounds.
  static func size(_ batch: Int, bytesPerSample: Int) -> Int {
    let most = max(1, limit / max(1, bytesPerSample))
    return (1...batch).last { batch % $0 == 0 && $0 <= most } ?? 1
  }

  /// The bytes of values for one sample.
  static func bytes(of values: [ValueID], in graph: Graph) -> Int {
    values.reduce(0) { total, id in
      let type = graph.type(id)
      let count = type.shape.dropFirst().reduce(1) { product, dimension in
        let (next, overflow) = product.multipliedReportingOverflow(by: dimension.fixedValue ?? 1)
        return overflow ? limit : next
      }
      return total + min(count, limit) * type.element.size
    }
  }
}
