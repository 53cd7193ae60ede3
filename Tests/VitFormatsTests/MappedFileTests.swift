import Glibc
import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct MappedFileTests {
  @Test("a file is lent and copied by range")
  func ranges() throws {
    let scratch = try Scratch()
    let file = try MappedFile(path: scratch.write([1, 2, 3, 4, 5], to: "a"))
    #expect(file.count == 5)
    #expect(try file.read(1..<4) == [2, 3, 4])
    #expect(try file.withBytes(3..<5) { Array($0) } == [4, 5])
    #expect(try file.storage(0..<2).withBytes { Array($0) } == [1, 2])
    #expect(throws: VitError.self) { try file.read(3..<6) }
    #expect(throws: VitError.self) { try file.read(-1..<2) }
  }

  @Test("an empty file has no bytes and is no error")
  func empty() throws {
    let scratch = try Scratch()
    let file = try MappedFile(path: scratch.write([], to: "a"))
    #expect(try file.withBytes { $0.count } == 0)
    #expect(try file.read(0..<0) == [])
  }

  @Test("a file that was cut short is an error and no signal")
  func shrunk() throws {
    let scratch = try Scratch()
    let path = try scratch.write([UInt8](repeating: 7, count: 20_000), to: "a")
    let file = try MappedFile(path: path)
    let storage = try file.storage(10_000..<20_000)
    #expect(truncate(path, 5_000) == 0)
    #expect(throws: VitError.self) { try storage.withBytes { $0.count } }
    #expect(throws: VitError.self) { try file.read(0..<20_000) }
    #expect(try file.read(0..<5_000).count == 5_000)
  }

  @Test("a missing file, a folder and a pipe are input errors that name the path")
  func notFiles() throws {
    let scratch = try Scratch()
    #expect(mkfifo(scratch.file("pipe"), 0o600) == 0)
    for (path, code) in [
      (scratch.file("none"), "missing-file"), (scratch.path, "not-a-file"),
      (scratch.file("pipe"), "not-a-file"),
    ] {
      let error = #expect(throws: VitError.self) { try MappedFile(path: path) }
      #expect(error?.kind == .input)
      #expect(error?.diagnostic.code == code)
      #expect(error?.diagnostic.location.file == path)
    }
  }

  @Test("a file beyond the limit is refused")
  func limit() throws {
    let scratch = try Scratch()
    let path = try scratch.write([1, 2, 3], to: "a")
    #expect(try MappedFile.contents(of: path, limit: 3) == [1, 2, 3])
    #expect(throws: VitError.self) { try MappedFile.contents(of: path, limit: 2) }
  }
}
