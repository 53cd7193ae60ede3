internal import VitIR

/// The header of a `.npy` file: a Python dictionary with the keys `descr`, `fortran_order` and `shape`.
enum NPYHeader {
  private enum Literal {
    case text(String)
    case flag(Bool)
    case number(Int)
    case sequence([Literal])
  }

  /// The layout that the text of a header describes.
  static func parse(_ text: UnsafeRawBufferPointer) throws(VitError) -> ArrayLayout {
    var scanner = Scanner(text: Array(text))
    var descr: Literal?
    var order: Literal?
    var shape: Literal?
    try scanner.expect("{")
    while !scanner.take("}") {
      let key = try scanner.string()
      try scanner.expect(":")
      let value = try scanner.literal(depth: 0)
      switch key {
      case "descr" where descr == nil: descr = value
      case "fortran_order" where order == nil: order = value
      case "shape" where shape == nil: shape = value
      default: throw bad("the key '\(key)' is unknown or there twice")
      }
      if !scanner.take(",") {
        try scanner.expect("}")
        break
      }
    }
    guard scanner.isAtEnd else { throw bad("there is text after the dictionary") }
    guard case .sequence(let extents)? = shape else { throw bad("'shape' is no tuple") }
    guard case .flag(let isColumnMajor)? = order else {
      throw bad("'fortran_order' is neither True nor False")
    }
    guard let descr else { throw bad("'descr' is missing") }
    guard case .text(let code) = descr else {
      throw unsupported("a structured type")
    }
    guard extents.count <= 64 else { throw bad("an array has at most 64 axes, found \(extents.count)") }
    var sizes: [Int] = []
    for extent in extents {
      guard case .number(let size) = extent else { throw bad("'shape' holds something other than numbers") }
      sizes.append(size)
    }
    let (element, isBigEndian) = try elementType(code)
    return ArrayLayout(
      element: element, shape: sizes, isBigEndian: isBigEndian, isColumnMajor: isColumnMajor)
  }

  /// A header of version 1 that ends at a multiple of 64 bytes.
  static func encode(_ element: ElementType, _ shape: [Int]) -> [UInt8] {
    let code =
      switch element {
      case .f64: "<f8"
      case .f32, .bf16, .q8, .w8, .w4: "<f4"
      case .f16: "<f2"
      case .i64: "<i8"
      case .i32: "<i4"
      case .i16: "<i2"
      case .i8: "|i1"
      case .u64: "<u8"
      case .u32: "<u4"
      case .u16: "<u2"
      case .u8: "|u1"
      case .bool: "|b1"
      }
    let extents = shape.map { "\($0)" }.joined(separator: ", ") + (shape.count == 1 ? "," : "")
    let text = "{'descr': '\(code)', 'fortran_order': False, 'shape': (\(extents)), }"
    let padding = 63 - (10 + text.utf8.count) % 64
    let length = text.utf8.count + padding + 1
    return NPY.magic + [1, 0, UInt8(length & 0xff), UInt8(length >> 8)] + Array(text.utf8)
      + [UInt8](repeating: UInt8(ascii: " "), count: padding) + [UInt8(ascii: "\n")]
  }

  /// The type of the elements, and whether their most significant byte comes first.
  private static func elementType(_ code: String) throws(VitError) -> (ElementType, Bool) {
    let mark = code.first
    let hasMark = mark.map { "<>|=".contains($0) } ?? false
    let element: ElementType? =
      switch hasMark ? String(code.dropFirst()) : code {
      case "f8": .f64
      case "f4": .f32
      case "f2": .f16
      case "i8": .i64
      case "i4": .i32
      case "i2": .i16
      case "i1": .i8
      case "u8": .u64
      case "u4": .u32
      case "u2": .u16
      case "u1": .u8
      case "b1": .bool
      default: nil
      }
    guard let element else { throw unsupported("'\(code)'") }
    return (element, mark == ">")
  }

  private static func bad(_ what: String) -> VitError {
    VitError("malformed NumPy header: \(what)", code: "npy-header")
  }

  private static func unsupported(_ type: String) -> VitError {
    VitError(
      "expected an array of numbers, found elements of \(type)", code: "npy-type",
      help: "save it with numpy as float32, an integer type or bool")
  }

  /// Reads Python literals from text.
  private struct Scanner {
    let text: [UInt8]
    private var index = 0

    init(text: [UInt8]) { self.text = text }

    private mutating func skipSpace() {
      while index < text.count, [0x20, 0x09, 0x0a, 0x0d].contains(text[index]) { index += 1 }
    }

    var isAtEnd: Bool {
      mutating get {
        skipSpace()
        return index == text.count
      }
    }

    mutating func take(_ symbol: Unicode.Scalar) -> Bool {
      skipSpace()
      guard index < text.count, text[index] == UInt8(ascii: symbol) else { return false }
      index += 1
      return true
    }

    mutating func expect(_ symbol: Unicode.Scalar) throws(VitError) {
      guard take(symbol) else { throw bad("expected '\(symbol)' at byte \(index)") }
    }

    /// A string in either kind of quotes, without escapes.
    mutating func string() throws(VitError) -> String {
      skipSpace()
      guard index < text.count, text[index] == UInt8(ascii: "'") || text[index] == UInt8(ascii: "\"") else {
        throw bad("expected a string at byte \(index)")
      }
      let quote = text[index]
      let start = index + 1
      guard let end = text[start...].firstIndex(of: quote),
        let result = String(validating: text[start..<end], as: UTF8.self), !result.contains("\\")
      else { throw bad("malformed string at byte \(index)") }
      index = end + 1
      return result
    }

    mutating func literal(depth: Int) throws(VitError) -> Literal {
      guard depth < 8 else { throw bad("nested too deeply") }
      for (open, close): (Unicode.Scalar, Unicode.Scalar) in [("(", ")"), ("[", "]")] where take(open) {
        var items: [Literal] = []
        while !take(close) {
          items.append(try literal(depth: depth + 1))
          if !take(",") {
            try expect(close)
            break
          }
        }
        return .sequence(items)
      }
      skipSpace()
      guard index < text.count else { throw bad("it ends too early") }
      if text[index] == UInt8(ascii: "'") || text[index] == UInt8(ascii: "\"") { return .text(try string()) }
      let start = index
      while index < text.count, isWordByte(text[index]) { index += 1 }
      let word = String(decoding: text[start..<index], as: UTF8.self)
      switch word {
      case "True": return .flag(true)
      case "False": return .flag(false)
      default:
        // Python 2 wrote long numbers with an L.
        guard let number = Int(word.hasSuffix("L") ? String(word.dropLast()) : word) else {
          throw bad("expected a number at byte \(start)")
        }
        return .number(number)
      }
    }

    private func isWordByte(_ byte: UInt8) -> Bool {
      switch Unicode.Scalar(byte) {
      case "0"..."9", "a"..."z", "A"..."Z", "-", "+": true
      default: false
      }
    }
  }
}
