public import VitIR

/// Squares of gradients.
public enum SquaredNorm {
  /// The sum of squares of an `f32` view, in double, in an order that depends on the count alone.
  public static func squared(_ view: View, pool: any WorkPool) -> Double {
    let block = 1 << 15
    let count = view.count
    let values = view.f32
    let blocks = (count + block - 1) / block
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: blocks) { sums in
      pool.run(tasks: blocks) { task, _ in
        let range = task * block..<min((task + 1) * block, count)
        var lanes = SIMD8<Double>(repeating: 0)
        var index = range.lowerBound
        while index + 8 <= range.upperBound {
          let part = SIMD8<Double>(UnsafeRawPointer(values + index).loadUnaligned(as: SIMD8<Float>.self))
          lanes += part * part
          index += 8
        }
        var sum = lanes.sum()
        while index < range.upperBound {
          sum += Double(values[index]) * Double(values[index])
          index += 1
        }
        sums[task] = sum
      }
      return sums.reduce(0, +)
    }
  }
}
