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
