internal import Glibc

/// One side of a chart: which numbers it spans, and where they lie.
struct Axis {
  /// The numbers at its ends.
  let low, high: Double
  /// Whether each step is ten times the one before.
  let isLogarithmic: Bool
  /// Where its ends lie, in the picture's units.
  let from, to: Double

  /// An axis that spans `values`, with zero where that `includesZero`; on a logarithmic one only positive numbers count.
  init(
    _ values: [Double], from: Double, to: Double, includesZero: Bool = false, logarithmic: Bool = false
  ) {
    // Far from where powers and differences stop being numbers.
    let usable =
      values.filter { $0.isFinite && (!logarithmic || $0 > 0) }
      .map { logarithmic ? min(max($0, 1e-250), 1e250) : min(max($0, -1e250), 1e250) }
      + (includesZero ? [0] : [])
    var (low, high) = (usable.min() ?? 0, usable.max() ?? 1)
    if logarithmic {
      low = pow(10, log10(usable.isEmpty ? 0.1 : low).rounded(.down))
      high = pow(10, log10(usable.isEmpty ? 1 : high).rounded(.up))
      if !(high > low) { high = 10 * low }
    } else {
      // Ends that are equal, or nearly so beside their size, leave no room for steps.
      let least = max(1e-250, 1e-9 * max(low.magnitude, high.magnitude))
      if high - low < least { (low, high) = (low - max(0.5, least), high + max(0.5, least)) }
      let step = Axis.step(high - low)
      (low, high) = ((low / step).rounded(.down) * step, (high / step).rounded(.up) * step)
    }
    (self.low, self.high, isLogarithmic, self.from, self.to) = (low, high, logarithmic, from, to)
  }

  /// A round number near a fifth of a span.
  private static func step(_ span: Double) -> Double {
    let unit = pow(10, log10(span / 5).rounded(.down))
    let times = span / 5 / unit
    return unit * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10)
  }

  /// Where a number lies.
  func place(_ value: Double) -> Double {
    let part =
      isLogarithmic
      ? (log10(max(value, low)) - log10(low)) / (log10(high) - log10(low)) : (value - low) / (high - low)
    return from + min(max(part, 0), 1) * (to - from)
  }

  /// Round numbers on it.
  var ticks: [Double] {
    if isLogarithmic {
      let (first, last) = (Int(log10(low).rounded()), Int(log10(high).rounded()))
      return Swift.stride(from: first, through: last, by: max(1, (last - first) / 6)).map {
        pow(10, Double($0))
      }
    }
    let step = Axis.step(high - low)
    let count = min(20, Int(((high - low) / step).rounded()))
    return (0...max(1, count)).map { low + Double($0) * step }
  }

  /// How a number on it is written.
  func label(_ value: Double) -> String {
    if value == 0 { return "0" }
    if isLogarithmic { return value >= 1 && value < 1e6 ? value.fixed(0) : value.short }
    if value.magnitude >= 10000 { return value.asCount }
    let step = Axis.step(high - low)
    return value.fixed(max(0, min(7, Int((-log10(step)).rounded(.up)))))
  }
}
