import Glibc
import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite("Checkpoint files") struct CheckpointFileTests {
  /// What a file told its user.
  private final class Reports {
    var codes: [String] = []
  }

  private func digest(_ name: String) -> Digest { Digest(of: Array(name.utf8)) }

  private func open(
    _ path: String, _ identity: String = "a", resuming: Bool = false, reports: Reports = Reports()
  ) throws -> CheckpointFile {
    try CheckpointFile(path: path, identity: digest(identity), resuming: resuming) {
      reports.codes.append($0.code)
    }
  }

  private func save(_ bytes: [UInt8], _ key: String, to file: CheckpointFile) throws {
    try file.save(bytes.count, key) { write in try bytes.withUnsafeBytes(write) }
  }

  private func load(_ key: String, of file: CheckpointFile) throws -> [UInt8]? {
    try file.load(key) { reader in
      var bytes = [UInt8](repeating: 0, count: reader.remaining)
      try bytes.withUnsafeMutableBytes { try reader.read(into: $0) }
      return bytes
    }
  }

  @Test("what was saved last under each key is there after resuming, and can be replaced again")
  func roundTrip() throws {
    let scratch = try Scratch()
    let path = scratch.file("c")
    let large = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    do {
      let file = try open(path)
      #expect(file.isEmpty)
      try save([1, 2, 3], "first", to: file)
      try save(large, "second", to: file)
      try save([4, 5], "first", to: file)
      #expect(try load("first", of: file) == [4, 5])
    }
    do {
      let file = try open(path, resuming: true)
      #expect(!file.isEmpty)
      #expect(try load("first", of: file) == [4, 5])
      #expect(try load("second", of: file) == large)
      #expect(try load("third", of: file) == nil)
      try save([], "third", to: file)
      #expect(try load("second", of: file) == large)
    }
    let file = try open(path, resuming: true)
    #expect(try load("third", of: file) == [])
    file.remove()
    #expect(try scratch.names == [])
  }

  @Test("the file is there before anything was trained, and stays until it is removed")
  func stays() throws {
    let scratch = try Scratch()
    _ = try open(scratch.file("c"))
    #expect(try scratch.names == ["c"])
    let file = try open(scratch.file("c"), resuming: true)
    #expect(file.isEmpty)
    file.remove()
    #expect(try scratch.names == [])
  }

  @Test("a file of another compile, none, a damaged and a shortened one are refused")
  func refusals() throws {
    let scratch = try Scratch()
    let path = scratch.file("c")
    func failure(_ identity: String = "a") throws -> VitError? {
      do {
        _ = try open(path, identity, resuming: true)
        return nil
      } catch let error as VitError { return error }
    }
    let missing = try failure()
    #expect(missing?.kind == .usage && missing?.diagnostic.code == "no-checkpoint")
    #expect(!CheckpointFile.exists(path))
    do {
      let file = try open(path)
      try save([1, 2, 3], "k", to: file)
    }
    #expect(try failure() == nil)
    #expect(try failure("b")?.diagnostic.message.hasPrefix("the checkpoint belongs to another") == true)
    let bytes = try MappedFile.contents(of: path, limit: 1 << 20)
    for index in bytes.indices {
      var copy = bytes
      copy[index] ^= 1 << (index % 8)
      try scratch.write(copy, to: "c")
      #expect(try failure()?.diagnostic.code == "checkpoint", "byte \(index)")
      try scratch.write(Array(bytes[..<index]), to: "c")
      #expect(try failure()?.diagnostic.code == "checkpoint", "cut at \(index)")
    }
  }

  /// A file with these entries and a digest that is right.
  private func forged(_ count: UInt64, _ rest: [UInt8]) -> [UInt8] {
    let head = Array("VITCKPT4".utf8) + digest("a").bytes + little(count) + rest
    return head + Digest(of: head).bytes
  }

  private func little(_ number: UInt64) -> [UInt8] { withUnsafeBytes(of: number.littleEndian) { Array($0) } }

  @Test("forged counts, lengths and sizes are refused, whatever they claim")
  func forgeries() throws {
    let scratch = try Scratch()
    let key = little(1) + [0x6b]
    let files = [
      forged(65, []), forged(.max, []), forged(1, []), forged(1, little(.max)), forged(1, little(70000)),
      forged(1, little(2) + [0x6b]), forged(1, key + little(.max)), forged(1, key + little(1 << 62)),
      forged(1, key + little(5) + [0]), forged(1, little(1) + [0xff] + little(0)), forged(0, [1]),
    ]
    for (index, bytes) in files.enumerated() {
      let path = try scratch.write(bytes, to: "c")
      let error = #expect(throws: VitError.self, "file \(index)") { try open(path, resuming: true) }
      #expect(error?.diagnostic.code == "checkpoint", "file \(index)")
    }
    let path = try scratch.write(forged(1, key + little(2) + [8, 9]), to: "c")
    #expect(try load("k", of: open(path, resuming: true)) == [8, 9])
  }

  @Test("as many entries are written as are read; one more warns once, and leaves the file as it was")
  func entries() throws {
    let scratch = try Scratch()
    let reports = Reports()
    do {
      let file = try open(scratch.file("c"), reports: reports)
      for index in 0..<66 { try save([UInt8(index)], "k\(index)", to: file) }
      #expect(reports.codes == ["checkpoint-unwritten"])
    }
    let file = try open(scratch.file("c"), resuming: true)
    #expect(try load("k63", of: file) == [63])
    #expect(try load("k64", of: file) == nil)
  }

  @Test("a file that cannot be written warns once and leaves the last one; what a state throws is thrown")
  func unwritable() throws {
    let scratch = try Scratch()
    let reports = Reports()
    let path = scratch.file("folder/c")
    #expect(mkdir(scratch.file("folder"), 0o777) == 0)
    let file = try open(path, reports: reports)
    try save([1], "k", to: file)
    // A folder in the place of the file: nobody, root neither, can write there.
    #expect(unlink(path) == 0 && mkdir(path, 0o777) == 0)
    try save([2], "k", to: file)
    try save([3], "k", to: file)
    #expect(reports.codes == ["checkpoint-unwritten"])
    #expect(try load("k", of: file) == [1])
    #expect(rmdir(path) == 0)
    struct Failure: Error {}
    #expect(throws: Failure.self) { try file.save(1, "k") { _ in throw Failure() } }
    try save([4], "k", to: file)
    #expect(try load("k", of: open(path, resuming: true)) == [4])
  }

  @Test("a reader gives what there is and not a byte more, and everything must be read")
  func reader() throws {
    let scratch = try Scratch()
    let file = try open(scratch.file("c"))
    try save(little(7) + [1] + little((0.5).bitPattern) + [1, 2, 3], "k", to: file)
    let rest = try file.load("k") { reader in
      #expect(try reader.integer(in: 0...7, "a step") == 7)
      #expect(try reader.flag("a flag"))
      #expect(try reader.number("a rate") == 0.5)
      var part = try reader.part(2)
      #expect(throws: VitError.self) { try part.integer(in: 0...1, "a step") }
      #expect(part.remaining == 2)
      #expect(throws: VitError.self) { try reader.part(2) }
      #expect(throws: VitError.self) { try reader.part(-1) }
      return try reader.part(1).remaining
    }
    #expect(rest == 1)
    let error = #expect(throws: VitError.self) { try file.load("k") { try $0.integer(in: 0...6, "a step") } }
    #expect(error?.diagnostic.message == "the checkpoint says 7 for a step, expected 0…6")
    #expect(throws: VitError.self) { try file.load("k") { try $0.integer(in: 0...7, "a step") } }
  }

  @Test("two compiles to one output keep their states apart, and each finds its own again")
  func twoAtOnce() throws {
    let scratch = try Scratch()
    let path = scratch.file("c")
    do {
      let (a, b) = (try open(path, "a"), try open(path, "b"))
      try save([1], "k", to: a)
      try save([2], "k", to: b)
      try save([3], "k", to: a)
      try save([4], "k", to: b)
      #expect(a.path == path && b.path != path)
      #expect(try load("k", of: a) == [3])
      #expect(try load("k", of: b) == [4])
      #expect(try scratch.names.count == 2)
    }
    #expect(CheckpointFile.exists(path))
    let (a, b) = (try open(path, "a", resuming: true), try open(path, "b", resuming: true))
    #expect(try load("k", of: a) == [3])
    #expect(try load("k", of: b) == [4])
    a.remove()
    #expect(CheckpointFile.exists(path))
    b.remove()
    #expect(try scratch.names == [])
    #expect(!CheckpointFile.exists(path))
  }

  @Test("the same compile twice at once: neither takes the other's file away")
  func twins() throws {
    let scratch = try Scratch()
    let path = scratch.file("c")
    let (a, b) = (try open(path), try open(path))
    try save([1], "k", to: a)
    try save([1], "k", to: b)
    b.remove()
    #expect(try scratch.names == ["c"])
    #expect(try load("k", of: open(path, resuming: true)) == [1])
    a.remove()
    #expect(try scratch.names == [])
  }

  @Test("what an interrupted compile left is not thrown away unseen")
  func unused() throws {
    let scratch = try Scratch()
    let path = scratch.file("c")
    do { try save([1], "k", to: open(path)) }
    let reports = Reports()
    let file = try open(path, reports: reports)
    #expect(reports.codes == ["checkpoint-unused"])
    #expect(try load("k", of: open(path, resuming: true)) == [1])
    try save([2], "k", to: file)
    #expect(try load("k", of: open(path, resuming: true)) == [2])
  }
}
