import Glibc
import Synchronization
import Testing
import VitData
import VitFormats
import VitIR
import VitTestSupport

/// Collects warnings.
final class Warnings: Sendable {
  private let list = Mutex<[Diagnostic]>([])
  var all: [Diagnostic] { list.withLock { $0 } }
  var collect: @Sendable (Diagnostic) -> Void {
    { diagnostic in self.list.withLock { $0.append(diagnostic) } }
  }
}

@Suite struct DatasetTests {
  private let scratch: Scratch
  private let warnings = Warnings()

  init() throws { scratch = try Scratch() }

  private func open(_ text: String, _ split: Split = .train) throws -> Dataset {
    try Dataset.open(text, defaultSplit: split, channels: 1, height: 8, width: 8, warn: warnings.collect)
  }

  private func addImage(_ name: String, _ fixture: String = "rgb.png") throws {
    try scratch.write(Fixture.bytes("formats/" + fixture), to: name)
  }

  private func image(_ dataset: Dataset, _ index: Int) throws -> Image {
    guard case .image(let image) = try dataset.sample(at: index) else { throw VitError("no image") }
    return image
  }

  @Test("a folder for each class gives labels by the order of the names, nested folders included")
  func classes() throws {
    for name in ["b/2.png", "b/1.PNG", "a/deep/x.jpeg", "B/z.png"] { try addImage(name) }
    try scratch.write([1, 2], to: "a/notes.txt")
    try scratch.write([1, 2], to: ".hidden/x.png")
    let data = try open(scratch.path)
    #expect(data.classNames == ["B", "a", "b"])
    #expect(data.labels == [0, 1, 2, 2])
    #expect(data.files == ["B/z.png", "a/deep/x.jpeg", "b/1.PNG", "b/2.png"].map(scratch.file))
    #expect(data.skipped == 0 && warnings.all.isEmpty)
    #expect(try image(data, 1).width == 19)
  }

  @Test("a flat folder and a folder with one class have no labels")
  func flat() throws {
    try addImage("flat/b.png")
    try addImage("flat/a.jpg", "baseline.jpg")
    let data = try open(scratch.file("flat"))
    #expect(data.labels == nil && data.count == 2)
    #expect(data.files == ["flat/a.jpg", "flat/b.png"].map(scratch.file))
    #expect(try open(scratch.path).labels == nil)
  }

  @Test(
    "splits: train and test folders, the usual one by default, the other by name, val where there is no test")
  func splits() throws {
    for name in ["train/a/1.png", "train/b/1.png", "train/b/2.png", "val/a/1.png", "val/b/1.png"] {
      try addImage(name)
    }
    #expect(try open(scratch.path, .train).count == 3)
    #expect(try open(scratch.path, .test).count == 2)
    #expect(try open(scratch.path + ":test", .train).count == 2)
    #expect(try open(scratch.path + ":train", .test).split == .train)
    try addImage("test/a/1.png")
    try addImage("test/b/1.png")
    try addImage("test/c/1.png")
    #expect(try open(scratch.path, .test).classNames == ["a", "b", "c"])
    #expect(warnings.all.isEmpty)
    let error = #expect(throws: VitError.self) { try open(scratch.file("train") + ":test") }
    #expect(error?.diagnostic.code == "no-split")
  }

  @Test("a class may be called 'train', and a lone split is taken with a warning")
  func splitNames() throws {
    for name in ["v/bus/1.png", "v/train/1.png", "v/car/1.png", "w/train/x/1.png", "w/train/y/1.png"] {
      try addImage(name)
    }
    #expect(try open(scratch.file("v")).classNames == ["bus", "car", "train"])
    #expect(try open(scratch.file("w"), .test).split == .train)
    #expect(warnings.all.map(\.code) == ["other-split"])
  }

  @Test("a path with a colon that exists is a path")
  func colon() throws {
    try addImage("odd:test/1.png")
    let data = try open(scratch.file("odd:test"))
    #expect(data.count == 1 && data.split == nil)
  }

  @Test("what is missing or empty is an input error that names it")
  func missing() throws {
    try scratch.write([1], to: "empty/readme.txt")
    try scratch.write([1], to: "broken/x.png")
    try scratch.write(Array("hello".utf8), to: "text")
    for (path, code) in [
      ("none", "missing-data"), ("none:train", "missing-data"), ("empty", "empty-data"),
      ("broken", "empty-data"),
      ("text", "unknown-data"),
    ] {
      let error = #expect(throws: VitError.self) { try open(scratch.file(path)) }
      #expect(error?.kind == .input)
      #expect(error?.diagnostic.code == code)
      #expect(error?.diagnostic.location.file == scratch.file(path.hasSuffix(":train") ? "none" : path))
    }
  }

  @Test("images of other formats are skipped, warned of and counted")
  func skipped() throws {
    try addImage("a.png")
    try scratch.write(Array("GIF89a....".utf8), to: "b.gif")
    try scratch.write([], to: "c.jpg")
    let data = try open(scratch.path)
    #expect(data.count == 1 && data.skipped == 2)
    #expect(warnings.all.map { $0.location.file } == [scratch.file("b.gif"), scratch.file("c.jpg")])
    #expect(warnings.all[0].message.contains("GIF"))
  }

  @Test("IDX files: the folder's splits, one file alone, labels beside them")
  func idx() throws {
    let folder = Fixture.path("formats")
    for name in [
      "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "train-images-idx3-ubyte.gz",
      "train-labels-idx1-ubyte.gz",
    ] {
      try scratch.write(Fixture.bytes("formats/" + name), to: name)
    }
    #expect(try open(scratch.path).labels == [3, 1, 4])
    let test = try open(scratch.path, .test)
    #expect(test.labels == [3, 1, 4, 1, 5])
    #expect(test.files.count == 2)
    #expect(try image(test, 2).height == 4)
    #expect(try open(scratch.path + ":test").count == 5)
    let single = try open(folder + "/t10k-images-idx3-ubyte")
    #expect(single.labels == [3, 1, 4, 1, 5] && single.split == nil)
  }

  @Test("labels that do not count as many as the images are an error")
  func wrongLabels() throws {
    try scratch.write(Fixture.bytes("formats/t10k-images-idx3-ubyte"), to: "images-idx3-ubyte")
    try scratch.write([0, 0, 8, 1, 0, 0, 0, 2, 1, 2], to: "labels-idx1-ubyte")
    let error = #expect(throws: VitError.self) { try open(scratch.path) }
    #expect(error?.diagnostic.message == "expected 5 labels, one for each sample, found 2")
  }

  @Test("arrays: floats are tensors, bytes are images with channels last or first")
  func arrays() throws {
    try NPY.write(
      Tensor(.f64, shape: [2, 1, 2, 2], values: (0..<8).map(Double.init)), to: scratch.file("f.npy"))
    let floats = try open(scratch.file("f.npy"))
    guard case .tensor(let tensor) = try floats.sample(at: 1) else { throw VitError("no tensor") }
    #expect(tensor.element == .f32 && tensor.shape == [1, 2, 2])
    #expect(try tensor.floats() == [4, 5, 6, 7])
    let values = (0..<24).map(Double.init)
    try NPY.write(Tensor(.u8, shape: [2, 2, 2, 3], values: values), to: scratch.file("last.npy"))
    #expect(try image(try open(scratch.file("last.npy")), 1).pixels == (12..<24).map { UInt8($0) })
    try NPY.write(Tensor(.u8, shape: [2, 3, 2, 2], values: values), to: scratch.file("first.npy"))
    #expect(
      try image(try open(scratch.file("first.npy")), 0).pixels == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    try NPY.write(Tensor(.i32, shape: [2, 2], values: [1, 2, 3, 4]), to: scratch.file("i.npy"))
    #expect(throws: VitError.self) { try open(scratch.file("i.npy")) }
    try NPY.write(Tensor(.f32, shape: [0, 2], values: []), to: scratch.file("e.npy"))
    #expect(throws: VitError.self) { try open(scratch.file("e.npy")) }
  }

  @Test("an archive's images and labels are found by their usual names")
  func archive() throws {
    let data = try open(Fixture.path("formats/stored.npz"))
    #expect(data.count == 2 && data.labels == [1, 2])
  }

  @Test("CIFAR folders have both splits and their classes' names")
  func cifar() throws {
    func record(_ label: UInt8) -> [UInt8] { [label] + [UInt8](repeating: label, count: 3072) }
    try scratch.write(record(1) + record(2), to: "data_batch_1.bin")
    try scratch.write(record(3), to: "data_batch_2.bin")
    try scratch.write(record(9), to: "test_batch.bin")
    let names = (0..<10).map { "class\($0)" }
    try scratch.write(Array((names.joined(separator: "\n") + "\n\n").utf8), to: "batches.meta.txt")
    let training = try open(scratch.path)
    #expect(training.labels == [1, 2, 3] && training.classNames == names)
    #expect(try image(training, 2).pixels.allSatisfy { $0 == 3 })
    #expect(try open(scratch.path, .test).labels == [9])
    #expect(try open(scratch.file("data_batch_2.bin")).labels == [3])
  }

  @Test("CIFAR's folders for Python have both splits and their classes' names")
  func pickles() throws {
    for (file, name) in [
      ("python2-p2", "ten/data_batch_1"), ("python3-p4", "ten/data_batch_2"),
      ("python2-p0", "ten/test_batch"),
      ("meta-python2-p2", "ten/batches.meta"), ("fine-p4", "hundred/train"), ("fine-p5", "hundred/test"),
      ("meta-fine-p4", "hundred/meta"), ("python3-p3", "alone/any"),
    ] { try scratch.write(Fixture.bytes("pickle/\(file)"), to: name) }
    let training = try open(scratch.file("ten"))
    #expect(
      training.labels == [3, 9, 3, 9] && training.classNames?[9] == "truck" && training.split == .train)
    #expect(
      training.files == ["batches.meta", "data_batch_1", "data_batch_2"].map { scratch.file("ten/" + $0) })
    #expect(try image(training, 3).pixels == image(training, 1).pixels)
    #expect(try open(scratch.file("ten") + ":test").count == 2)
    let fine = try open(scratch.file("hundred"), .test)
    #expect(fine.labels == [99, 0] && fine.classNames?.count == 100 && fine.split == .test)
    #expect(try open(scratch.file("hundred/train")).classNames?[99] == "kind 99")
    let alone = try open(scratch.file("alone/any"))
    #expect(alone.labels == [3, 9] && alone.classNames == nil && alone.split == nil)
    try scratch.write(Fixture.bytes("pickle/fine-p4"), to: "ten/data_batch_3")
    #expect(throws: VitError.self) { try open(scratch.file("ten")) }
    try scratch.write(Fixture.bytes("pickle/meta-fine-p4"), to: "alone/batches.meta")
    let error = #expect(throws: VitError.self) { try open(scratch.file("alone/any")) }
    #expect(error?.diagnostic.message == "expected the names of 10 classes, found 100")
  }

  @Test(
    "Fashion-MNIST of the Debian package has both splits",
    .enabled(if: access("/usr/share/datasets/fashion-mnist", F_OK) == 0, "needs dataset-fashion-mnist"))
  func fashion() throws {
    let data = try open("/usr/share/datasets/fashion-mnist", .test)
    #expect(data.count == 10_000 && data.labels?.max() == 9)
    #expect(try image(data, 9_999).width == 28)
  }

  @Test(
    "the CIFAR-10 folders of VITC_DATA are read whole",
    .enabled(if: getenv("VITC_DATA") != nil, "needs VITC_DATA"))
  func folders() throws {
    let root = try #require(getenv("VITC_DATA").map { String(cString: $0) })
    let data = try open(root + "/cifar10", .test)
    #expect(data.count == 2000 && data.classNames?.first == "airplane")
    for index in 0..<data.count { #expect(try image(data, index).width == 32) }
  }
}
