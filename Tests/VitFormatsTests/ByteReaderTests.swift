import Testing
import VitFormats
import VitIR

@Suite struct ByteReaderTests {
  private func reading<Result>(_ bytes: [UInt8], _ body: (inout ByteReader) throws -> Result) rethrows
    -> Result
  {
    try bytes.withUnsafeBytes { buffer in
      var reader = ByteReader(buffer, origin: 100)
      return try body(&reader)
    }
  }

  @Test("numbers are read in both byte orders, in sequence")
  func numbers() throws {
    try reading([1, 2, 3, 4, 5, 6, 7, 0xff, 0xfe]) { (reader) throws -> Void in
      #expect(try reader.littleEndian(UInt16.self) == 0x0201)
      #expect(try reader.bigEndian(UInt32.self) == 0x0304_0506)
      #expect(try reader.byte() == 7)
      #expect(try reader.bigEndian(Int16.self) == -2)
      #expect(reader.isAtEnd)
    }
  }

  @Test("reading past the end throws with the offset in the file and what was wanted")
  func pastTheEnd() throws {
    let error = #expect(throws: VitError.self) {
      try reading([1, 2, 3]) { (reader) throws -> Void in
        try reader.skip(2)
        _ = try reader.littleEndian(UInt32.self, "a length")
      }
    }
    #expect(error?.diagnostic.message == "offset 102: expected 4 bytes of a length, found 1")
    #expect(throws: VitError.self) { try reading([1]) { try $0.skip(-1) } }
    #expect(throws: VitError.self) { try reading([1]) { try $0.skip(Int.max) } }
  }

  @Test("a varint has at most 64 bits and ten bytes")
  func varints() throws {
    #expect(try reading([0x00]) { try $0.varint() } == 0)
    #expect(try reading([0xac, 0x02]) { try $0.varint() } == 300)
    let nines = [UInt8](repeating: 0xff, count: 9)
    #expect(try reading(nines + [0x01]) { try $0.varint() } == UInt64.max)
    #expect(throws: VitError.self) { try reading(nines + [0x02]) { try $0.varint() } }
    #expect(throws: VitError.self) { try reading(nines + [0x81, 0x00]) { try $0.varint() } }
    #expect(throws: VitError.self) { try reading(nines) { try $0.varint() } }
  }

  @Test("a cursor over a part ends where the part ends and keeps the offsets of the file")
  func parts() throws {
    try reading([1, 2, 3, 4]) { (reader) throws -> Void in
      try reader.skip(1)
      var part = try reader.reader(2)
      #expect(part.position == 101)
      #expect(try part.bigEndian(UInt16.self) == 0x0203)
      #expect(throws: VitError.self) { try part.byte() }
      #expect(try reader.byte() == 4)
    }
  }

  @Test("text that is no UTF-8 is refused")
  func text() throws {
    #expect(try reading(Array("né".utf8)) { try $0.text(3) } == "né")
    #expect(throws: VitError.self) { try reading([0x61, 0xff]) { try $0.text(2) } }
  }
}
