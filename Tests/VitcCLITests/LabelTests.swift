import Foundation
import Testing
import VitTestSupport

/// A model that says which colour is brightest, and pictures of one colour.
private struct ColourModel {
  let scratch: Scratch

  /// Small PNG files.
  private static let pictures = [
    "red":
      "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mO4w8WFFTEMLQkApqE8ASdtDtYAAAAASUVORK5CYII=",
    "green":
      "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mPgusOFFTEMLQkAciE8AalgPb8AAAAASUVORK5CYII=",
    "blue":
      "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mPg4rqDFTEMLQkAPaE8AYn9+24AAAAASUVORK5CYII=",
  ]

  /// A model whose classes are red, green, blue and as many that are never named.
  init(outputs: Int = 3, config: String? = nil) throws {
    scratch = try Scratch()
    let zeros = Array(repeating: "0.0", count: 3 * outputs)
    var weight = zeros
    for colour in 0..<min(3, outputs) { weight[outputs * colour + colour] = "1.0" }
    let text = """
      graph "colours" (%x: f32[batch, 3, 8, 8]) -> (y = %y) {
        tensor @axes : i64[2] = [2, 3]
        tensor @w : f32[3, \(outputs)] = [\(weight.joined(separator: ", "))]
        %m = onnx.ReduceMean(%x, @axes) {keepdims = 0} : f32[batch, 3]
        %y = onnx.MatMul(%m, @w) : f32[batch, \(outputs)]
      }
      """
    try scratch.write(Array(text.utf8), to: "m.vit")
    if let config { try scratch.write(Array(config.utf8), to: "config.json") }
  }

  /// Puts a picture of a colour into a folder.
  func add(_ colour: String, to folder: String) throws {
    let bytes = Data(base64Encoded: ColourModel.pictures[colour] ?? "") ?? Data()
    try scratch.write([UInt8](bytes), to: "\(folder)/\(colour).png")
  }

  func makeFolder(_ name: String) throws {
    try FileManager.default.createDirectory(atPath: scratch.file(name), withIntermediateDirectories: true)
  }

  func eval(_ data: String = "data", _ more: [String] = []) throws -> Tool.Result {
    try Tool.run(
      ["eval", "m.vit", "--data", data, "--preprocess", "mean=0", "--preprocess", "std=1"] + more,
      in: scratch.path)
  }
}

@Suite("Class numbers") struct LabelTests {
  @Test("an empty class folder has its number") func emptyFolder() throws {
    let model = try ColourModel()
    try model.add("red", to: "data/a")
    try model.makeFolder("data/b")
    try model.add("blue", to: "data/c")
    let result = try model.eval()
    #expect(result.status == 0 && result.output.contains("accuracy          100.00 %"), "\(result.output)")
    #expect(
      result.errors.contains(
        "classes by position, in the order of the names, 3 of 3 in the model: a = 0, b = 1, c = 2"),
      "\(result.errors)")
  }

  @Test(
    "a class of the training split that the test split lacks has its number", arguments: ["data", "data/val"])
  func otherSplit(path: String) throws {
    let model = try ColourModel()
    for (colour, name) in [("red", "a"), ("green", "b"), ("blue", "c")] {
      try model.add(colour, to: "data/train/" + name)
      if colour != "green" { try model.add(colour, to: "data/val/" + name) }
    }
    let result = try model.eval(path)
    #expect(result.output.contains("accuracy          100.00 %"), "\(result.output)\(result.errors)")
  }

  @Test("a folder whose name is no UTF-8 is a class like others") func bytes() throws {
    let model = try ColourModel()
    try model.add("red", to: "data/a")
    try model.add("blue", to: "data/d")
    try model.add("green", to: "green")
    // Between the two by its bytes, and no UTF-8.
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/bin/sh")
    shell.currentDirectoryURL = URL(fileURLWithPath: model.scratch.path)
    shell.arguments = ["-c", "mv green \"$(printf 'data/c\\351')\""]
    try shell.run()
    shell.waitUntilExit()
    try #require(shell.terminationStatus == 0)
    let result = try model.eval("data", ["--per-class"])
    #expect(result.output.contains("accuracy          100.00 %"), "\(result.output)\(result.errors)")
    #expect(result.errors.contains(#"c\xe9 = 1"#))
    #expect(result.output.contains(#"c\xe9"#))
    let alone = Process()
    let pipe = Pipe()
    alone.executableURL = URL(fileURLWithPath: "/bin/sh")
    alone.currentDirectoryURL = URL(fileURLWithPath: model.scratch.path)
    alone.arguments = ["-c", "exec \"$0\" eval m.vit --data \"$(printf 'data/c\\351')\"", Tool.path]
    alone.standardOutput = pipe
    alone.standardError = FileHandle.nullDevice
    try alone.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    alone.waitUntilExit()
    #expect(alone.terminationStatus == 0 && output.contains("images            1"), "\(output)")
  }

  @Test(
    "names decide where model and data have them, whatever their order and spelling",
    arguments: [
      #"{"id2label": {"0": "Red", "1": "green, the colour of grass", "2": "BLUE_SKY"}}"#,
      #"{"label_names": ["red", "green", "blue sky"]}"#,
    ])
  func names(config: String) throws {
    let model = try ColourModel(config: config)
    try model.add("red", to: "data/red")
    try model.add("green", to: "data/green")
    try model.add("blue", to: "data/blue-sky")
    try model.add("red", to: "data/cyan")
    let result = try model.eval("data", ["--per-class"])
    #expect(result.output.contains("accuracy          100.00 %"), "\(result.output)\(result.errors)")
    #expect(result.errors.contains("the model has no class called 'cyan'"))
    #expect(result.errors.contains("classes by name, 3 of 3 in the model: blue-sky = 2, green = 1, red = 0"))
    if config.contains("label_names") {
      let notes = result.errors.split(separator: "\n").filter { !$0.hasPrefix("evaluate") }
      Golden.expect((notes + ["", ""]).joined(separator: "\n") + result.output, "cli/eval-per-class.txt")
    }
    let json = try model.eval("data", ["--per-class", "--json"])
    #expect(try Schema("eval").problems(json.output) == [])
    let classes = try #require(try json.json["classes"] as? [[String: Any]])
    #expect(classes.compactMap { $0["right"] as? Int } == [1, 1, 1])
    #expect((classes[1]["name"] as? String)?.hasPrefix("green") == true)
  }

  @Test("a compile says once how classes are numbered and images prepared") func compile() throws {
    let tiny = try TinyModel()
    let result = try tiny.run(TinyModel.compile + ["--eval-data", "data", "-o", "h.vmod"])
    #expect(result.status == 0, "\(result.errors)")
    let said = result.errors.split(separator: "\n").filter {
      $0.contains("classes") || $0.contains("images are prepared")
    }
    Golden.expect((said + [""]).joined(separator: "\n"), "cli/compile-mapping.txt")
  }

  @Test("ImageNet's ids have ImageNet's numbers") func imageNet() throws {
    let model = try ColourModel(outputs: 1000)
    try model.add("red", to: "data/n01440764")
    try model.add("blue", to: "data/n01484850")
    let result = try model.eval()
    #expect(result.output.contains("accuracy          100.00 %"), "\(result.output)\(result.errors)")
    #expect(result.output.contains("accuracy top-5    100.00 %"))
    #expect(
      result.errors.contains("by ImageNet's ids, 2 of 1000 in the model: n01440764 = 0, n01484850 = 2"))
  }

  @Test("a list's labels are mapped as the names of folders are: ids, names, numbers") func lists() throws {
    let model = try ColourModel(outputs: 1000)
    for colour in ["red", "blue"] { try model.add(colour, to: "data") }
    for (text, message) in [
      ("red.png,n01440764\nblue.png,n01484850\n", "by ImageNet's ids, 2 of 1000 in the model"),
      ("file,class\nred.png,0\nblue.png,2\n", "as the data number them, 1000 in the model"),
    ] {
      try model.scratch.write(Array(text.utf8), to: "data/test.csv")
      for path in ["data", "data/test.csv", "data:test"] {
        let result = try model.eval(path)
        #expect(
          result.output.contains("accuracy          100.00 %"), "\(path): \(result.output)\(result.errors)")
        #expect(result.errors.contains(message), "\(result.errors)")
      }
    }
    try model.scratch.write(Array("red.png,0\nblue.png\n".utf8), to: "data/test.csv")
    let refused = try model.eval("data/test.csv")
    #expect(
      refused.status == 3 && refused.errors.contains("data/test.csv:2: expected 2 fields"),
      "\(refused.errors)")
    let named = try ColourModel(config: #"{"label_names": ["red", "green", "blue sky"]}"#)
    for colour in ["red", "blue"] { try named.add(colour, to: "data") }
    try named.scratch.write(Array("red.png,RED\nblue.png,blue_sky\n".utf8), to: "data/list.csv")
    let result = try named.eval("data/list.csv")
    #expect(result.output.contains("accuracy          100.00 %"), "\(result.output)\(result.errors)")
  }

  @Test("fewer classes than outputs are doubtful, more are an error before any work") func counts() throws {
    let many = try ColourModel(outputs: 7)
    let few = try ColourModel(outputs: 2)
    for model in [many, few] {
      for (colour, name) in [("red", "a"), ("green", "b"), ("blue", "c")] {
        try model.add(colour, to: "data/" + name)
      }
    }
    let warned = try many.eval()
    #expect(warned.status == 0 && warned.errors.contains("accuracy by position may mean nothing"))
    let refused = try few.eval()
    #expect(refused.status == 3 && refused.output.isEmpty, "\(refused.output)")
    #expect(refused.errors.contains("the data have 3 classes, the model has 2"), "\(refused.errors)")
  }

  @Test("names of another number than the outputs are an error, made-up ones are none") func nameCount()
    throws
  {
    let wrong = try ColourModel(config: #"{"id2label": {"0": "red", "1": "green"}}"#)
    let made = try ColourModel(config: #"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#)
    for model in [wrong, made] {
      for (colour, name) in [("red", "a"), ("green", "b"), ("blue", "c")] {
        try model.add(colour, to: "data/" + name)
      }
    }
    let refused = try wrong.eval()
    #expect(
      refused.status == 3 && refused.errors.contains("3 outputs and names for 2 classes"), "\(refused.errors)"
    )
    let taken = try made.eval()
    #expect(taken.status == 0 && taken.errors.contains("by position"), "\(taken.errors)")
  }

  @Test(
    "labels that cannot be the model's are an error",
    arguments: [([1, 2, 3], "counted from 1"), ([0, 1, 9], "the labels are 0…9")])
  func numbers(labels: [Int], message: String) throws {
    let model = try ColourModel()
    try model.scratch.write(IDXFiles.images(labels.count), to: "data/train-images-idx4-ubyte")
    try model.scratch.write(IDXFiles.labels(labels), to: "data/train-labels-idx1-ubyte")
    let result = try model.eval("data:train")
    #expect(result.status == 3 && result.errors.contains(message), "\(result.errors)")
    try model.scratch.write(IDXFiles.labels([2, 0, 1]), to: "data/train-labels-idx1-ubyte")
    #expect(try model.eval("data:train").status == 0)
  }
}

/// Arrays in the format of MNIST.
private enum IDXFiles {
  static func images(_ count: Int) -> [UInt8] {
    [0, 0, 8, 4, 0, 0, 0, UInt8(count), 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 3]
      + (0..<count * 192).map { UInt8($0 % 251) }
  }

  static func labels(_ labels: [Int]) -> [UInt8] {
    [0, 0, 8, 1, 0, 0, 0, UInt8(labels.count)] + labels.map(UInt8.init)
  }
}
