internal import Glibc

extension Double {
  /// The number with that many digits behind the point, rounded; `-` where it is none.
  func fixed(_ digits: Int) -> String {
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
  var short: String {
    guard isFinite else { return "-" }
    guard self != 0 else { return "0" }
    let digits = 2 - Int(log10(magnitude).rounded(.down))
    if digits < 0 { return fixed(0) }
    if digits > 7 {
      let exponent = Int(log10(magnitude).rounded(.down))
      return "\((self / pow(10, Double(exponent))).fixed(1))e\(exponent)"
    }
    return fixed(digits)
  }

  /// A fraction of one as per cent.
  var percent: String { "\((self * 100).fixed(2)) %" }

  /// Seconds as `8 s`, `3 min 20 s`, `2 h 5 min`.
  var asTime: String {
    let seconds = Int(rounded())
    if seconds < 60 { return "\(seconds) s" }
    if seconds < 3600 { return "\(seconds / 60) min \(seconds % 60) s" }
    return "\(seconds / 3600) h \(seconds % 3600 / 60) min"
  }

  /// A count with a unit prefix: `62.1 M`.
  var asCount: String {
    for (limit, prefix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] where magnitude >= limit {
      return "\((self / limit).fixed(2)) \(prefix)"
    }
    return fixed(0)
  }
}

extension Int {
  /// The number with a comma between groups of three digits.
  var grouped: String {
    var text = String(magnitude)
    var groups: [Substring] = []
    while text.count > 3 {
      groups.insert(text.suffix(3), at: 0)
      text = String(text.dropLast(3))
    }
    return (self < 0 ? "-" : "") + ([text[...]] + groups).joined(separator: ",")
  }
}

/// Rows of text under headings, columns aligned: numbers to the right.
struct Table {
  private var rows: [[String]]
  private let leftAligned: Set<Int>

  /// A table; `left` are the columns of words.
  init(_ headings: [String], left: Set<Int> = [0]) {
    rows = [headings]
    leftAligned = left
  }

  /// Adds a row.
  mutating func add(_ row: [String]) { rows.append(row) }

  /// The table, a line each row.
  var text: String {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      var line = ""
      for (column, cell) in row.enumerated() {
        let pad = String(repeating: " ", count: widths[column] - cell.count)
        line += (column == 0 ? "" : "  ") + (leftAligned.contains(column) ? cell + pad : pad + cell)
      }
      while line.hasSuffix(" ") { line.removeLast() }
      return line + "\n"
    }.joined()
  }
}
