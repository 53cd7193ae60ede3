import Glibc
import Testing
import VitData
import VitFormats
import VitIR
import VitTestSupport

@Suite("Lists of pictures") struct SampleListTests {
  private let scratch: Scratch
  private let warnings = Warnings()

  init() throws {
    scratch = try Scratch()
    for name in ["a.png", "b.png", "deep/c.png", "it's, \"c\".png"] {
      try scratch.write(Fixture.bytes("formats/rgb.png"), to: name)
    }
  }

  private func open(_ text: String, as name: String = "list.csv", _ split: Split = .train) throws -> Dataset {
    try scratch.write(Array(text.utf8), to: name)
    return try open(at: name, split)
  }

  private func open(at name: String, _ split: Split = .train) throws -> Dataset {
    try Dataset.open(
      name.isEmpty ? scratch.path : scratch.file(name), defaultSplit: split, channels: 3, height: 8, width: 8,
      warn: warnings.collect)
  }

  private func paths(_ data: Dataset) -> [String] {
    (0..<data.count).map { String(data.name(of: $0).dropFirst(scratch.path.count + 1)) }
  }

  @Test(
    "paths and labels, with or without a header, in any order of columns",
    arguments: [
      "a.png,0\ndeep/c.png,2\n", "path,label\na.png,0\ndeep/c.png,2",
      "\u{feff}File Name,Class_ID\r\na.png,0\r\ndeep/c.png,2\r\n",
      "\n\n label , width , image_path \n0,7, a.png \n\n2,\"x\ny\",deep/c.png\n  \n",
      "\"a.png\",\"0\"\n\"deep/c.png\",\"2\"\n",
    ])
  func forms(_ text: String) throws {
    let data = try open(text)
    #expect(data.labels == [0, 2] && data.classNames == nil && data.split == nil)
    #expect(paths(data) == ["a.png", "deep/c.png"])
    #expect(data.files == ["a.png", "deep/c.png", "list.csv"].map(scratch.file))
    guard case .image(let image) = try data.sample(at: 1) else { throw VitError("no image") }
    #expect(image.width == 19 && warnings.all.isEmpty)
  }

  @Test("tabs separate in a .tsv, in which commas are text; quotes are doubled within quotes")
  func tabs() throws {
    let data = try open("a.png\tcat, big\n\"it's, \"\"c\"\".png\"\tdog\n", as: "list.TSV")
    #expect(data.classNames == ["cat, big", "dog"] && data.labels == [0, 1])
    #expect(paths(data) == ["a.png", "it's, \"c\".png"])
    _ = try data.sample(at: 1)
  }

  @Test(
    "names are numbered in the order of their bytes, and those that look like numbers beside others are names"
  )
  func names() throws {
    let data = try open("a.png,tulip\nb.png,Rose\ndeep/c.png,10\na.png,tulip\n")
    #expect(data.classNames == ["10", "Rose", "tulip"] && data.labels == [2, 1, 0, 2])
    let ids = try open("a.png,n01443537\nb.png,n01440764\n")
    #expect(ids.classNames == ["n01440764", "n01443537"] && ids.labels == [1, 0])
    let mapping = try #require(
      try ClassMapping(of: ids, outputs: 1000, modelNames: nil, warn: warnings.collect))
    #expect(mapping.basis == .imageNet && mapping.number(of: 1) == 1)
    let named = try #require(
      try ClassMapping(of: data, outputs: 3, modelNames: ["rose", "tulip", "x"], warn: { _ in }))
    #expect(named.basis == .names && named.number(of: 2) == 1 && named.number(of: 0) == nil)
    let own = try #require(ClassMapping(own: data))
    #expect(own.number(of: 2) == 2 && own.name(of: 1) == "Rose" && own.outputs == 3)
  }

  @Test(
    "without labels all rows are unlabelled",
    arguments: ["a.png\nb.png\n", "image\na.png\nb.png\n", "file,label\na.png,\nb.png,\n"])
  func unlabelled(_ text: String) throws {
    let data = try open(text)
    #expect(data.labels == nil && data.classNames == nil && data.count == 2)
  }

  @Test(
    "paths are relative to the list, unless they begin with a slash; a list beside the process needs no folder"
  )
  func folders() throws {
    try scratch.write(Array("../a.png,1\n\(scratch.file("b.png")),0\n".utf8), to: "lists/one.csv")
    let data = try open(at: "lists/one.csv")
    _ = try (data.sample(at: 0), data.sample(at: 1))
    #expect(data.name(of: 0) == scratch.file("lists/../a.png") && data.name(of: 1) == scratch.file("b.png"))
  }

  @Test("pictures that are missing are warned of when they are looked for, and no sooner")
  func missing() throws {
    let data = try open("a.png,1\nnone.png,0\n")
    #expect(data.count == 2 && warnings.all.isEmpty)
    #expect(throws: VitError.self) { try data.sample(at: 1) }
  }

  @Test(
    "what is no list is refused with the line",
    arguments: [
      ("a.png,1\nb.png\n", 2, "expected 2 fields, as in the first row, found 1"),
      ("a.png,1,2\n", 1, "expected a path and a label, found 'a.png', '1', '2'"),
      (
        "path,width\na.png,1\n", 1,
        "expected a column called label, class or category beside the paths, found 'path', 'width'"
      ),
      (
        "id,label\n1,2\n", 1,
        "expected a column called path, file or image beside the labels, found 'id', 'label'"
      ),
      ("a.png,1\n\nb.png,\n", 3, "expected a label, as in the rows before, found none"),
      ("a.png,\nb.png,4\n", 2, "expected no label, as in the rows before, found '4'"),
      ("a.png,1\n,2\n", 2, "expected a path, found none"),
      ("a.png,1\nb\0.png,2\n", 2, "expected a path, found a zero byte in it"),
      ("a.png,1\nb.png,-1\n", 2, "expected a class number from 0 below 2³¹, found -1"),
      ("a.png,1\nb.png,99999999999999999999\n", 2, "expected a class number from 0 below 2³¹"),
      (
        "picture.x,kind\na.png,1\nb.png,2\n", 1, "expected a class number, as in all other rows, found 'kind'"
      ),
      ("a.png,\"1\n\nb.png,2\n", 1, "expected a closing quote, found the end of the file"),
      (
        "a.png,\"1\"2\n", 1, "expected a separator or the end of the line behind a field in quotes, found '2'"
      ),
      ("a.png,1\nb\"x\".png,2\n", 2, "expected quotes around a whole field, found one within"),
      ("a.png,1\rb.png,2\n", 1, "expected a line break behind a carriage return"),
      ("", nil, "expected rows of a path and a label, found none"),
      ("path,label\n", nil, "expected rows of a path and a label, found none"),
    ] as [(String, Int?, String)])
  func refused(_ text: String, _ line: Int?, _ message: String) throws {
    let error = #expect(throws: VitError.self) { try open(text) }
    #expect(error?.kind == .input && error?.diagnostic.location.file == scratch.file("list.csv"))
    #expect(error?.diagnostic.location.line == line)
    #expect(error?.diagnostic.message.contains(message) ?? false, "\(error?.description ?? "")")
  }

  @Test("UTF-16 is refused by name") func utf16() throws {
    try scratch.write([0xff, 0xfe, 0x61, 0], to: "list.csv")
    let error = #expect(throws: VitError.self) { try open(at: "list.csv") }
    #expect(error?.diagnostic.message == "expected a text in UTF-8, found UTF-16")
  }

  @Test("a folder's train.csv and test.csv are its parts, numbered alike; val where there is no test")
  func splits() throws {
    try scratch.write(Array("a.png,x\nb.png,z\n".utf8), to: "train.csv")
    try scratch.write(Array("deep/c.png,y\n".utf8), to: "Val.csv")
    let training = try open(at: "")
    #expect(training.labels == [0, 2] && training.classNames == ["x", "y", "z"] && training.split == .train)
    #expect(training.surroundings == [scratch.path, scratch.file("Val.csv")])
    let val = try open(at: "", .test)
    #expect(val.labels == [1] && val.split == .test)
    #expect(val.files.contains(scratch.file("Val.csv")))
    try scratch.write(Array("a.png\tx\n".utf8), to: "test.tsv")
    #expect(try open(at: "", .test).count == 1)
    #expect(
      try Dataset.open(
        scratch.path + ":test", defaultSplit: .train, channels: 3, height: 8, width: 8, warn: { _ in }
      ).labels == [0])
    // One of them by its own name is numbered as the whole.
    let alone = try open(at: "test.tsv")
    #expect(alone.split == nil && alone.classNames == ["x", "y", "z"])
    #expect(warnings.all.isEmpty)
    try scratch.write(Array("a.png\t1\n".utf8), to: "test.tsv")
    let mixed = #expect(throws: VitError.self) { try open(at: "") }
    #expect(mixed?.diagnostic.location.file == scratch.file("test.tsv"))
    #expect(mixed?.diagnostic.message.contains("expected names as labels") ?? false)
    try scratch.write(Array("what,ever,else\n".utf8), to: "train.csv")
    let error = #expect(throws: VitError.self) { try open(at: "") }
    #expect(error?.diagnostic.location.line == 1 && error?.diagnostic.help != nil)
  }

  @Test("a split of a single list is an error, and a lone part is taken with a warning") func lone() throws {
    try scratch.write(Array("a.png,1\n".utf8), to: "lists/test.csv")
    #expect(try open(at: "lists").split == .test)
    #expect(warnings.all.map(\.code) == ["other-split"])
    let error = #expect(throws: VitError.self) {
      try Dataset.open(
        scratch.file("lists/test.csv:train"), defaultSplit: .train, channels: 3, height: 8, width: 8,
        warn: { _ in })
    }
    #expect(error?.diagnostic.code == "no-split")
  }

  @Test("a name that is no UTF-8 is read as it is") func bytes() throws {
    try scratch.write(Array("a.png,caf".utf8) + [0xe9] + Array("\nb.png,x\n".utf8), to: "list.csv")
    let data = try open(at: "list.csv")
    #expect(data.classNames?.count == 2 && data.classNames?[0].escapedForDisplay == #"caf\xe9"#)
  }
}
