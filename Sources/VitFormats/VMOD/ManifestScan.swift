internal import CVitFormats
internal import VitIR

/// Looks over a message before protobuf-c unpacks it: every length is inside its parent, every field known or one that
/// may be passed over, in order and of its wire type, and there are not so many parts that unpacking them would take
/// memory out of proportion.
struct ManifestScan {
  /// The most messages, byte strings and unknown fields in a manifest.
  static let maximumParts = 1 << 20
  /// Fields of this number and above mean nothing to who does not know them, from version 2 of the format on.
  static let firstIgnorable: UInt64 = 1024
  /// The greatest number that a field of a protocol buffer may have.
  private static let lastField: UInt64 = (1 << 29) - 1
  private let version: UInt32
  private var parts = 0

  private init(version: UInt32) { self.version = version }

  /// Throws unless `bytes` is a message that `descriptor` describes, in a file of `version`.
  static func check(
    _ bytes: [UInt8], _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, version: UInt32
  ) throws(VitError) {
    var failure: VitError?
    bytes.withUnsafeBytes { buffer in
      var scan = ManifestScan(version: version)
      do throws(VitError) { try scan.message(ByteReader(buffer), descriptor.pointee) } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  private mutating func message(
    _ bytes: ByteReader, _ descriptor: ProtobufCMessageDescriptor
  ) throws(VitError) {
    var reader = bytes
    let fields = UnsafeBufferPointer(start: descriptor.fields, count: Int(descriptor.n_fields))
    let name = String(cString: descriptor.short_name)
    var last: UInt64 = 0
    while !reader.isAtEnd {
      let start = reader.position
      let tag = try reader.varint("a tag of \(name)")
      let (number, wire) = (tag >> 3, tag & 7)
      func damaged(_ what: String) -> VitError {
        VitError("offset \(start): field \(number) of \(name) \(what)", code: "bad-manifest")
      }
      guard let field = fields.first(where: { UInt64($0.id) == number }) else {
        guard version >= 2, (Self.firstIgnorable...Self.lastField).contains(number) else {
          throw damaged("is unknown")
        }
        guard number >= last else { throw damaged("is out of order") }
        last = number
        try count(damaged)
        switch wire {
        case 0: _ = try reader.varint("a field of \(name)")
        case 1: try reader.skip(8, "a field of \(name)")
        case 2: _ = try content(of: &reader, name, damaged)
        case 5: try reader.skip(4, "a field of \(name)")
        default: throw damaged("has the wire type \(wire)")
        }
        continue
      }
      let isList = field.label == PROTOBUF_C_LABEL_REPEATED
      let isNested = field.type == PROTOBUF_C_TYPE_MESSAGE
      let isScalar = !isNested && field.type != PROTOBUF_C_TYPE_BYTES
      // A list of scalars is packed: one field.
      guard number > last || (number == last && isList && !isScalar) else { throw damaged("is out of order") }
      last = number
      if isScalar && !isList {
        guard wire == (field.isFixed ? 1 : 0) else { throw damaged("has the wire type \(wire)") }
        try scalar(&reader, field, name)
        continue
      }
      guard wire == 2 else { throw damaged("has the wire type \(wire)") }
      var content = try content(of: &reader, name, damaged)
      if isScalar {
        while !content.isAtEnd { try scalar(&content, field, name) }
        continue
      }
      try count(damaged)
      if isNested, let nested = field.descriptor {
        // No message holds itself, so the schema bounds the depth.
        try message(content, nested.assumingMemoryBound(to: ProtobufCMessageDescriptor.self).pointee)
      }
    }
  }

  /// Counts a part, of which there may not be too many.
  private mutating func count(_ damaged: (String) -> VitError) throws(VitError) {
    parts += 1
    guard parts <= Self.maximumParts else {
      throw damaged("is one of more than \(Self.maximumParts) parts")
    }
  }

  /// What a field holds that says its length.
  private func content(
    of reader: inout ByteReader, _ message: String, _ damaged: (String) -> VitError
  ) throws(VitError) -> ByteReader {
    let length = try reader.varint("a length in \(message)")
    guard let count = Int(exactly: length), count <= reader.remaining else {
      throw damaged("has \(length) bytes, but there are \(reader.remaining)")
    }
    return try reader.reader(count)
  }

  /// Passes over a number, which must fit its field.
  private func scalar(
    _ reader: inout ByteReader, _ field: ProtobufCFieldDescriptor, _ message: String
  ) throws(VitError) {
    let start = reader.position
    if field.isFixed { return try reader.skip(8, "a field of \(message)") }
    let value = try reader.varint("a field of \(message)")
    let is32 = field.type == PROTOBUF_C_TYPE_UINT32 || field.type == PROTOBUF_C_TYPE_ENUM
    guard !is32 || value <= UInt32.max else {
      throw VitError(
        "offset \(start): field \(field.id) of \(message) does not fit 32 bits", code: "bad-manifest")
    }
  }
}

extension ProtobufCFieldDescriptor {
  /// Whether its numbers take eight bytes each.
  fileprivate var isFixed: Bool { type == PROTOBUF_C_TYPE_DOUBLE || type == PROTOBUF_C_TYPE_FIXED64 }
}
