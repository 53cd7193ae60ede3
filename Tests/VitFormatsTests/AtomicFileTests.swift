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
    for path in [scratch.path, scratch.file("none/a")] {
      let error = #expect(throws: VitError.self) { try AtomicFile.write([1], to: path) }
      #expect(error?.kind == .environment)
      #expect(error?.diagnostic.location.file == path)
    }
    #expect(try scratch.names == [])
  }
}
