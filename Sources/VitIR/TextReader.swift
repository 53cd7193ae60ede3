/// Reads the small parts of the textual IR: punctuation, extents, types, attributes.
struct TextReader {
  private var lexer: Lexer
  /// The token that is read next.
  private(set) var token: Token = .end
  /// Where it begins.
  private(set) var location = Location()

  /// How deep divisions may be nested.
  static let maximumDepth = Dimension.maximumWeight

  init(_ bytes: [UInt8], file: String?) throws(VitError) {
    lexer = Lexer(bytes, file: file)
    try advance()
  }

  /// Takes the token.
  mutating func advance() throws(VitError) { (token, location) = try lexer.next() }

  /// An error at the token, which is not what was expected.
  func unexpected(_ expected: String) -> VitError {
    VitError("expected \(expected), found \(token.description)", code: "syntax", location: location)
  }

  /// Whether the token is `mark`, which is then taken.
  mutating func take(_ mark: Unicode.Scalar) throws(VitError) -> Bool {
    guard token == .mark(mark) else { return false }
    try advance()
    return true
  }

  /// Takes `mark`, which must be there.
  mutating func expect(_ mark: Unicode.Scalar) throws(VitError) {
    guard try take(mark) else { throw unexpected("'\(mark)'") }
  }

  /// Whether the token is that word, which is then taken.
  mutating func take(word: String) throws(VitError) -> Bool {
    guard token == .word(word) else { return false }
    try advance()
    return true
  }

  /// Takes a quoted text.
  mutating func text(_ role: String) throws(VitError) -> String {
    guard case .text(let text) = token else { throw unexpected(role) }
    try advance()
    return text
  }

  /// Takes a word or a quoted text.
  mutating func name(_ role: String) throws(VitError) -> String {
    if case .word(let word) = token {
      try advance()
      return word
    }
    return try text(role)
  }

  /// Takes a whole number that is not negative.
  mutating func number(_ role: String) throws(VitError) -> Int {
    guard case .integer = token else { throw unexpected(role) }
    return try integer(negative: false)
  }

  /// The items between `open` and `close`, with commas between them.
  mutating func list(
    _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ item: (inout TextReader) throws(VitError) -> Void
  ) throws(VitError) {
    try expect(open)
    if try take(close) { return }
    repeat { try item(&self) } while try take(",")
    guard try take(close) else { throw unexpected("',' or '\(close)'") }
  }

  // MARK: - Types

  /// A type: `f32[batch, 197, 192]`.
  mutating func type() throws(VitError) -> TensorType {
    let place = location
    guard case .word(let word) = token, let element = ElementType(rawValue: word) else {
      throw unexpected("an element type (\(ElementType.allCases.map(\.rawValue).joined(separator: ", ")))")
    }
    try advance()
    var shape: Shape = []
    try list("[", "]") { reader throws(VitError) in
      guard shape.count < GraphAssembler.maximumRank else {
        throw VitError(
          "a type has more than \(GraphAssembler.maximumRank) axes", code: "syntax", location: place)
      }
      shape.append(try reader.dimension(depth: 0))
    }
    let type = TensorType(element, shape)
    do { try type.validate() } catch { throw error.at(place) }
    return type
  }

  /// An extent: a sum of products of numbers, symbols and floor divisions.
  mutating func dimension(depth: Int) throws(VitError) -> Dimension {
    guard depth < Self.maximumDepth else {
      throw VitError("divisions are nested too deeply", code: "syntax", location: location)
    }
    var negative = try take("-")
    var sum = Dimension.fixed(0)
    while true {
      // The sign goes into the first factor: the smallest number has no positive counterpart.
      var product = try factor(negative: negative, depth: depth)
      while try take("*") { product = product * (try factor(negative: false, depth: depth)) }
      sum = sum + product
      if try take("+") { negative = false } else if try take("-") { negative = true } else { return sum }
    }
  }

  private mutating func factor(negative: Bool, depth: Int) throws(VitError) -> Dimension {
    let sign = Dimension.fixed(negative ? -1 : 1)
    switch token {
    case .integer:
      return .fixed(try integer(negative: negative))
    case .word("floor"):
      try advance()
      try expect("(")
      let dividend = try dimension(depth: depth + 1)
      try expect(",")
      let divisor = try dimension(depth: depth + 1)
      try expect(")")
      return sign * dividend.floorDivided(by: divisor)
    case .word(let name), .text(let name):
      try advance()
      return sign * .symbol(name)
    default: throw unexpected("an extent: a number, a symbol or 'floor'")
    }
  }

  /// Takes the digits of a whole number whose sign has been taken.
  private mutating func integer(negative: Bool) throws(VitError) -> Int {
    guard case .integer(let digits) = token else { throw unexpected("a whole number") }
    guard let value = Int((negative ? "-" : "") + digits) else {
      throw VitError("the number is out of the range of 64 bits", code: "syntax", location: location)
    }
    try advance()
    return value
  }

  // MARK: - Attributes

  /// Attributes: `{epsilon = 1e-06, pads = [0, 1]}`; a name twice is an error.
  mutating func attributes() throws(VitError) -> Attributes {
    var entries: [(String, Attribute)] = []
    var names: Set<String> = []
    try list("{", "}") { reader throws(VitError) in
      let place = reader.location
      let name = try reader.name("the name of an attribute")
      guard names.insert(name).inserted else {
        throw VitError("the attribute '\(name)' is given twice", code: "duplicate-name", location: place)
      }
      try reader.expect("=")
      entries.append((name, try reader.attribute()))
    }
    return Attributes(unique: entries)
  }

  private mutating func attribute() throws(VitError) -> Attribute {
    for (kind, empty): (String, Attribute) in [("floats", .floats([])), ("strings", .strings([]))]
    where try take(word: kind) {
      try list("[", "]") { reader throws(VitError) in throw reader.unexpected("']'") }
      return empty
    }
    guard token == .mark("[") else { return try scalar() }
    var values: [Attribute] = []
    try list("[", "]") { reader throws(VitError) in
      let place = reader.location
      let value = try reader.scalar()
      let (first, kind) = (values.first?.kind ?? value.kind, value.kind)
      guard kind == first, kind != "bool" else {
        throw VitError(
          "a list holds \(kind == "bool" ? "a truth value" : "both \(first) and \(kind)"), expected numbers or texts alone",
          code: "syntax", location: place)
      }
      values.append(value)
    }
    switch values.first {
    case .float: return .floats(values.compactMap { if case .float(let value) = $0 { value } else { nil } })
    case .string:
      return .strings(values.compactMap { if case .string(let value) = $0 { value } else { nil } })
    default: return .ints(values.compactMap { if case .int(let value) = $0 { value } else { nil } })
    }
  }

  private mutating func scalar() throws(VitError) -> Attribute {
    if case .text(let text) = token {
      try advance()
      return .string(text)
    }
    if try take(word: "true") { return .bool(true) }
    if try take(word: "false") { return .bool(false) }
    let word = try number()
    if let value = Int(word.text), !word.isDecimal { return .int(value) }
    guard word.isDecimal, let value = Double(word.text) else {
      throw VitError("the number is out of the range of 64 bits", code: "syntax", location: word.location)
    }
    return .float(value)
  }

  /// Takes a number, sign included, as text: digits, `inf` or `nan`.
  private mutating func number() throws(VitError) -> (text: String, isDecimal: Bool, location: Location) {
    let place = location
    let sign = try take("-") ? "-" : ""
    switch token {
    case .integer(let digits):
      try advance()
      return (sign + digits, false, place)
    case .decimal(let digits):
      guard Double(digits)?.isFinite == true else {
        throw VitError("the number is out of the range of 64 bits", code: "syntax", location: place)
      }
      try advance()
      return (sign + digits, true, place)
    case .word("inf"), .word("nan"):
      let word = token == .word("inf") ? "inf" : "nan"
      try advance()
      return (sign + word, true, place)
    default: throw unexpected("a number, a text, 'true', 'false' or a list")
    }
  }

  // MARK: - Tensors

  /// The values of a tensor: a flat list of as many words as its type has elements.
  mutating func tensor(_ element: ElementType, shape: [Int]) throws(VitError) -> Tensor {
    let place = location
    guard !element.isQuantised else {
      throw VitError(
        "values of the type \(element.rawValue) cannot be written out", code: "syntax", location: place,
        help: "leave them in the file of the tensors")
    }
    let count = shape.reduce(1, *)
    var words: [String] = []
    try list("[", "]") { reader throws(VitError) in
      let place = reader.location
      let word: String
      if case .word(let text) = reader.token, text == "true" || text == "false" {
        word = text
        try reader.advance()
      } else {
        word = try reader.number().text
      }
      var bytes = [UInt8](repeating: 0, count: element.size)
      guard bytes.withUnsafeMutableBytes({ $0.store(word: word, at: 0, as: element) }) else {
        throw VitError(
          "\(word) is no number of the type \(element.rawValue)", code: "syntax", location: place)
      }
      words.append(word)
    }
    guard words.count == count else {
      throw VitError(
        "the tensor has \(words.count) values, but its type has \(count) elements", code: "syntax",
        location: place)
    }
    return Tensor(likeArray: element, shape: shape) { buffer in
      for (index, word) in words.enumerated() { _ = buffer.store(word: word, at: index, as: element) }
    }
  }
}

extension TensorType {
  /// The type that `description` writes: `f32[batch, 197, 192]`.
  public init(text: String) throws(VitError) {
    var reader = try TextReader(Array(text.utf8), file: nil)
    self = try reader.type()
    guard reader.token == .end else { throw reader.unexpected("the end of the type") }
  }
}
