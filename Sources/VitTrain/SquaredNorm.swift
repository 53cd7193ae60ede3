public import VitIR

/// Squares of gradients.
public enum SquaredNorm {
  /// The sum of squares of an `f32` view, in double, in an order that depends on the shape alone; row r of the last axis weighs
  /// `weights[r mod weights.count]`, each 1 where there are none.
  public static func squared(_ view: View, weights: [Double] = [], pool: any WorkPool) -> Double {
    let values = view.f32
    return RowSum(view, weights: weights).total(pool: pool) { range, weight in
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
      return weight * sum
    }
  }
}
