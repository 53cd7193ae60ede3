import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct NPYTests {
  private let base: [Double] = (0..<24).map { Double($0) - 5 }

  private func read(_ name: String) throws -> Tensor { try NPY.read(Fixture.path("formats/" + name)) }

  @Test(
    "every number type in both byte orders and both element orders is read as NumPy wrote it",
    arguments: [
      ("f2-le", ElementType.f16), ("f2-be", .f16), ("f4-le", .f32), ("f4-be", .f32), ("f8-le", .f64),
      ("f8-be", .f64), ("i1-le", .i8), ("i2-le", .i16), ("i2-be", .i16), ("i4-le", .i32), ("i4-be", .i32),
      ("i8-le", .i64), ("i8-be", .i64), ("fortran", .f32), ("fortran-be", .i16), ("version2", .f32),
      ("version3", .f32),
    ])
  func types(_ name: String, _ element: ElementType) throws {
    let tensor = try read(name + ".npy")
    #expect(tensor.element == element)
    #expect(tensor.shape == [2, 3, 4])
    #expect(try tensor.doubles() == base)
  }

  @Test(
    "unsigned numbers and truth values are read",
    arguments: [("u1", ElementType.u8), ("u2", .u16), ("u4", .u32), ("u8", .u64)])
  func unsigned(_ name: String, _ element: ElementType) throws {
    let tensor = try read(name + ".npy")
    #expect(tensor.element == element)
    #expect(try tensor.doubles() == base.map { $0 + 5 })
    let flags = try read("b1.npy")
    #expect(flags.element == .bool)
    #expect(try flags.integers() == base.map { Int($0).isMultiple(of: 2) ? 1 : 0 })
  }

  @Test("a scalar has no axes and an empty array no elements")
  func shapes() throws {
    #expect(try read("scalar.npy").shape == [])
    #expect(try read("scalar.npy").doubles() == [3.5])
    #expect(try read("empty.npy").shape == [0, 3])
  }

  @Test("what is no array of numbers is refused by name", arguments: ["complex", "text", "structured"])
  func refused(_ name: String) {
    let error = #expect(throws: VitError.self) { try read(name + ".npy") }
    #expect(error?.diagnostic.code == "npy-type")
    #expect(error?.diagnostic.location.file?.hasSuffix(name + ".npy") == true)
  }

  @Test("what is written is what is read, for every type")
  func roundTrip() throws {
    let scratch = try Scratch()
    for element in ElementType.allCases where element != .bf16 && !element.isQuantised {
      for shape in [[], [3], [2, 0], [2, 3]] {
        let count = shape.reduce(1, *)
        let tensor = Tensor(
          element, shape: shape, values: (0..<count).map { element == .bool ? Double($0 % 2) : Double($0) })
        try NPY.write(tensor, to: scratch.file("x.npy"))
        let back = try NPY.read(scratch.file("x.npy"))
        #expect(back.element == element)
        #expect(back.shape == shape)
        #expect(try back.doubles() == tensor.doubles())
      }
    }
    #expect(try scratch.names == ["x.npy"])
  }

  @Test("a written header is the one that NumPy writes")
  func sameBytes() throws {
    let scratch = try Scratch()
    try NPY.write(try read("f4-le.npy"), to: scratch.file("x.npy"))
    #expect(
      try MappedFile.contents(of: scratch.file("x.npy"), limit: 1000) == Fixture.bytes("formats/f4-le.npy"))
  }

  @Test(
    "bfloat16 and whole numbers with scales are written as float32",
    arguments: [ElementType.bf16, .q8, .w8, .w4])
  func brain(_ element: ElementType) throws {
    let scratch = try Scratch()
    let tensor = Tensor(element, shape: [2, 2], values: [1.5, -2, 0, 1])
    try NPY.write(tensor, to: scratch.file("x.npy"))
    let back = try NPY.read(scratch.file("x.npy"))
    #expect(back.element == .f32)
    #expect(try back.doubles() == tensor.doubles())
  }

  @Test(
    "a hostile header is refused",
    arguments: [
      "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (4, (1,)), }",
      "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }",
      "{'descr': '<f4', 'shape': (1,), }",
      "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
      "{'descr': '<f4', 'fortran_order': False, 'shape': ((((((((((((1,),),),),),),),),),),),), }",
      "", "{", "{}", "[]", "{'descr': '", "{'descr': '<f4\\'}", "\u{0}",
    ])
  func hostile(_ header: String) throws {
    let scratch = try Scratch()
    let bytes: [UInt8] =
      [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0] + Array(header.utf8) + [0, 0, 0, 0]
    let path = try scratch.write(bytes, to: "x.npy")
    #expect(throws: VitError.self) { try NPY.read(path) }
  }

  @Test("a file that is cut short or padded, or has any byte changed, is read or refused, never a trap")
  func damage() throws {
    let scratch = try Scratch()
    for name in ["f4-be.npy", "fortran.npy", "version2.npy", "b1.npy"] {
      let bytes = try Fixture.bytes("formats/" + name)
      let failures = damaged(bytes) { bytes in
        _ = try NPY.read(scratch.write(bytes, to: "x.npy")).doubles()
      }
      #expect(failures == [])
      let longer = try scratch.write(bytes + [0], to: "long.npy")
      #expect(throws: VitError.self) { try NPY.read(longer) }
      let shorter = try scratch.write(bytes.dropLast(), to: "short.npy")
      #expect(throws: VitError.self) { try NPY.read(shorter) }
    }
  }

  @Test(
    "an archive's arrays are read by name, stored or deflated", arguments: ["stored.npz", "deflated.npz"])
  func archives(_ name: String) throws {
    let archive = try NPZ(Fixture.path("formats/" + name))
    #expect(archive.names == ["images", "labels"])
    #expect(try archive.tensor("images").doubles() == base)
    #expect(try archive.tensor("labels").integers() == [1, 2])
    let error = #expect(throws: VitError.self) { try archive.tensor("x") }
    #expect(error?.diagnostic.message.contains("images, labels") == true)
  }

  @Test("an array whose header asks for more than the archive has is refused before it is unpacked")
  func claims() throws {
    let archive = try NPZ(Fixture.path("formats/claims.npz"))
    let error = #expect(throws: VitError.self) { try archive.tensor("x") }
    // Its checksum is wrong as well, which only those find who unpack it.
    #expect(error?.diagnostic.code == "npy-size")
  }

  @Test("a damaged archive is read or refused, never a trap", arguments: ["stored.npz", "deflated.npz"])
  func damagedArchives(_ name: String) throws {
    let scratch = try Scratch()
    let failures = damaged(try Fixture.bytes("formats/" + name)) { bytes in
      let archive = try NPZ(scratch.write(bytes, to: "x.npz"))
      for name in archive.names { _ = try archive.tensor(name).doubles() }
    }
    #expect(failures == [])
  }

  @Test("a changed element of an archive is found by its checksum")
  func checksum() throws {
    let scratch = try Scratch()
    var bytes = try Fixture.bytes("formats/stored.npz")
    let wanted: [UInt8] = Array("NUMPY".utf8)
    let start = try #require(bytes.indices.first { bytes[$0...].starts(with: wanted) })
    bytes[start + 127 + 50] ^= 1
    let archive = try NPZ(scratch.write(bytes, to: "x.npz"))
    let error = #expect(throws: VitError.self) { try archive.tensor("images") }
    #expect(error?.diagnostic.code == "damaged")
  }
}
