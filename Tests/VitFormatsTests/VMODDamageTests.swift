import Testing
import VitFormats
import VitFuzzing
import VitIR
import VitTestSupport

@Suite struct VMODDamageTests {
  @Test("every changed byte is found out, wherever it is")
  func flips() throws {
    let scratch = try Scratch()
    let bytes = try VModSample.bytes(VModSample.file())
    for index in bytes.indices {
      var copy = bytes
      copy[index] ^= 1 << (index % 8)
      #expect(throws: VitError.self, "byte \(index)") { try VModSample.readAll(copy, in: scratch) }
    }
  }

  @Test("every truncation and every addition is found out")
  func lengths() throws {
    let scratch = try Scratch()
    let bytes = try VModSample.bytes(VModSample.file())
    for count in bytes.indices {
      #expect(throws: VitError.self, "cut at \(count)") {
        try VModSample.readAll(Array(bytes[..<count]), in: scratch)
      }
    }
    #expect(throws: VitError.self) { try VModSample.readAll(bytes + [0], in: scratch) }
  }

  @Test("a file that is damaged after it was opened is found out when the tensor is read")
  func later() throws {
    let scratch = try Scratch()
    let path = scratch.file("m.vmod")
    try VModWriter.write(VModSample.file(), to: path)
    let file = try VModSample.read(path)
    try scratch.write([1, 2, 3], to: "m.vmod")
    let error = #expect(throws: VitError.self) { try file.graph.tensors["head.weight"]?.floats() }
    #expect(error?.diagnostic.location.file == path)
  }

  private func failure(_ change: (inout VModForgery) -> Void) throws -> String? {
    let scratch = try Scratch()
    var forgery = VModForgery(try VModSample.bytes(VModSample.file()))
    change(&forgery)
    do {
      try VModSample.readAll(forgery.bytes, in: scratch)
      return nil
    } catch let error as VitError { return error.diagnostic.message }
  }

  /// A field of a protocol buffer: bytes under a number.
  private func field(_ number: UInt8, _ content: [UInt8]) -> [UInt8] {
    precondition(content.count < 128)
    return [number << 3 | 2, UInt8(content.count)] + content
  }

  @Test("a file that is put together again unchanged is accepted")
  func honest() throws { #expect(try failure { _ in } == nil) }

  @Test("a forged manifest gives errors and never a trap")
  func forgedManifest() throws {
    let scratch = try Scratch()
    let honest = VModForgery(try VModSample.bytes(VModSample.file()))
    #expect(
      damaged(honest.manifest, step: 2) {
        var forgery = honest
        forgery.manifest = $0
        try VModSample.readAll(forgery.bytes, in: scratch)
      } == [])
    #expect(
      damaged(honest.table) {
        var forgery = honest
        forgery.table = $0
        try VModSample.readAll(forgery.bytes, in: scratch)
      } == [])
  }

  @Test("unknown fields, fields out of order and of a wrong wire type are refused")
  func fields() throws {
    #expect(
      try failure { $0.manifest += [0x7a, 0] }
        == "offset \(try manifestSize()): field 15 of Manifest is unknown")
    #expect(
      try failure { $0.manifest += [0x0a, 0] }?.hasSuffix("field 1 of Manifest is out of order") == true)
    #expect(
      try failure { $0.manifest = [0x08, 0] }?.hasSuffix("field 1 of Manifest has the wire type 0") == true)
    #expect(try failure { $0.manifest = [0x0a, 5] }?.hasSuffix("has 5 bytes, but there are 0") == true)
    #expect(try failure { $0.manifest = [] } == "the manifest has no graph")
  }

  /// A field of the number 1024 or 1025, of bytes, eight bytes, four bytes or a whole number.
  private static let ignorableFields: [[UInt8]] = [
    [0x82, 0x40, 2, 0xff, 0], [0x81, 0x40, 1, 2, 3, 4, 5, 6, 7, 8], [0x8d, 0x40, 1, 2, 3, 4],
    [0x80, 0x40, 0x96, 1],
  ]

  @Test(
    "fields from 1024 on are passed over from version 2 on, and must be whole", arguments: ignorableFields)
  func ignorable(field: [UInt8]) throws {
    #expect(try failure { $0.manifest += field } == nil)
    #expect(try failure { $0.manifest += field + field } == nil)
    #expect(try failure { $0.manifest += field.dropLast() } != nil)
    #expect(try failure { $0.manifest = field + $0.manifest }?.hasSuffix("is out of order") == true)
    let old = try failure {
      $0.version = 1
      $0.manifest += field
    }
    #expect(old?.hasSuffix("of Manifest is unknown") == true)
    // Groups are of a past that protocol buffers have left behind.
    #expect(try failure { $0.manifest += [0x83, 0x40] }?.hasSuffix("has the wire type 3") == true)
  }

  @Test("tensors of fields that are passed over have the last frames, from version 2 on")
  func surplusFrames() throws {
    func more(_ forgery: inout VModForgery) {
      forgery.frames.append(0)
      forgery.table += [0x0a, 2, 0x08, 1]
    }
    #expect(try failure(more) == nil)
    let old = try failure {
      $0.version = 1
      more(&$0)
    }
    #expect(old == "there are 4 tensors, but 5 frames")
    let outside = try failure {
      more(&$0)
      $0.frames.removeLast()
    }
    #expect(outside == "a frame lies outside the frames")
  }

  @Test("files of versions up to this one's are opened, others are refused by their number")
  func versions() throws {
    #expect(try failure { $0.version = 1 } == nil)
    #expect(try failure { $0.version = 0 } == "the file has the version 0 of the format, expected at most 2")
    #expect(try failure { $0.version = 3 } == "the file has the version 3 of the format, expected at most 2")
  }

  private func manifestSize() throws -> Int {
    VModForgery(try VModSample.bytes(VModSample.file())).manifest.count
  }

  @Test("a manifest of very many empty parts is refused before memory is spent on them")
  func parts() throws {
    let message = try failure {
      $0.manifest = [0x0a, 0] + (0..<2_200_000).map { $0 % 2 == 0 ? 0x2a : 0 }
    }
    #expect(message?.hasSuffix("is one of more than 1048576 parts") == true)
  }

  @Test("frames leave no gap, overlap nothing and stay inside")
  func frames() throws {
    #expect(try failure { $0.frames.append(0) } == "1 bytes of the frames belong to no tensor")
    #expect(try failure { $0.frames.removeLast() }?.hasSuffix("lies outside the frames") == true)
    #expect(try failure { $0.table += [0x0a, 0] } == nil)
    #expect(try failure { $0.table = Array($0.table.dropLast(13)) } != nil)
  }

  @Test("a frame that would grow out of proportion is refused before memory is taken")
  func bomb() throws {
    let type = Array("f32[1048576, 1048576]".utf8)
    let tensor = field(1, [0x77]) + field(2, type) + field(3, [UInt8](repeating: 0, count: 32))
    func failure(encoding: UInt8) throws -> String? {
      try self.failure {
        $0.manifest = field(1, field(4, tensor))
        $0.frames = [UInt8](repeating: 1, count: 4)
        $0.table = field(1, [0x08, 4, 0x18, encoding])
      }
    }
    #expect(try failure(encoding: 1) == "the tensor 'w' has 4398046511104 bytes, but its frame 4")
    #expect(try failure(encoding: 0) == "the tensor 'w' has 4398046511104 bytes, but its frame 4")
    #expect(try failure(encoding: 9) == "a frame has the unknown encoding 9")
  }

  @Test("what the graph says is checked like text")
  func graph() throws {
    func graph(_ content: [UInt8]) throws -> String? {
      try failure {
        $0.manifest = field(1, content)
        ($0.frames, $0.table) = ([], [])
      }
    }
    let name = field(1, [0x78])
    let type = field(2, Array("f32[2]".utf8))
    let input = field(3, name + type)
    func node(_ operation: String, _ rest: [UInt8]) -> [UInt8] {
      field(5, field(1, Array(operation.utf8)) + rest)
    }
    let result = field(4, field(1, [0x79]) + type)
    #expect(try graph([]) == nil)
    #expect(try graph(input + input) == "the name 'x' is defined twice")
    #expect(try graph(field(3, name)) == "expected an element type (\(elements)), found the end of the text")
    #expect(try graph(field(1, [0xff])) == "the name of the graph is no UTF-8")
    #expect(try graph(input + node("test.parts", field(3, [1]) + result)) == nil)
    #expect(
      try graph(input + node("test.parts", field(3, [2]) + result)) == "value 1 is read before it is defined")
    #expect(try graph(input + node("test.parts", field(3, [0]) + result)) == "input 0 ('x') is missing")
    #expect(try graph(input + node("no.such", field(3, [1]) + result)) == "unknown operation 'no.such'")
    #expect(
      try graph(input + field(6, field(1, [0x79]) + [0x10, 7])) == "value 7 is read before it is defined")
    let odd = field(2, field(1, [0x61]) + [0x10, 4] + field(3, [4]))
    #expect(try graph(odd) == "the attribute 'a' has values that its kind 4 does not allow")
  }

  private var elements: String { ElementType.allCases.map(\.rawValue).joined(separator: ", ") }
}
