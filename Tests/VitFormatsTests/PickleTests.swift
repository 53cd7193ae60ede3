import Testing
import VitFormats
import VitIR
import VitTestSupport

/// CIFAR's batches for Python, made by `tools/fixtures/make_pickle_fixtures.py`.
@Suite("CIFAR for Python") struct PickleTests {
  static let batches = [
    "python2-p0", "python2-p1", "python2-p2", "python3-p2", "python3-p3", "python3-p4", "python3-p5",
  ]
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func pixels(_ image: Int) -> [UInt8] {
    (0..<1024).flatMap { place in (0..<3).map { UInt8((7 * image + 50 * $0 + 1024 * $0 + place) % 256) } }
  }

  private func read(_ bytes: [UInt8]) throws -> CIFAR {
    try CIFAR(pickle: scratch.write(bytes, to: "data_batch_1"))
  }

  @Test("batches of every protocol have the same pictures and labels", arguments: batches)
  func batch(_ name: String) throws {
    #expect(CIFAR.isPickle(Array(try Fixture.bytes("pickle/\(name)").prefix(4))))
    let batch = try CIFAR(pickle: Fixture.path("pickle/\(name)"))
    #expect(batch.classes == 10 && batch.labels == [3, 9] && batch.count == 2)
    for index in 0..<2 {
      let image = try batch.image(index)
      #expect(image.width == 32 && image.height == 32 && image.channels == 3)
      #expect(image.pixels == pixels(index))
    }
  }

  @Test(
    "fine labels are taken, and an array whose first axis is innermost is turned",
    arguments: ["fine-p4", "fine-p5"])
  func fine(_ name: String) throws {
    let batch = try CIFAR(pickle: Fixture.path("pickle/\(name)"))
    #expect(batch.classes == 100 && batch.labels == [99, 0])
    #expect(try batch.image(1).pixels == pixels(1))
  }

  @Test("the names of classes are those of the meta file")
  func names() throws {
    for protocolNumber in 0..<3 {
      let names = try CIFAR.classNames(pickle: Fixture.path("pickle/meta-python2-p\(protocolNumber)"))
      #expect(names.count == 10 && names.first == "airplane" && names.last == "truck")
    }
    #expect(try CIFAR.classNames(pickle: Fixture.path("pickle/meta-fine-p4"))[42] == "kind 42")
    #expect { try CIFAR.classNames(pickle: Fixture.path("pickle/python2-p2")) } throws: {
      ($0 as? VitError)?.diagnostic.message.contains(
        "expected 'label_names' or 'fine_label_names', found the keys '") ?? false
    }
  }

  @Test(
    "what no batch holds is refused, with the offset",
    arguments: [
      (
        "cos\nsystem\n(S'ls'\ntR.",
        "offset 0: expected no names but those of NumPy's arrays, found 'os.system'"
      ),
      ("\u{80}\u{4}\u{8c}\u{2}os\u{8c}\u{6}system\u{93}.", "found 'os.system', which is not looked up"),
      ("cnumpy\nload\n.", "found 'numpy.load'"), ("(i__main__\nX\n.", "offset 1: expected an instruction"),
      ("}(U\u{1}aK\u{1}u", "offset 8: expected 1 bytes of an instruction, found 0"),
      ("K\u{1}.", "expected a dictionary, found a number"),
      (".", "offset 0: expected one value at the end, found 0"),
      ("}}.", "expected one value at the end, found 2"), ("}.}", "expected the end of the file"),
      ("(.", "expected one value at the end"), ("a.", "expected a value on the stack, found none"),
      ("u.", "expected a mark on the stack, found none"), ("(}u.", "expected a value for each key"),
      ("K\u{1}K\u{1}a.", "expected a list to add to, found a number"),
      ("]K\u{1}K\u{1}s.", "expected a dictionary to add to, found a list"),
      ("h\u{5}.", "expected a value at place 5, found none"), ("g-1\n.", "expected a place from 0"),
      ("I12x\n.", "expected a number of 64 bits in digits, found '12x'"),
      ("L99999999999999999999L\n.", "expected a number of 64 bits"),
      ("I1", "expected the end of a line behind a number"), ("S'a\n.", "expected text in quotes"),
      ("\u{8a}\u{9}123456789.", "expected a number of 8 bytes, found 9"),
      ("\u{8d}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}.", "expected a size within the file"),
      ("\u{8e}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{7f}.", "bytes of text, found 1"),
      ("T\u{ff}\u{ff}\u{ff}\u{ff}.", "bytes of text, found"),
      ("\u{80}\u{6}.", "expected a protocol of at most 5, found 6"),
      ("K\u{1})R.", "expected a name and a tuple, found a number and a tuple"),
      ("cnumpy\nndarray\n)R.", "expected what an array or bytes are made of"),
      ("cnumpy\ndtype\n)R.", "expected what an array"),
      ("K\u{1})b.", "expected an array to fill, found a number"),
      (
        "cnumpy.core.multiarray\n_reconstruct\n)R)b.",
        "expected shape, type, order and bytes of an array, found 0"
      ),
      ("cnumpy.core.multiarray\n_reconstruct\n)RNb.", "expected a tuple, found None"),
      ("}.", "expected 'data' and 'labels' or 'fine_labels', found the keys none"),
      ("}(U\u{4}dataNU\u{6}labelsK\u{1}u.", "expected a list of labels, found a number"),
      ("}(U\u{4}dataNU\u{6}labels](Neu.", "expected labels, whole numbers, found None at place 0"),
      ("}(U\u{4}dataNU\u{6}labels](K\u{0a}eu.", "expected labels from 0 to 9, found 10 for image 0"),
      ("}(U\u{4}dataNU\u{6}labels](K\u{1}eu.", "expected 'data' to be an array of NumPy, found None"),
    ])
  func refused(_ text: String, _ message: String) throws {
    let bytes = text.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
    let error = #expect(throws: VitError.self) { try read(bytes) }
    #expect(error?.kind == .input && error?.diagnostic.location.file == scratch.file("data_batch_1"))
    #expect(error?.diagnostic.message.contains(message) ?? false, "\(error?.description ?? "")")
  }

  /// A pickle with the array `data` of this type, shape and bytes, and the label 1 for each image.
  private func pickle(type: String = "u1", shape: [Int] = [1, 3072], bytes: Int = 3072, labels: Int = 1)
    -> [UInt8]
  {
    var text = "}(U\u{4}datacnumpy.core.multiarray\n_reconstruct\n)R(I1\n("
    for extent in shape { text += "I\(extent)\n" }
    text += "tcnumpy\ndtype\n(U\(Character(UnicodeScalar(UInt8(type.utf8.count))))\(type)tRI00\n"
    var result = Array(text.utf8) + [UInt8(ascii: "T")]
    result += (0..<4).map { UInt8(truncatingIfNeeded: bytes >> (8 * $0)) }
    result += [UInt8](repeating: 7, count: bytes) + Array("tbU\u{6}labels](".utf8)
    return result + (0..<labels).flatMap { _ in [UInt8(ascii: "K"), 1] } + Array("eu.".utf8)
  }

  @Test("an array of another type, shape or size is refused")
  func arrays() throws {
    #expect(try read(pickle()).image(0).pixels.allSatisfy { $0 == 7 })
    for (bytes, message) in [
      (pickle(type: "i1"), "found i1[1, 3072]"), (pickle(shape: [3072]), "found u1[3072]"),
      (pickle(shape: [2, 3072]), "expected 'data' to be an array u1[1, 3072]"),
      (pickle(labels: 2), "expected 'data' to be an array u1[2, 3072]"),
      (pickle(bytes: 3071), "expected 3072 bytes of 'data', found 3071"),
      (pickle(shape: [1, Int.max]), "expected 'data' to be an array"),
    ] {
      let error = #expect(throws: VitError.self) { try read(bytes) }
      #expect(error?.diagnostic.message.contains(message) ?? false, "\(error?.description ?? "")")
    }
    #expect(try read(pickle(shape: [0, 3072], bytes: 0, labels: 0)).count == 0)
  }

  @Test("a file that is cut anywhere, or has another byte anywhere, is read or refused", arguments: batches)
  func damaged(_ name: String) throws {
    let bytes = try Fixture.bytes("pickle/\(name)")
    for length in Array(stride(from: 0, to: bytes.count, by: 67)) + [bytes.count - 1] {
      #expect(throws: VitError.self) { try read(Array(bytes.prefix(length))) }
    }
    let ends = Array(0..<240) + Array(bytes.count - 180..<bytes.count)
    for place in ends {
      for byte: UInt8 in [0, 0x28, 0x2e, 0x62, 0xff] {
        var other = bytes
        other[place] = byte
        do { _ = try read(other).image(0) } catch is VitError {}
      }
    }
  }

  @Test("nesting costs no stack, and values are counted")
  func deep() throws {
    // A list in a list in a list …
    let nested =
      [UInt8](repeating: UInt8(ascii: "]"), count: 300_000)
      + [UInt8](repeating: UInt8(ascii: "a"), count: 299_999) + [UInt8(ascii: ".")]
    let error = #expect(throws: VitError.self) { try read(nested) }
    #expect(error?.diagnostic.message == "expected a dictionary, found a list")
    let tuples = [UInt8(ascii: ")")] + [UInt8](repeating: 0x85, count: 300_000) + [UInt8(ascii: ".")]
    #expect(throws: VitError.self) { try read(tuples) }
    // A list that holds itself.
    #expect(throws: VitError.self) { try read(Array("]q\u{0}h\u{0}a.".utf8)) }
    let many = #expect(throws: VitError.self) {
      try read([UInt8](repeating: UInt8(ascii: "N"), count: 1 << 21 + 1))
    }
    #expect(many?.diagnostic.message.contains("expected at most 2097152 values") ?? false)
  }
}
