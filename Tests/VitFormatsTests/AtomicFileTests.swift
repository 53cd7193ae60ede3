import Foundation
import Glibc
import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct AtomicFileTests {
  @Test("a committed file holds what was written, header rewritten, and leaves no temporary")
  func commit() throws {
    let scratch = try Scratch()
    var file = try AtomicFile(path: scratch.file("a"))
    try file.write([0, 0, 3])
    try file.rewrite([1, 2], at: 0)
    try file.write([4])
    #expect(file.count == 4)
    #expect(try scratch.names.count == 1)
    try file.commit()
    #expect(try scratch.names == ["a"])
    #expect(try MappedFile.contents(of: scratch.file("a"), limit: 10) == [1, 2, 3, 4])
  }

  @Test("a name that is no UTF-8 is the file of these bytes, and of no others")
  func bytes() throws {
    let scratch = try Scratch()
    let name = Array(scratch.file("a").utf8) + [0xe9, 0x62]
    let path = FileName.text(of: name)
    func isThere() -> Bool {
      (name + [0]).withUnsafeBytes { $0.bindMemory(to: CChar.self).baseAddress.map { access($0, F_OK) } } == 0
    }
    do {
      var dropped = try AtomicFile(path: path)
      try dropped.write([1])
    }
    #expect(try scratch.names.isEmpty && !isThere())
    try AtomicFile.write([1, 2], to: path)
    try AtomicFile.write([3, 4, 5], to: path)
    #expect(isThere() && AtomicFile.target(of: path) == path)
    #expect(try scratch.names.count == 1)
    #expect(try MappedFile.contents(of: path, limit: 10) == [3, 4, 5])
  }

  @Test("without a commit the old file stays as it was and nothing else is left")
  func dropped() throws {
    let scratch = try Scratch()
    try scratch.write([9], to: "a")
    do {
      var file = try AtomicFile(path: scratch.file("a"))
      try file.write([1, 2, 3])
      #expect(try scratch.names.count == 2)
    }
    #expect(try scratch.names == ["a"])
    #expect(try MappedFile.contents(of: scratch.file("a"), limit: 10) == [9])
  }

  @Test("a symbolic link stays one and its target gets the bytes")
  func link() throws {
    let scratch = try Scratch()
    try scratch.write([9], to: "real")
    #expect(symlink("real", scratch.file("link")) == 0)
    try scratch.write([5], to: "link")
    var status = stat()
    #expect(lstat(scratch.file("link"), &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
    #expect(try MappedFile.contents(of: scratch.file("real"), limit: 10) == [5])
  }

  @Test("a device is written to in place")
  func device() throws {
    try AtomicFile.write([1, 2, 3], to: "/dev/null")
    let full = #expect(throws: VitError.self) { try AtomicFile.write([1], to: "/dev/full") }
    #expect(full?.kind == .environment)
  }

  @Test("a folder, or a file in a folder that is missing, cannot be written: an environment error")
  func refused() throws {
    let scratch = try Scratch()
    for path in [scratch.path, scratch.file("none/a"), ""] {
      let error = #expect(throws: VitError.self) { try AtomicFile.write([1], to: path) }
      #expect(error?.kind == .environment)
      #expect(error?.diagnostic.location.file == path)
    }
    #expect(try scratch.names == [])
  }

  @Test("a link to a file that does not exist yet makes that file") func danglingLink() throws {
    let scratch = try Scratch()
    try scratch.link("link", to: "real")
    try AtomicFile.write([5], to: scratch.file("link"))
    var status = stat()
    #expect(lstat(scratch.file("link"), &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
    #expect(try MappedFile.contents(of: scratch.file("real"), limit: 10) == [5])
  }

  @Test("a pipe gets the bytes when all are there, a header that was rewritten included") func pipe() throws {
    let scratch = try Scratch()
    #expect(mkfifo(scratch.file("pipe"), 0o600) == 0)
    // Whether it can be written is found out without a reader.
    _ = try AtomicFile(path: scratch.file("pipe"))
    let reader = open(scratch.file("pipe"), O_RDONLY | O_NONBLOCK)
    defer { close(reader) }
    var file = try AtomicFile(path: scratch.file("pipe"))
    try file.write([0, 0, 3])
    try file.rewrite([1, 2], at: 0)
    try file.commit()
    var bytes = [UInt8](repeating: 9, count: 10)
    #expect(read(reader, &bytes, bytes.count) == 3)
    #expect(bytes.prefix(3) == [1, 2, 3])
    #expect(try scratch.names == ["pipe"])
  }

  @Test("what a killed process of the same number left is no obstacle") func stale() throws {
    let scratch = try Scratch()
    func name() throws -> String {
      let file = try AtomicFile(path: scratch.file("a"))
      defer { withExtendedLifetime(file) {} }
      return try #require(try scratch.names.first)
    }
    let parts = try name().split(separator: "-")
    let number = try #require(parts.last?.split(separator: ".").first.flatMap { Int($0) })
    for next in number + 1...number + 200 { try scratch.write([7], to: "\(parts[0])-\(next).tmp") }
    try AtomicFile.write([1], to: scratch.file("a"))
    #expect(try MappedFile.contents(of: scratch.file("a"), limit: 10) == [1])
  }

  @Test(
    "a file that may not be written is not replaced", .enabled(if: geteuid() != 0, "root may write any file"))
  func readOnly() throws {
    let scratch = try Scratch()
    try scratch.write([9], to: "a")
    #expect(chmod(scratch.file("a"), 0o444) == 0)
    #expect(throws: VitError.self) { try AtomicFile.write([1], to: scratch.file("a")) }
    #expect(try MappedFile.contents(of: scratch.file("a"), limit: 10) == [9])
  }

  @Test("a file of the same bytes stays as it is where that is asked for, whatever its size")
  func keepsEqual() throws {
    for count in [0, 1, 1 << 16, (1 << 16) + 7, 200_000] {
      let scratch = try Scratch()
      let bytes = (0..<count).map { UInt8($0 * 31 % 251) }
      let path = try scratch.write(bytes, to: "f")
      func number() throws -> UInt64 {
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        return try #require(attributes[.systemFileNumber] as? UInt64)
      }
      let own = try number()
      try AtomicFile.$keepsEqual.withValue(true) { try AtomicFile.write(bytes, to: path) }
      #expect(try number() == own)
      try AtomicFile.write(bytes, to: path)
      let other = try number()
      #expect(other != own)
      var changed = bytes + [1]
      if count > 0 {
        changed = bytes
        changed[count - 1] ^= 1
      }
      try AtomicFile.$keepsEqual.withValue(true) { try AtomicFile.write(changed, to: path) }
      #expect(try number() != other)
      #expect(try Array(Data(contentsOf: URL(fileURLWithPath: path))) == changed)
      #expect(try scratch.names == ["f"])
    }
  }
}
