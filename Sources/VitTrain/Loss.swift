public import VitIR
internal import Glibc

/// Losses with their gradients (Mixers.md §3). Sums run in double and in a fixed order.
public enum Loss {
  /// `scale · Σ w_r ‖prediction_r − target_r‖²` over rows r of the last axis; adds its gradient to `gradient` where there is one.
  /// Row r weighs `weights[r mod weights.count]`, each row 1 where there are none. Returns the loss.
  public static func squaredError(
    _ prediction: View, _ target: View, scale: Double, weights: [Double] = [], adding gradient: View?,
    pool: any WorkPool
  ) -> Double {
    precondition(prediction.count == target.count)
    let (p, t, g) = (prediction.f32, target.f32, gradient?.f32)
    return scale
      * RowSum(prediction, weights: weights).total(pool: pool) { range, weight in
        let factor = Float(2 * scale * weight)
        var lanes = SIMD8<Double>(repeating: 0)
        var index = range.lowerBound
        while index + 8 <= range.upperBound {
          let a = UnsafeRawPointer(p + index).loadUnaligned(as: SIMD8<Float>.self)
          let b = UnsafeRawPointer(t + index).loadUnaligned(as: SIMD8<Float>.self)
          let difference = a - b
          let wide = SIMD8<Double>(difference)
          lanes += wide * wide
          if let g {
            let old = UnsafeRawPointer(g + index).loadUnaligned(as: SIMD8<Float>.self)
            UnsafeMutableRawPointer(g + index).storeBytes(
              of: old + factor * difference, as: SIMD8<Float>.self)
          }
          index += 8
        }
        var sum = lanes.sum()
        while index < range.upperBound {
          let difference = p[index] - t[index]
          sum += Double(difference) * Double(difference)
          if let g { g[index] += factor * difference }
          index += 1
        }
        return weight * sum
      }
  }

  /// What one batch of logits loses against a teacher's.
  public struct Distillation: Sendable {
    /// Mean τ²·KL(teacher‖student).
    public var divergence = 0.0
    /// Mean cross entropy of the labels; 0 where there are none.
    public var crossEntropy = 0.0
  }

  /// Adds to `gradient` what follows from `weight · (τ² KL(teacher‖student) + labelWeight · CE)`, each the
  /// mean over `batch` samples (of which these logits may be a part).
  public static func distillation(
    student: View, teacher: View, labels: [Int?], temperature: Double, weight: Double, labelWeight: Double,
    batch: Int, adding gradient: View?
  ) -> Distillation {
    let classes = student.shape[student.rank - 1]
    let rows = classes == 0 ? 0 : student.count / classes
    var result = Distillation()
    for row in 0..<rows {
      let (s, t) = (student.f32 + row * classes, teacher.f32 + row * classes)
      let p = probabilities(t, classes, temperature)
      let q = probabilities(s, classes, temperature)
      var divergence = 0.0
      for index in 0..<classes where p[index] > 0 {
        divergence += p[index] * (log(p[index]) - logarithm(q[index]))
      }
      result.divergence += temperature * temperature * divergence / Double(batch)
      if let gradient {
        let g = gradient.f32 + row * classes
        for index in 0..<classes {
          g[index] += Float(weight * temperature * (q[index] - p[index]) / Double(batch))
        }
      }
      guard row < labels.count, let label = labels[row], label >= 0, label < classes else { continue }
      let plain = probabilities(s, classes, 1)
      result.crossEntropy -= logarithm(plain[label]) / Double(batch)
      if let gradient, labelWeight > 0 {
        let g = gradient.f32 + row * classes
        for index in 0..<classes {
          let target = index == label ? 1.0 : 0
          g[index] += Float(weight * labelWeight * (plain[index] - target) / Double(batch))
        }
      }
    }
    return result
  }

  /// The softmax of logits over a temperature, in double.
  public static func probabilities(_ logits: UnsafePointer<Float>, _ count: Int, _ temperature: Double)
    -> [Double]
  {
    var largest = -Double.infinity
    for index in 0..<count { largest = max(largest, Double(logits[index])) }
    var values = (0..<count).map { exp((Double(logits[$0]) - largest) / temperature) }
    let sum = values.reduce(0, +)
    for index in 0..<count { values[index] /= sum }
    return values
  }

  /// The logarithm, of nothing less than the smallest positive number.
  private static func logarithm(_ value: Double) -> Double { log(max(value, .leastNormalMagnitude)) }
}
