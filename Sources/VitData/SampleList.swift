internal import VitFormats
internal import VitIR

/// A list of pictures in a file: a path and a label in each row, with commas (`.csv`) or tabs (`.tsv`) between.
///
/// Paths are relative to the list's folder. A first row whose names say which columns hold the two is a header; other columns are not
/// looked at then. Labels are whole numbers from 0, or names; all rows have one, or none has.
struct SampleList {
  /// What the rows say of classes.
  enum Labels {
    /// Nothing.
    case none
    /// Numbers.
    case numbers([Int])
    /// Names: for each row the place of its one in `names`, which come in the order of the rows.
    case names([Int], names: [String])
  }

  /// The paths of the pictures, in the order of the rows.
  private(set) var paths: [String] = []
  /// The classes of the pictures.
  private(set) var labels = Labels.none
  private let path: String
  /// The columns of path and label, and how many there are; `nil` before the first row.
  private var columns: (path: Int, label: Int?, count: Int)?
  /// For each row the place of its label among `texts`; empty where no row has one.
  private var codes: [Int] = []
  /// The different labels, and the rows in which they are first met.
  private var texts: [(text: String, line: Int)] = []
  private var known: [String: Int] = [:]

  /// The bytes that a list may have.
  private static let maximumBytes = 1 << 31

  /// Reads the list at `path`; throws, with the line, for a row that is not as described above.
  init(_ path: String) throws(VitError) { try self.init(path, keepingPaths: true) }

  private init(_ path: String, keepingPaths: Bool) throws(VitError) {
    self.path = path
    do throws(VitError) {
      let bytes = try MappedFile.contents(of: path, limit: SampleList.maximumBytes)
      try read(bytes, keepingPaths: keepingPaths)
      known = [:]
      labels = try found()
    } catch { throw error.at(Location(file: path)) }
  }

  /// The names of the classes in the list at `path`, which is a part of a data set whose classes have names.
  static func classNames(_ path: String) throws(VitError) -> [String] {
    switch try SampleList(path, keepingPaths: false).labels {
    case .none: return []
    case .names(_, let names): return names
    case .numbers:
      throw VitError(
        "expected names as labels, as in the list of the other part, found numbers", code: "list-labels",
        location: Location(file: path))
    }
  }

  /// Whether a file is called as lists are.
  static func isName(_ path: String) -> Bool {
    let end = path.suffix(4).lowercased()
    return end == ".csv" || end == ".tsv"
  }

  private mutating func read(_ bytes: [UInt8], keepingPaths: Bool) throws(VitError) {
    let isTabbed = path.suffix(4).lowercased() == ".tsv"
    var text = try DelimitedText(bytes, separator: isTabbed ? 9 : UInt8(ascii: ","))
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let folder = slash.map { String(path[...$0]) } ?? ""
    var rows = 0
    while let (line, fields) = try text.next() {
      guard let columns else {
        if try !takeHeader(fields, line) { try add(fields, line, row: &rows, keepingPaths ? folder : nil) }
        continue
      }
      guard fields.count == columns.count else {
        throw failure("expected \(columns.count) fields, as in the first row, found \(fields.count)", line)
      }
      try add(fields, line, row: &rows, keepingPaths ? folder : nil)
    }
    guard rows > 0 else {
      throw VitError("expected rows of a path and a label, found none", code: "empty-data")
    }
  }

  private func failure(_ message: String, _ line: Int, help: String? = nil) -> VitError {
    VitError(message, code: "list", location: Location(file: path, line: line), help: help)
  }

  // MARK: Columns

  private static let pathNames: Set<String> = [
    "path", "file", "filename", "filepath", "image", "images", "img", "imagepath", "imagefile", "imagename",
    "picture", "relativepath", "relpath", "fname",
  ]
  private static let labelNames: Set<String> = [
    "label", "labels", "class", "classname", "classid", "classlabel", "target", "category", "categoryid",
    "categoryname", "labelid", "labelname", "synset", "wnid",
  ]

  /// Takes a first row's names for the columns, where one of them is that of a path, and says whether it did; else the columns are
  /// path and label, or path alone.
  private mutating func takeHeader(_ fields: [ArraySlice<UInt8>], _ line: Int) throws(VitError) -> Bool {
    let names = fields.map { field in
      String(decoding: field, as: UTF8.self).lowercased().filter { !" _-".contains($0) }
    }
    let path = names.firstIndex(where: SampleList.pathNames.contains)
    let label = names.firstIndex(where: SampleList.labelNames.contains)
    if let path, label != nil || names.count == 1 {
      columns = (path, label, names.count)
      return true
    }
    let found = "found \(SampleList.list(fields))"
    let help = "the first row calls two columns path and label, or there are only these two, in this order"
    if path != nil {
      throw failure(
        "expected a column called label, class or category beside the paths, \(found)", line, help: help)
    }
    if label != nil, names.allSatisfy({ !$0.contains(".") && !$0.contains("/") }) {
      throw failure(
        "expected a column called path, file or image beside the labels, \(found)", line, help: help)
    }
    guard names.count <= 2 else {
      throw failure("expected a path and a label, \(found)", line, help: help)
    }
    columns = (0, names.count == 2 ? 1 : nil, names.count)
    return false
  }

  private static func list(_ fields: [ArraySlice<UInt8>]) -> String {
    fields.prefix(6).map { "'\(FileName.text(of: $0.prefix(40)))'" }.joined(separator: ", ")
      + (fields.count > 6 ? ", …" : "")
  }

  // MARK: Rows

  /// Adds a row; without a `folder` its path is not kept.
  private mutating func add(
    _ fields: [ArraySlice<UInt8>], _ line: Int, row: inout Int, _ folder: String?
  ) throws(VitError) {
    guard let columns else { return }
    let name = fields[columns.path]
    guard let first = name.first, !name.contains(0) else {
      throw failure("expected a path, found \(name.isEmpty ? "none" : "a zero byte in it")", line)
    }
    if let folder {
      let own = FileName.text(of: name)
      paths.append(first == UInt8(ascii: "/") ? own : folder + own)
    }
    let label = columns.label.map { fields[$0] } ?? []
    guard row == 0 || label.isEmpty == codes.isEmpty else {
      throw failure(
        label.isEmpty
          ? "expected a label, as in the rows before, found none"
          : "expected no label, as in the rows before, found '\(FileName.text(of: label.prefix(40)))'", line)
    }
    row += 1
    guard !label.isEmpty else { return }
    let text = FileName.text(of: label)
    if let code = known[text] {
      codes.append(code)
    } else {
      known[text] = texts.count
      codes.append(texts.count)
      texts.append((text, line))
    }
  }

  /// What the labels are: numbers where each is one.
  private func found() throws(VitError) -> Labels {
    guard let first = texts.first else { return .none }
    var numbers: [Int] = []
    for (text, line) in texts {
      guard let number = SampleList.number(text) else { continue }
      guard (0..<1 << 31).contains(number) else {
        throw failure("expected a class number from 0 below 2³¹, found \(text)", line)
      }
      numbers.append(number)
    }
    if numbers.count == texts.count { return .numbers(codes.map { numbers[$0] }) }
    if numbers.count == texts.count - 1, numbers.count > 0, SampleList.number(first.text) == nil,
      !codes.dropFirst().contains(0)
    {
      throw failure(
        "expected a class number, as in all other rows, found '\(first.text)'", first.line,
        help: "a first row that names the columns calls them path and label, or file and class")
    }
    return .names(codes, names: texts.map(\.text))
  }

  /// A whole number in digits; `nil` where the text is something else.
  private static func number(_ text: String) -> Int? {
    let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
    return Int(text) ?? (text.hasPrefix("-") ? -1 : Int.max)
  }
}
