import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct IDXTests {
  private func read(_ name: String) throws -> Tensor { try IDX.read(Fixture.path("formats/" + name)) }

  @Test("bytes, shorts and floats are read, most significant byte first")
  func types() throws {
    #expect(try read("t10k-images-idx3-ubyte").shape == [5, 4, 3])
    #expect(try read("t10k-labels-idx1-ubyte").integers() == [3, 1, 4, 1, 5])
    let expected = (0..<24).map { Double($0) - 5 }
    #expect(try read("floats.idx").doubles() == expected)
    #expect(try read("shorts.idx").doubles() == expected)
  }

  @Test("packed files are told by their content, and may have several members")
  func packed() throws {
    let plain = try read("t10k-images-idx3-ubyte").doubles()
    let packed = try read("train-images-idx3-ubyte.gz")
    #expect(packed.shape == [3, 4, 3])
    #expect(try packed.doubles() == Array(plain.prefix(36)))
    #expect(try read("members.idx.gz").doubles() == plain)
  }

  @Test(
    "a damaged file is read or refused, never a trap",
    arguments: ["t10k-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "members.idx.gz", "floats.idx"])
  func damage(_ name: String) throws {
    let scratch = try Scratch()
    let bytes = try Fixture.bytes("formats/" + name)
    let failures = damaged(bytes) { bytes in
      _ = try IDX.read(scratch.write(bytes, to: "x")).doubles()
    }
    #expect(failures == [])
    let shorter = try scratch.write(bytes.dropLast(name == "members.idx.gz" ? 6 : 1), to: "short")
    #expect(throws: VitError.self) { try IDX.read(shorter) }
  }

  @Test("a header that claims more than the file can hold is refused before anything is allocated")
  func bomb() throws {
    let scratch = try Scratch()
    let huge: [UInt8] = [0, 0, 8, 3, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]
    let path = try scratch.write(huge, to: "x")
    #expect(throws: VitError.self) { try IDX.read(path) }
    // The same in a stored block of gzip.
    let count = UInt8(huge.count)
    let packed: [UInt8] =
      [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, count, 0, ~count, 0xff] + huge + [UInt8](repeating: 0, count: 8)
    let other = try scratch.write(packed, to: "y")
    #expect(throws: VitError.self) { try IDX.read(other) }
  }

  @Test(
    "Fashion-MNIST of the Debian package is read whole",
    .enabled(if: fashionFolder != nil, "needs the Debian package dataset-fashion-mnist"))
  func fashion() throws {
    let folder = try #require(fashionFolder)
    let images = try IDX.read(folder + "/t10k-images-idx3-ubyte.gz")
    let labels = try #require(try IDX.read(folder + "/t10k-labels-idx1-ubyte.gz").integers())
    #expect(images.shape == [10_000, 28, 28])
    for label in 0..<10 {
      let count = labels.count { $0 == label }
      #expect(count == 1000)
    }
  }
}

/// Where Debian puts Fashion-MNIST, if it is installed.
let fashionFolder: String? = {
  let folder = "/usr/share/datasets/fashion-mnist"
  return (try? MappedFile(path: folder + "/t10k-images-idx3-ubyte.gz")) == nil ? nil : folder
}()
