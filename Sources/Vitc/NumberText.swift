internal import Glibc

extension Double {
  /// The number with that many digits behind the point, rounded; `-` where it is none.
  package func fixed(_ digits: Int) -> String {
    guard isFinite else { return "-" }
    let scale = pow(10, Double(digits))
    let scaled = (magnitude * scale).rounded()
    guard scaled < 9e15 else { return description }
    let whole = Int(scaled)
    let sign = self < 0 && whole > 0 ? "-" : ""
    guard digits > 0 else { return "\(sign)\(whole)" }
    let unit = Int(scale)
    let fraction = String(whole % unit)
    return "\(sign)\(whole / unit).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
  }

  /// The number with three significant digits, as `0.00123` or `1.2e-7`.
  package var short: String {
    guard isFinite else { return "-" }
    guard magnitude >= 1e-300 else { return "0" }
    let digits = 2 - Int(log10(magnitude).rounded(.down))
    if digits < 0 { return fixed(0) }
    if digits > 7 {
      let exponent = Int(log10(magnitude).rounded(.down))
      return "\((self / pow(10, Double(exponent))).fixed(1))e\(exponent)"
    }
    return fixed(digits)
  }

  /// A fraction of one as per cent.
  package var percent: String { "\((self * 100).fixed(2)) %" }

  /// Seconds as `8 s`, `3 min 20 s`, `2 h 5 min`.
  package var asTime: String {
    let seconds = Int(rounded())
    if seconds < 60 { return "\(seconds) s" }
    if seconds < 3600 { return "\(seconds / 60) min \(seconds % 60) s" }
    return "\(seconds / 3600) h \(seconds % 3600 / 60) min"
  }

  /// A count with a unit prefix: `62.1 M`.
  package var asCount: String {
    for (limit, prefix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] where magnitude >= limit {
      return "\((self / limit).fixed(2)) \(prefix)"
    }
    return fixed(0)
  }
}

extension Int {
  /// The number with a comma between groups of three digits.
  package var grouped: String {
    var text = String(magnitude)
    var groups: [Substring] = []
    while text.count > 3 {
      groups.insert(text.suffix(3), at: 0)
      text = String(text.dropLast(3))
    }
    return (self < 0 ? "-" : "") + ([text[...]] + groups).joined(separator: ",")
  }
}
