internal import VitIR

/// Decodes tensors, leaving their elements in the mapped file where they lie there as memory has them.
struct TensorDecoder {
  /// The most axes that a tensor may have.
  static let maximumRank = 64

  let file: MappedFile
  let external: ExternalData

  /// The fields of a TensorProto.
  private struct Fields {
    var name = ""
    var dims: [Int] = []
    var type = 0
    var raw: Range<Int>?
    var isExternal = false
    var entries: [(key: String, value: String)] = []
    var hasSegment = false
    var strings = 0
    /// The typed fields that are there: pieces of packed values, by field number.
    var typed: [Int: [Range<Int>]] = [:]
  }

  /// One of the fields that hold elements by type.
  private struct TypedField {
    let number: Int
    let name: StaticString
    let wire: WireReader.WireType

    static let all = [
      TypedField(number: 4, name: "float_data", wire: .fixed32),
      TypedField(number: 5, name: "int32_data", wire: .varint),
      TypedField(number: 7, name: "int64_data", wire: .varint),
      TypedField(number: 10, name: "double_data", wire: .fixed64),
      TypedField(number: 11, name: "uint64_data", wire: .varint),
    ]

    /// The field that holds elements of a type.
    static func holding(_ element: ElementType) -> TypedField {
      switch element {
      case .f32: all[0]
      case .i64: all[2]
      case .f64: all[3]
      case .u32, .u64: all[4]
      default: all[1]
      }
    }
  }

  /// Decodes a TensorProto. Bytes that are no such message throw; a tensor that says something wrong or is of a type that
  /// vitc has not is returned as a failure, which counts when somebody reads it.
  func decode(_ reader: WireReader) throws(VitError) -> OnnxTensor {
    var reader = reader
    var fields = Fields()
    while try reader.next() {
      switch reader.field {
      case 1: try reader.ints("dims", into: &fields.dims, limit: Self.maximumRank)
      case 2: fields.type = try reader.int("data_type")
      case 3:
        try reader.skip()
        fields.hasSegment = true
      case 6:
        _ = try reader.range("string_data")
        fields.strings += 1
      case 8: fields.name = decodedText(try reader.bytes("name"))
      case 9: fields.raw = try reader.range("raw_data")
      case 13: fields.entries.append(try entry(reader.message("external_data", "StringStringEntryProto")))
      case 14: fields.isExternal = try reader.int("data_location") == 1
      default:
        if let field = TypedField.all.first(where: { $0.number == reader.field }) {
          append(try reader.scalars(field.name, as: field.wire), to: &fields.typed[field.number, default: []])
        } else {
          try reader.skip()
        }
      }
    }
    do {
      return OnnxTensor(
        name: fields.name, code: fields.type, content: .success(try tensor(fields, reader)))
    } catch {
      var error = error
      error.diagnostic.message = "tensor '\(fields.name)': \(error.diagnostic.message)"
      return OnnxTensor(name: fields.name, content: .failure(error))
    }
  }

  /// Adds a piece, joined to the last where it follows on it.
  private func append(_ piece: Range<Int>, to pieces: inout [Range<Int>]) {
    if let last = pieces.last, last.upperBound == piece.lowerBound {
      pieces[pieces.count - 1] = last.lowerBound..<piece.upperBound
    } else if !piece.isEmpty {
      pieces.append(piece)
    }
  }

  /// A key with its value.
  func entry(_ reader: WireReader) throws(VitError) -> (key: String, value: String) {
    var reader = reader
    var (key, value) = ("", "")
    while try reader.next() {
      switch reader.field {
      case 1: key = decodedText(try reader.bytes("key"))
      case 2: value = decodedText(try reader.bytes("value"))
      default: try reader.skip()
      }
    }
    return (key, value)
  }

  private func tensor(_ fields: Fields, _ reader: WireReader) throws(VitError) -> Tensor {
    let packing = OnnxElement.packing(fields.type)
    guard let element = packing?.element ?? OnnxElement.type(fields.type) else {
      throw VitError(
        "elements of the type \(OnnxElement.name(fields.type)) are not supported", code: "element-type")
    }
    guard !fields.hasSegment else { throw VitError("tensors in segments are not supported") }
    let type = TensorType(element, fixed: fields.dims)
    try type.validate()
    guard fields.strings == 0 else { throw VitError("string_data in a tensor of \(type)") }
    guard let packing else {
      return try Tensor(element: element, shape: fields.dims, storage: try storage(fields, type, reader))
    }
    let bytes = try storage(fields, TensorType(.u8, fixed: [packing.bytes(for: type.count)]), reader)
    return try Tensor(
      element: element, shape: fields.dims, storage: try packing.unpacked(bytes, count: type.count))
  }

  /// The bytes of a tensor of `type`, wherever its fields have them.
  private func storage(
    _ fields: Fields, _ type: TensorType, _ reader: WireReader
  ) throws(VitError) -> any TensorStorage {
    let needed = type.count * type.element.size
    if fields.isExternal { return try external.storage(fields.entries, needed: needed) }
    if let raw = fields.raw {
      guard fields.typed.isEmpty else {
        throw VitError("raw_data beside elements in a typed field", code: "tensor-data")
      }
      guard raw.count == needed else {
        throw VitError("raw_data has \(raw.count) bytes, but \(type) needs \(needed)", code: "tensor-data")
      }
      return try file.storage(raw)
    }
    return try typed(fields.typed, type, reader)
  }

  /// The elements of a typed field, which must be as many as the type has, and in no other field.
  private func typed(
    _ fields: [Int: [Range<Int>]], _ type: TensorType, _ reader: WireReader
  ) throws(VitError) -> any TensorStorage {
    let field = TypedField.holding(type.element)
    for other in TypedField.all where other.number != field.number && fields[other.number] != nil {
      throw VitError("a tensor of \(type) has its elements in \(other.name), expected \(field.name)")
    }
    let pieces = fields[field.number] ?? []
    let bytes = pieces.reduce(0) { $0 + $1.count }
    func check(_ found: Int) throws(VitError) {
      guard found == type.count else {
        throw VitError("\(field.name) holds \(found) of \(type.count) values of \(type)", code: "tensor-data")
      }
    }
    switch field.wire {
    case .fixed32, .fixed64, .bytes:
      let size = type.element.size
      guard pieces.allSatisfy({ $0.count % size == 0 }) else {
        throw VitError("\(field.name) ends in the middle of a value", code: "tensor-data")
      }
      try check(bytes / size)
      if pieces.count == 1 { return try file.storage(pieces[0]) }
      var all: [UInt8] = []
      all.reserveCapacity(bytes)
      for piece in pieces { all.append(contentsOf: reader[piece]) }
      do { return try MemoryStorage(byteCount: bytes) { $0.copyBytes(from: all) } } catch {
        throw VitError(error)
      }
    case .varint:
      let found = pieces.reduce(0) { sum, piece in sum + reader[piece].reduce(0) { $0 + ($1 < 0x80 ? 1 : 0) }
      }
      try check(found)
      return try numbers(pieces, field.name, type, reader)
    }
  }

  private func numbers(
    _ pieces: [Range<Int>], _ name: StaticString, _ type: TensorType, _ reader: WireReader
  ) throws(VitError) -> any TensorStorage {
    let element = type.element
    do {
      return try MemoryStorage(byteCount: type.count * element.size) { buffer in
        var index = 0
        for piece in pieces {
          var run = reader.run(piece)
          while let bits = try run.element(name) {
            // The runs hold as many ends of varints as there are elements, so that the buffer has room.
            guard buffer.storeBits(bits, at: index, as: element) else {
              throw VitError("\(name) holds \(Int64(bitPattern: bits)), which is no \(element.rawValue)")
            }
            index += 1
          }
        }
      }
    } catch { throw VitError(error) }
  }

  /// Decodes a SparseTensorProto into a dense tensor.
  func decodeSparse(_ reader: WireReader) throws(VitError) -> OnnxTensor {
    var reader = reader
    var dims: [Int] = []
    var (values, indices): (OnnxTensor?, OnnxTensor?) = (nil, nil)
    while try reader.next() {
      switch reader.field {
      case 1: values = try decode(reader.message("values", "TensorProto"))
      case 2: indices = try decode(reader.message("indices", "TensorProto"))
      case 3: try reader.ints("dims", into: &dims, limit: Self.maximumRank)
      default: try reader.skip()
      }
    }
    let name = values?.name ?? ""
    do {
      guard let values, let indices else { throw VitError("values or indices are missing") }
      return OnnxTensor(
        name: name, content: .success(try dense(values.content.get(), indices.content.get(), dims)))
    } catch {
      var error = (error as? VitError) ?? VitError("\(error)", kind: .environment)
      error.diagnostic.message = "sparse tensor '\(name)': \(error.diagnostic.message)"
      return OnnxTensor(name: name, content: .failure(error))
    }
  }

  /// `indices` hold, for each of `values`, its place in the flattened tensor or its place along each axis.
  private func dense(_ values: Tensor, _ indices: Tensor, _ dims: [Int]) throws -> Tensor {
    let type = TensorType(values.element, fixed: dims)
    try type.validate()
    let count = values.count
    // A sparse tensor may stand for far more than the file holds; a thousandfold is enough for any weight matrix.
    guard type.count <= 1 << 16 || type.count / 1024 <= count else {
      throw VitError("\(count) values of \(type) are too few: it would take \(type.count) elements of memory")
    }
    guard values.shape == [count], indices.shape == [count] || indices.shape == [count, dims.count],
      let places = try indices.integers()
    else {
      throw VitError("values \(values.shape) and indices \(indices.shape) do not go together")
    }
    let isFlat = indices.shape == [count]
    let size = values.element.size
    return try Tensor(values.element, shape: dims) { buffer in
      try values.storage.withBytes { bytes in
        for index in 0..<count {
          var place = 0
          let steps = isFlat ? [places[index]] : Array(places[index * dims.count..<(index + 1) * dims.count])
          for (step, extent) in zip(steps, isFlat ? [type.count] : dims) {
            guard step >= 0, step < extent else {
              throw VitError("the index \(step) is out of range, expected 0 to \(extent - 1)")
            }
            place = place * extent + step
          }
          for byte in 0..<size { buffer[place * size + byte] = bytes[index * size + byte] }
        }
      }
    }
  }
}

extension UnsafeMutableRawBufferPointer {
  /// Stores what a varint of the file says as element `index`; false where it is no number of that type. Half floats are
  /// their bits.
  fileprivate func storeBits(_ bits: UInt64, at index: Int, as element: ElementType) -> Bool {
    func put<T: FixedWidthInteger>(_ value: T?) -> Bool {
      guard let value else { return false }
      storeBytes(of: value, toByteOffset: index * MemoryLayout<T>.size, as: T.self)
      return true
    }
    let signed = Int64(bitPattern: bits)
    switch element {
    case .i64: return put(signed)
    case .u64: return put(bits)
    case .u32: return put(UInt32(exactly: bits))
    case .i32: return put(Int32(truncatingIfNeeded: signed))
    case .i16: return put(Int16(exactly: Int32(truncatingIfNeeded: signed)))
    case .i8: return put(Int8(exactly: Int32(truncatingIfNeeded: signed)))
    case .u16, .f16, .bf16: return put(UInt16(exactly: signed))
    case .u8: return put(UInt8(exactly: signed))
    case .bool: return put(signed == 0 ? UInt8(0) : 1)
    case .f32, .f64, .q8, .w8, .w4: return false
    }
  }
}

/// Bytes as text; what is no UTF-8 becomes an escape, so that different bytes stay different.
func decodedText(_ bytes: UnsafeRawBufferPointer) -> String {
  if let text = String(validating: bytes, as: UTF8.self) { return text }
  var result = ""
  var rest = bytes[...]
  while let first = rest.first {
    // The longest that one character takes is four bytes.
    let length = (1...4).first { length in
      length <= rest.count && String(validating: rest.prefix(length), as: UTF8.self) != nil
    }
    if let length, let text = String(validating: rest.prefix(length), as: UTF8.self) {
      result += text
      rest = rest.dropFirst(length)
    } else {
      result += "\\x" + (first < 16 ? "0" : "") + String(first, radix: 16)
      rest = rest.dropFirst()
    }
  }
  return result
}

/// Whether bytes are UTF-8.
func isText(_ bytes: UnsafeRawBufferPointer) -> Bool { String(validating: bytes, as: UTF8.self) != nil }
