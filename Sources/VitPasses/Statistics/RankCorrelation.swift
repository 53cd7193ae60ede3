/// How well one ranking predicts another.
public enum RankCorrelation {
  /// Spearman's coefficient: Pearson's of the ranks, ties given their mean rank; `nil` where one side does not vary or there
  /// are fewer than two pairs.
  public static func spearman(_ a: [Double], _ b: [Double]) -> Double? {
    guard a.count == b.count, a.count >= 2, (a + b).allSatisfy(\.isFinite) else { return nil }
    let (x, y) = (ranks(a), ranks(b))
    let mean = Double(a.count - 1) / 2
    var (product, left, right) = (0.0, 0.0, 0.0)
    for (p, q) in zip(x, y) {
      product += (p - mean) * (q - mean)
      left += (p - mean) * (p - mean)
      right += (q - mean) * (q - mean)
    }
    return left > 0 && right > 0 ? product / (left * right).squareRoot() : nil
  }

  private static func ranks(_ values: [Double]) -> [Double] {
    let order = values.indices.sorted { (values[$0], $0) < (values[$1], $1) }
    var result = [Double](repeating: 0, count: values.count)
    var first = 0
    while first < order.count {
      var last = first
      while last + 1 < order.count, values[order[last + 1]] == values[order[first]] { last += 1 }
      for place in first...last { result[order[place]] = Double(first + last) / 2 }
      first = last + 1
    }
    return result
  }
}
