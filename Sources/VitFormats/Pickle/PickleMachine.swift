internal import VitIR

/// The machine that a pickle is a program for, with the instructions alone that a dictionary of text, lists of numbers and arrays
/// of NumPy is written with. It calls nothing: a name is a value, and what Python would call makes another one.
///
/// Memory is bounded: each instruction makes at most one value, of which there may be 2²¹, and as many are remembered or lie on the stack
/// twice over.
struct PickleMachine {
  /// All values so far.
  private(set) var values: [PickleValue] = []
  private var reader: ByteReader
  private var stack: [Int] = []
  /// The heights of the stack at the marks.
  private var marks: [Int] = []
  private var memo: [Int: Int] = [:]
  /// The offset of the instruction at hand.
  private var start = 0

  /// The most values.
  private static let maximumValues = 1 << 21

  /// A machine at the beginning of the program `bytes`.
  init(_ bytes: UnsafeRawBufferPointer) { reader = ByteReader(bytes) }

  /// Runs to the end; the number of the value that is left.
  mutating func run() throws(VitError) -> Int {
    while true {
      start = reader.position
      let code = try reader.byte("an instruction")
      if code == UInt8(ascii: ".") {
        guard reader.isAtEnd else {
          throw failure("expected the end of the file behind the pickle, found \(reader.remaining) bytes")
        }
        guard marks.isEmpty, stack.count == 1 else {
          throw failure("expected one value at the end, found \(stack.count)")
        }
        return try pop()
      }
      if try number(code) { continue }
      if try text(code) { continue }
      if try empty(code) { continue }
      if try collect(code) { continue }
      if try remember(code) { continue }
      if try object(code) { continue }
      throw failure(
        "expected an instruction of a dictionary of lists, text and arrays, found 0x"
          + String(code, radix: 16))
    }
  }

  private func failure(_ message: String, code: String = "pickle") -> VitError {
    VitError("offset \(start): \(message)", code: code)
  }

  // MARK: The stack

  private mutating func push(_ value: PickleValue) throws(VitError) {
    guard values.count < PickleMachine.maximumValues else {
      throw failure("expected at most \(PickleMachine.maximumValues) values, found more")
    }
    stack.append(values.count)
    values.append(value)
  }

  private mutating func pop() throws(VitError) -> Int {
    guard stack.count > marks.last ?? 0, let value = stack.popLast() else {
      throw failure("expected a value on the stack, found none")
    }
    return value
  }

  private func top() throws(VitError) -> Int {
    guard stack.count > marks.last ?? 0, let value = stack.last else {
      throw failure("expected a value on the stack, found none")
    }
    return value
  }

  private mutating func popMark() throws(VitError) -> [Int] {
    guard let mark = marks.popLast(), mark <= stack.count else {
      throw failure("expected a mark on the stack, found none")
    }
    let items = Array(stack[mark...])
    stack.removeSubrange(mark...)
    return items
  }

  // MARK: Numbers and text

  private mutating func number(_ code: UInt8) throws(VitError) -> Bool {
    switch code {
    case UInt8(ascii: "N"): try push(.none)
    case 0x88: try push(.bool(true))
    case 0x89: try push(.bool(false))
    case UInt8(ascii: "K"): try push(.int(Int(try reader.byte("a number"))))
    case UInt8(ascii: "M"): try push(.int(Int(try reader.littleEndian(UInt16.self))))
    case UInt8(ascii: "J"): try push(.int(Int(try reader.littleEndian(Int32.self))))
    case UInt8(ascii: "I"), UInt8(ascii: "L"): try push(try decimal(isLong: code == UInt8(ascii: "L")))
    case 0x8a:
      let bytes = try reader.bytes(Int(try reader.byte("a size")), "a number")
      guard bytes.count <= 8 else { throw failure("expected a number of 8 bytes, found \(bytes.count)") }
      var value: UInt64 = 0
      for (place, byte) in bytes.enumerated() { value |= UInt64(byte) << UInt64(8 * place) }
      let unused = UInt64(8 * (8 - bytes.count))
      // The last byte has the sign.
      try push(.int(bytes.isEmpty ? 0 : Int(Int64(bitPattern: value << unused) >> Int64(unused))))
    default: return false
    }
    return true
  }

  /// A number in digits; `00` and `01` are truth values, an `L` may stand behind a long one.
  private mutating func decimal(isLong: Bool) throws(VitError) -> PickleValue {
    let range = try line("a number")
    var text = String(decoding: reader.bytes[range], as: UTF8.self)
    if isLong, text.hasSuffix("L") { text.removeLast() }
    if !isLong, text == "00" || text == "01" { return .bool(text == "01") }
    guard let value = Int(text) else {
      throw failure("expected a number of 64 bits in digits, found '\(String(text.prefix(40)))'")
    }
    return .int(value)
  }

  private mutating func text(_ code: UInt8) throws(VitError) -> Bool {
    switch code {
    case UInt8(ascii: "S"): try push(.text(.escaped, try literal()))
    case UInt8(ascii: "U"), UInt8(ascii: "C"), 0x8c:
      try push(.text(.raw, try run(Int(try reader.byte("a size")))))
    case UInt8(ascii: "B"), UInt8(ascii: "X"):
      try push(.text(.raw, try run(Int(try reader.littleEndian(UInt32.self, "a size")))))
    case UInt8(ascii: "T"):
      try push(.text(.raw, try run(Int(try reader.littleEndian(Int32.self, "a size")))))
    case 0x8d, 0x8e, 0x96:
      let size = try reader.littleEndian(UInt64.self, "a size")
      guard let count = Int(exactly: size) else {
        throw failure("expected a size within the file, found \(size)")
      }
      try push(.text(.raw, try run(count)))
    default: return false
    }
    return true
  }

  /// The offsets of the next `count` bytes.
  private mutating func run(_ count: Int) throws(VitError) -> Range<Int> {
    let first = reader.consumed
    try reader.skip(count, "text")
    return first..<reader.consumed
  }

  /// The offsets of what stands before the next line break.
  private mutating func line(_ what: String) throws(VitError) -> Range<Int> {
    let first = reader.consumed
    guard let end = reader.bytes[first...].firstIndex(of: 10) else {
      throw failure("expected the end of a line behind \(what), found the end of the file", code: "truncated")
    }
    try reader.skip(end - first + 1)
    return first..<end
  }

  /// The offsets of what stands between the quotes of a literal.
  private mutating func literal() throws(VitError) -> Range<Int> {
    let range = try line("text")
    guard range.count >= 2, let first = reader.bytes[range].first, first == 0x27 || first == 0x22,
      reader.bytes[range].last == first
    else { throw failure("expected text in quotes, found none") }
    return range.lowerBound + 1..<range.upperBound - 1
  }

  // MARK: Lists, tuples and dictionaries

  private mutating func empty(_ code: UInt8) throws(VitError) -> Bool {
    switch code {
    case UInt8(ascii: "("):
      try checkRoom()
      marks.append(stack.count)
    case UInt8(ascii: "]"): try push(.list([]))
    case UInt8(ascii: "}"): try push(.dictionary([]))
    case UInt8(ascii: ")"): try push(.tuple([]))
    case UInt8(ascii: "l"): try push(.list(try popMark()))
    case UInt8(ascii: "t"): try push(.tuple(try popMark()))
    case UInt8(ascii: "d"): try push(.dictionary(try pairs(try popMark())))
    case 0x85...0x87:
      var items: [Int] = []
      for _ in 0..<Int(code) - 0x84 { items.append(try pop()) }
      try push(.tuple(items.reversed()))
    default: return false
    }
    return true
  }

  private func pairs(_ items: [Int]) throws(VitError) -> [(key: Int, value: Int)] {
    guard items.count.isMultiple(of: 2) else {
      throw failure("expected a value for each key, found \(items.count) of both")
    }
    return stride(from: 0, to: items.count, by: 2).map { (items[$0], items[$0 + 1]) }
  }

  private mutating func collect(_ code: UInt8) throws(VitError) -> Bool {
    switch code {
    case UInt8(ascii: "a"):
      let item = try pop()
      try append([item], to: try top())
    case UInt8(ascii: "e"):
      let items = try popMark()
      try append(items, to: try top())
    case UInt8(ascii: "s"):
      let value = try pop()
      try insert([(try pop(), value)], into: try top())
    case UInt8(ascii: "u"):
      let members = try pairs(try popMark())
      try insert(members, into: try top())
    default: return false
    }
    return true
  }

  private mutating func append(_ items: [Int], to place: Int) throws(VitError) {
    guard case .list(var list) = values[place] else {
      throw failure("expected a list to add to, found \(values[place].kind)")
    }
    // Held once, so that it grows where it is.
    values[place] = .none
    list += items
    values[place] = .list(list)
  }

  private mutating func insert(_ members: [(key: Int, value: Int)], into place: Int) throws(VitError) {
    guard case .dictionary(var dictionary) = values[place] else {
      throw failure("expected a dictionary to add to, found \(values[place].kind)")
    }
    values[place] = .none
    dictionary += members
    values[place] = .dictionary(dictionary)
  }

  // MARK: What is used again

  private mutating func remember(_ code: UInt8) throws(VitError) -> Bool {
    switch code {
    case 0x80:
      let version = try reader.byte("the protocol")
      guard version <= 5 else { throw failure("expected a protocol of at most 5, found \(version)") }
    // The frame's size says nothing that its contents do not.
    case 0x95: try reader.skip(8, "a frame's size")
    case 0x94: try keep(at: memo.count)
    case UInt8(ascii: "q"): try keep(at: Int(try reader.byte("a place")))
    case UInt8(ascii: "r"): try keep(at: Int(try reader.littleEndian(UInt32.self, "a place")))
    case UInt8(ascii: "p"): try keep(at: try place())
    case UInt8(ascii: "h"): try recall(Int(try reader.byte("a place")))
    case UInt8(ascii: "j"): try recall(Int(try reader.littleEndian(UInt32.self, "a place")))
    case UInt8(ascii: "g"): try recall(try place())
    default: return false
    }
    return true
  }

  private mutating func place() throws(VitError) -> Int {
    guard case .int(let place) = try decimal(isLong: true), place >= 0 else {
      throw failure("expected a place from 0, found none")
    }
    return place
  }

  private mutating func recall(_ place: Int) throws(VitError) {
    guard let value = memo[place] else {
      throw failure("expected a value at place \(place), found none")
    }
    try checkRoom()
    stack.append(value)
  }

  private mutating func keep(at place: Int) throws(VitError) {
    try checkRoom()
    memo[place] = try top()
  }

  /// Throws where more is noted of values than there may be values.
  private func checkRoom() throws(VitError) {
    guard stack.count + marks.count + memo.count < 2 * PickleMachine.maximumValues else {
      throw failure("expected at most \(2 * PickleMachine.maximumValues) values in use, found more")
    }
  }

  // MARK: Names, and what Python would make of them

  private mutating func object(_ code: UInt8) throws(VitError) -> Bool {
    switch code {
    case UInt8(ascii: "c"):
      let module = try line("a module")
      let name = try line("a name")
      try push(.name(try known(Array(reader.bytes[module]), Array(reader.bytes[name]))))
    case 0x93:
      let name = try short(try pop())
      let module = try short(try pop())
      try push(.name(try known(module, name)))
    case UInt8(ascii: "R"):
      let arguments = try pop()
      let called = try pop()
      try push(try made(by: called, of: arguments))
    case UInt8(ascii: "b"):
      let state = try pop()
      try fill(try top(), state)
    default: return false
    }
    return true
  }

  /// The bytes of a short text: a name, or a letter.
  private func short(_ place: Int) throws(VitError) -> [UInt8] {
    guard case .text(let coding, let range) = values[place], coding != .latin, range.count <= 256 else {
      throw failure("expected a name, found \(values[place].kind)")
    }
    let bytes = Array(reader.bytes[range])
    return coding == .raw ? bytes : try PickleText.unescaped(bytes[...])
  }

  private func known(_ module: [UInt8], _ name: [UInt8]) throws(VitError) -> PickleValue.Name {
    let module = String(decoding: module.prefix(80), as: UTF8.self)
    let name = String(decoding: name.prefix(80), as: UTF8.self)
    switch (module, name) {
    case ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"):
      return .reconstruct
    case ("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer"): return .fromBuffer
    case ("numpy", "ndarray"): return .array
    case ("numpy", "dtype"): return .elementType
    case ("_codecs", "encode"): return .encode
    default:
      throw failure(
        "expected no names but those of NumPy's arrays, found '\(module).\(name)', which is not looked up",
        code: "pickle-name")
    }
  }

  private func made(by called: Int, of arguments: Int) throws(VitError) -> PickleValue {
    guard case .name(let name) = values[called], case .tuple(let items) = values[arguments] else {
      throw failure(
        "expected a name and a tuple, found \(values[called].kind) and \(values[arguments].kind)")
    }
    switch name {
    case .reconstruct: return .array(nil)
    case .elementType:
      guard let first = items.first else { break }
      return .elementType(String(decoding: try short(first).prefix(40), as: UTF8.self))
    case .encode:
      guard let first = items.first, case .text(.raw, let range) = values[first] else { break }
      return .text(.latin, range)
    case .fromBuffer:
      guard items.count == 4 else { break }
      let isColumnMajor = try short(items[3]) == Array("F".utf8)
      return .array(
        .init(shape: items[2], type: items[1], isColumnMajor: isColumnMajor, bytes: items[0]))
    case .array: break
    }
    throw failure("expected what an array or bytes are made of, found \(items.count) other values")
  }

  /// Gives an array its shape, type and bytes; what else a type of elements says is not looked at.
  private mutating func fill(_ place: Int, _ state: Int) throws(VitError) {
    guard case .tuple(var items) = values[state] else {
      throw failure("expected a tuple, found \(values[state].kind)")
    }
    switch values[place] {
    case .elementType: return
    case .array:
      if items.count == 5 { items.removeFirst() }
      guard items.count == 4 else {
        throw failure("expected shape, type, order and bytes of an array, found \(items.count) values")
      }
      let isColumnMajor: Bool
      switch values[items[2]] {
      case .bool(let value): isColumnMajor = value
      case .int(let value): isColumnMajor = value != 0
      default: throw failure("expected the order of an array, found \(values[items[2]].kind)")
      }
      values[place] = .array(
        .init(shape: items[0], type: items[1], isColumnMajor: isColumnMajor, bytes: items[3]))
    default: throw failure("expected an array to fill, found \(values[place].kind)")
    }
  }
}
