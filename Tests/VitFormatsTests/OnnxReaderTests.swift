import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct OnnxReaderTests {
  private func read(_ bytes: [UInt8]) throws -> OnnxImport {
    let scratch = try Scratch()
    return try Zoo.read(path: scratch.write(bytes, to: "m.onnx"))
  }

  private func read(_ wire: Wire) throws -> OnnxImport { try read(wire.bytes) }

  /// What the refusal of a model says.
  private func refusal(_ wire: Wire) -> String {
    do {
      _ = try read(wire)
      return "read"
    } catch { return (error as? VitError)?.diagnostic.text ?? "\(error)" }
  }

  private static let add = Onnx.node("Add", ["x", "x"], ["y"], name: "sum")

  @Test("a graph becomes operations with locations, names and the batch as a symbol")
  func graph() throws {
    let graph = try read(Onnx.model(Onnx.graph([Self.add]))).graph
    #expect(graph.nodes.map(\.name) == ["onnx.Add"])
    #expect(graph.nodes[0].location.node == "sum")
    #expect(graph.nodes[0].location.file?.hasSuffix("m.onnx") == true)
    #expect(graph.inputs.map { graph[$0].name } == ["x"])
    #expect(graph.type(graph.inputs[0]) == TensorType(.f32, [.symbol("batch"), 2]))
    #expect(graph.outputs.map(\.name) == ["y"])
  }

  @Test("bytes that are no message are refused with the offset and the field")
  func wire() {
    let start = Wire().int(1, 8)
    #expect(refusal(Wire()).contains("empty"))
    #expect(refusal(start.tag(7, 7)).contains("offset 2: field 7 of ModelProto has the wire type 7"))
    #expect(refusal(start.tag(7, 3)).contains("is a group"))
    #expect(refusal(start.int(7, 5)).contains("ModelProto.graph has the wire type 0 (varint), expected 2"))
    #expect(refusal(start.tag(0, 0)).contains("field number 0"))
    #expect(refusal(start.tag(7, 2).adding(Wire.varint(1 << 60))).contains("truncated at offset 12"))
    #expect(refusal(start.tag(7, 2).adding(Wire.varint(UInt64.max))).contains("but only 0 bytes are left"))
    let long = [UInt8](repeating: 0xff, count: 10) + [1]
    #expect(refusal(start.tag(5, 0).adding(long)).contains("a varint of more than ten bytes"))
    #expect(refusal(start).contains("no graph"))
    #expect(refusal(Wire().text(3, "x").tag(13, 0).adding([1])).contains("not an ONNX model"))
    #expect(refusal(Wire(bytes: [0x50, 0x4b, 3, 4, 9])).contains("ZIP"))
  }

  @Test("graphs may nest 32 deep and no deeper")
  func nesting() throws {
    func nested(_ depth: Int) -> Wire {
      var graph = Onnx.graph([Self.add])
      for _ in 1..<depth {
        graph = Onnx.graph([
          Self.add, Onnx.node("If", ["x"], ["unused"], [Onnx.attribute("then_branch", graph: graph)]),
        ])
      }
      return Onnx.model(graph)
    }
    _ = try read(nested(32))
    #expect(refusal(nested(33)).contains("nest more than 32 deep"))
  }

  @Test("branches within branches take their places, however deep they may be")
  func nestedBranches() throws {
    let condition = Wire().int(1, 1).int(2, 9).text(8, "c").data(9, [1])
    var nodes = [Onnx.node("Neg", ["x"], ["y"], name: "inmost")]
    for depth in 0..<31 {
      let attribute = Onnx.attribute("then_branch", graph: Onnx.graph(nodes, inputs: []))
      nodes = [Onnx.node("If", ["c"], ["y"], name: "if\(depth)", [attribute])]
    }
    let graph = try read(Onnx.model(Onnx.graph(nodes, constants: [condition]))).graph
    #expect(graph.nodes.map(\.name) == ["onnx.Neg"])
    #expect(graph.nodes[0].location.node?.hasSuffix("if0/inmost") == true)
  }

  @Test("names that are no UTF-8 stay different from one another")
  func badNames() throws {
    func broken(_ byte: UInt8) -> Wire { Wire().data(1, [byte]).data(1, [byte]) }
    let one = Wire().text(1, "x").data(2, [0xff]).text(4, "Neg")
    let two = Wire().text(1, "x").data(2, [0xfe]).text(4, "Abs")
    let sum = Wire().data(1, [0xff]).data(1, [0xfe]).text(2, "y").text(4, "Add")
    let model = try read(Onnx.model(Onnx.graph([one, two, sum])))
    #expect(model.graph.nodes.count == 3)
    #expect(model.diagnostics.map(\.message).contains { $0.contains("UTF-8") && $0.contains("\\xff") })
  }

  @Test("a graph that defines or reads wrongly is refused by name")
  func structure() {
    let neg = Onnx.node("Neg", ["x"], ["y"], name: "n")
    #expect(refusal(Onnx.model(Onnx.graph([Self.add, neg]))).contains("duplicate value 'y'"))
    #expect(
      refusal(Onnx.model(Onnx.graph([Self.add, Onnx.node("Neg", ["x"], ["x"])]))).contains(
        "duplicate value 'x'"))
    #expect(
      refusal(Onnx.model(Onnx.graph([Onnx.node("Neg", ["ghost"], ["y"], name: "n")]))).contains("node 'n'"))
    #expect(refusal(Onnx.model(Onnx.graph([Onnx.node("Neg", ["y"], ["y"])]))).contains("cycle"))
    #expect(refusal(Onnx.model(Onnx.graph([neg], outputs: ["z"]))).contains("the output 'z'"))
    #expect(refusal(Onnx.model(Onnx.graph([neg], outputs: ["y", "y"]))).contains("duplicate output 'y'"))
    #expect(refusal(Onnx.model(Onnx.graph([neg], outputs: []))).contains("no outputs"))
    #expect(refusal(Onnx.model(Onnx.graph([Onnx.node("", ["x"], ["y"])]))).contains("no op_type"))
    #expect(refusal(Onnx.model(Onnx.graph([Onnx.node("Neg", ["x"], [])]))).contains("no output"))
    let twice = Onnx.attribute("axis", int: 0)
    #expect(
      refusal(Onnx.model(Onnx.graph([Onnx.node("Softmax", ["x"], ["y"], [twice, twice])]))).contains(
        "given twice"))
  }

  @Test("a node without a name is told by its number and type, escaped where need be")
  func labels() {
    #expect(
      refusal(Onnx.model(Onnx.graph([Self.add, Onnx.node("Neg", ["ghost"], ["z"])]))).contains("'#1(Neg)'"))
    #expect(
      refusal(Onnx.model(Onnx.graph([Onnx.node("Neg", ["g\u{1b}"], ["y"], name: "a\nb")])))
        .hasSuffix("error: node 'a\\nb': reads the value 'g\\u{1b}', which nothing defines") == false)
    #expect(
      refusal(Onnx.model(Onnx.graph([Onnx.node("Neg", ["g\u{1b}"], ["y"], name: "a\nb")])))
        .contains("node 'a\\nb': reads the value 'g\\u{1b}'"))
  }

  @Test("all operators that are missing are listed at once, with counts and nodes")
  func unsupported() {
    let nodes = [
      Onnx.node("Foo", ["x"], ["a"], name: "f1"), Onnx.node("Foo", ["a"], ["b"], name: "f2"),
      Onnx.node("Bar", ["b"], ["c"], name: "g", domain: "org.example"),
      Onnx.node("Loop", ["c"], ["y"], name: "l"),
      Onnx.node("Dead", ["x"], ["unread"]),
    ]
    let text = refusal(Onnx.model(Onnx.graph(nodes)))
    #expect(
      text.contains(
        "3 operators are not supported: control flow: Loop (1×: 'l'); "
          + "an unknown domain: org.example::Bar (1×: 'g'); Foo (2×: 'f1', 'f2')"))
    #expect(!text.contains("Dead"))
  }

  @Test("what shapes depend on, chance, loops and unknown operators are told apart, in one refusal")
  func kindsOfRefusal() {
    let nodes = [
      Onnx.node("NonMaxSuppression", ["x"], ["a"], name: "boxes"),
      Onnx.node("Unique", ["a"], ["b"], name: "u"),
      Onnx.node("RandomNormalLike", ["b"], ["c"], name: "noise"),
      Onnx.node("Conv", ["c"], ["d"], name: "laid", domain: "com.microsoft.nchwc"),
      Onnx.node("Foo", ["d"], ["y"], name: "f"),
    ]
    let text = refusal(Onnx.model(Onnx.graph(nodes)))
    #expect(
      text.contains(
        "5 operators are not supported: results whose shapes depend on data: NonMaxSuppression (1×: 'boxes'), "
          + "Unique (1×: 'u'); random numbers: RandomNormalLike (1×: 'noise'); "
          + "com.microsoft.nchwc::Conv (1×: 'laid'); Foo (1×: 'f')"))
    #expect(text.contains("help: end the model before what picks boxes"))
  }

  @Test("elements that are picked by data are refused all at once, those of constants are not")
  func pickedElements() {
    let nodes = [
      Onnx.node("Neg", ["x"], ["a"], name: "n"), Onnx.node("Shape", ["x"], ["s"], name: "s"),
      Onnx.node("NonZero", ["s"], ["t"], name: "known"), Onnx.node("NonZero", ["a"], ["b"], name: "first"),
      Onnx.node("NonZero", ["x"], ["c"], name: "second"),
      Onnx.node("Identity", ["b"], ["y"], name: "j"), Onnx.node("Identity", ["c"], ["z"]),
      Onnx.node("Identity", ["t"], ["w"]),
    ]
    let text = refusal(Onnx.model(Onnx.graph(nodes, outputs: ["y", "z", "w"])))
    #expect(
      text.contains(
        "an operator is not supported: results whose shapes depend on data: NonZero (2×: 'first', 'second')"))
  }

  @Test(
    "opsets that are missing, too old or too new are refused with the range", arguments: [7, 10, 29, 999, -1])
  func opsets(_ version: Int) {
    #expect(refusal(Onnx.model(Onnx.graph([Self.add]), opset: version)).contains("opset \(version)"))
    #expect(refusal(Wire().int(1, 8).message(7, Onnx.graph([Self.add]))).contains("opset"))
  }

  @Test("inputs that no model can be run with are refused")
  func inputs() {
    func with(_ input: Wire) -> String { refusal(Onnx.model(Onnx.graph([Self.add], inputs: [input]))) }
    #expect(with(Onnx.value("x", [0, 2])).contains("input 'x' has the extent 0"))
    #expect(with(Onnx.value("x", [nil, 1 << 62])).contains("2^40"))
    #expect(with(Onnx.value("x", [nil, 2], element: 8)).contains("string"))
    #expect(
      with(Wire().text(1, "x")).contains("input 'x' has no shape")
        || with(Wire().text(1, "x")).contains("type"))
    #expect(with(Wire().text(1, "x").message(2, Wire().data(4, []))).contains("sequence"))
  }

  @Test("tensors must hold just what their shape needs")
  func tensors() {
    func with(_ constant: Wire) -> String {
      refusal(Onnx.model(Onnx.graph([Onnx.node("Add", ["x", "c"], ["y"])], constants: [constant])))
    }
    #expect(with(Onnx.tensor("c", [2], floats: [1, 2])) == "read")
    #expect(
      with(Onnx.tensor("c", [3], floats: [1, 2])).contains("raw_data has 8 bytes, but f32[3] needs 12"))
    #expect(with(Onnx.tensor("c", [-2], floats: [1, 2])).contains("negative dimension -2"))
    #expect(with(Onnx.tensor("c", [1 << 31, 1 << 31, 4], floats: [])).contains("overflow"))
    #expect(with(Onnx.tensor("c", [Int](repeating: 1, count: 65), floats: [1])).contains("more than 64"))
    let named = Wire().int(1, 2).text(8, "c")
    #expect(with(named.int(2, 8).text(6, "a").text(6, "b")).contains("string"))
    #expect(with(named.int(2, 17).data(9, [0])).contains("float8e4m3fn"))
    #expect(with(named.int(2, 99).data(9, [0])).contains("number 99"))
    #expect(with(named.int(2, 1).data(5, [1, 2])).contains("int32_data, expected float_data"))
    #expect(with(named.int(2, 6).data(5, [1])).contains("int32_data holds 1 of 2"))
    #expect(with(named.int(2, 6).data(5, [1, 0x80])).contains("holds 1 of 2"))
    #expect(with(named.int(2, 3).data(5, Wire.varint(200) + [1])).contains("200, which is no i8"))
    #expect(with(named.int(2, 1).data(4, [0, 0, 0])).contains("middle of a value"))
    #expect(with(named.int(2, 1).message(3, Wire())).contains("segments"))
  }

  @Test("functions that call themselves, nest too deep or stand for too much are refused")
  func functions() {
    func call(_ name: String, _ from: String, _ to: String) -> Wire {
      Onnx.node(name, [from], [to], name: name, domain: "local")
    }
    func model(_ functions: [Wire]) -> String {
      refusal(Onnx.model(Onnx.graph([call("f0", "x", "y")]), functions: functions))
    }
    #expect(model([Onnx.function("f0", ["a"], ["b"], [call("f0", "a", "b")])]).contains("recursive"))
    #expect(
      model([
        Onnx.function("f0", ["a"], ["b"], [call("f1", "a", "b")]),
        Onnx.function("f1", ["a"], ["b"], [call("f0", "a", "b")]),
      ]).contains("recursive"))
    func doubling(_ count: Int) -> [Wire] {
      (0..<count).map { index in
        let next = index + 1 < count ? "f\(index + 1)" : "Neg"
        let domain = index + 1 < count ? "local" : ""
        return Onnx.function(
          "f\(index)", ["a"], ["b"],
          [Onnx.node(next, ["a"], ["m"], domain: domain), Onnx.node(next, ["m"], ["b"], domain: domain)])
      }
    }
    #expect(model(doubling(4)) == "read")
    #expect(model(doubling(40)).contains("stand for more than"))
    let chain = (0..<100).map { index in
      Onnx.function("f\(index)", ["a"], ["b"], [call("f\(index + 1)", "a", "b")])
    }
    #expect(model(chain).contains("nest more than 64 deep"))
    #expect(model([Onnx.function("f0", ["a"], ["b"], [])]).contains("does not define its output 'b'"))
    #expect(
      model([Onnx.function("f0", ["a"], ["b"], [Onnx.node("Neg", ["x"], ["b"])])]).contains("nothing defines")
    )
    #expect(
      model([Onnx.function("f0", ["a"], ["b"], [Onnx.node("Neg", ["a"], ["b"])], opset: 3)]).contains(
        "opset 3"))
    #expect(model([Onnx.function("f0", ["a"], ["a"], [])]) == "read")
  }

  @Test("external data are read from the model's folder, and from nowhere else")
  func externalData() throws {
    let scratch = try Scratch()
    try scratch.write([UInt8](repeating: 0, count: 24), to: "inside/sub/data.bin")
    try scratch.write([UInt8](repeating: 0, count: 24), to: "outside.bin")
    func read(_ entries: [(String, String)]) throws -> OnnxImport {
      var tensor = Wire().int(1, 2).int(2, 1).text(8, "c").int(14, 1)
      for (key, value) in entries { tensor = tensor.message(13, Wire().text(1, key).text(2, value)) }
      let model = Onnx.model(Onnx.graph([Onnx.node("Add", ["x", "c"], ["y"])], constants: [tensor]))
      return try Zoo.read(path: scratch.write(model.bytes, to: "inside/m.onnx"))
    }
    func refusal(_ entries: [(String, String)]) -> String {
      do { return try read(entries).graph.name + "read" } catch { return "\(error)" }
    }
    let good = try read([("location", "sub/data.bin"), ("offset", "8"), ("length", "8"), ("checksum", "?")])
    #expect(good.externalFiles == [scratch.file("inside/sub/data.bin")])
    #expect(refusal([("location", "sub/data.bin"), ("offset", "16")]) == "read")
    #expect(refusal([("location", "sub/data.bin"), ("offset", "17")]).contains("found a file of 24 bytes"))
    #expect(refusal([("location", "sub/data.bin"), ("offset", "\(Int.max)")]).contains("\(Int.max)"))
    #expect(
      refusal([("location", "sub/data.bin"), ("length", "9")]).contains("9 bytes, but the shape needs 8"))
    #expect(refusal([("location", "sub/data.bin"), ("offset", "-8")]).contains("'-8'"))
    #expect(refusal([("location", "sub/data.bin"), ("offset", "eight")]).contains("'eight'"))
    #expect(refusal([("location", "../outside.bin")]).contains("'../outside.bin', outside"))
    #expect(refusal([("location", "sub/../../outside.bin")]).contains("outside"))
    #expect(refusal([("location", scratch.file("inside/sub/data.bin"))]).contains("outside"))
    #expect(refusal([("location", "nowhere.bin")]).contains("'nowhere.bin' cannot be opened"))
    #expect(refusal([("location", "sub")]).contains("folder"))
    #expect(refusal([]).contains("without a location"))
    try scratch.link("inside/link.bin", to: scratch.file("outside.bin"))
    try scratch.link("inside/near.bin", to: "sub/data.bin")
    #expect(refusal([("location", "link.bin")]).contains("symbolic link"))
    #expect(refusal([("location", "near.bin")]) == "read")
    #expect(refusal([("location", "sub/data.bin")]).contains("tensor 'c'") == false)
  }

  @Test("a graph whose extents hold other symbols gives each its name")
  func symbols() throws {
    func dims(_ names: [String]) -> Wire {
      let shape = names.reduce(Wire()) { $0.message(1, $1.isEmpty ? Wire() : Wire().text(2, $1)) }
      return Wire().text(1, "x").message(2, Wire().message(1, Wire().int(1, 1).message(2, shape)))
    }
    let model = try read(
      Onnx.model(Onnx.graph([Self.add], inputs: [dims(["N", "s0*2", "", "batch", "s0*2"])])))
    let shape = model.graph.type(model.graph.inputs[0]).shape
    #expect(shape.map(\.description) == ["batch", "s0_2", "x_dim2", "batch_1", "s0_2"])
  }

  @Test("what takes only its type from the images does not stand in the way of more of them")
  func onlyTheType() throws {
    let model = try read(
      Onnx.model(
        Onnx.graph(
          [Onnx.node("CastLike", ["half", "x"], ["factor"]), Onnx.node("Mul", ["x", "factor"], ["y"])],
          inputs: [Onnx.value("x", [1, 3, 4])], constants: [Onnx.tensor("half", [], floats: [0.5])])))
    #expect(model.diagnostics.map(\.code) == ["batch-opened"])
    #expect(model.graph.type(model.graph.outputs[0].value).shape == [.symbol("batch"), 3, 4])
  }

  @Test("numbers of four and of two bits are read as bytes, the first from the lowest bits")
  func packedElements() throws {
    func constant(_ code: Int, _ bytes: [UInt8], _ field: Int = 9) throws -> [Double] {
      var tensor = Wire().int(1, 5).int(2, code).text(8, "c")
      if field == 9 {
        tensor = tensor.data(9, bytes)
      } else {
        for byte in bytes { tensor = tensor.int(5, Int(byte)) }
      }
      let nodes = [
        Onnx.node("DequantizeLinear", ["c", "scale"], ["d"]), Onnx.node("Add", ["x", "d"], ["y"]),
      ]
      let graph = try read(
        Onnx.model(
          Onnx.graph(
            nodes, inputs: [Onnx.value("x", [nil, 5])],
            constants: [tensor, Onnx.tensor("scale", [], floats: [1])]), opset: 21)
      ).graph
      let values = graph.nodes.flatMap(\.operands).compactMap { $0 }
      let id = try #require(values.first { graph[$0].name == "c" })
      return try #require(graph.tensor(id)).doubles()
    }
    #expect(try constant(22, [0x87, 0xf1, 0x02]) == [7, -8, 1, -1, 2])
    #expect(try constant(21, [0x87, 0xf1, 0x02]) == [7, 8, 1, 15, 2])
    #expect(try constant(22, [0x87, 0xf1, 0x02], 5) == [7, -8, 1, -1, 2])
    #expect(try constant(26, [0b10_01_11_00, 0b01]) == [0, -1, 1, -2, 1])
    #expect(try constant(25, [0b10_01_11_00, 0b01]) == [0, 3, 1, 2, 1])
    #expect(throws: VitError.self) { _ = try constant(22, [0x87, 0xf1]) }
  }

  @Test("quantising to four bits is refused, not done in eight")
  func packedResult() {
    let zero = Wire().int(2, 22).text(8, "zero").data(9, [0])
    let text = refusal(
      Onnx.model(
        Onnx.graph(
          [Onnx.node("QuantizeLinear", ["x", "scale", "zero"], ["y"])],
          constants: [zero, Onnx.tensor("scale", [], floats: [1])]), opset: 21))
    #expect(text.contains("22"), "\(text)")
  }

  @Test("a cast to the type of a constant is one to the type in which the file holds it")
  func castLike() throws {
    func cast(_ code: Int, _ bytes: [UInt8]) -> Wire {
      let like = Wire().int(2, code).text(8, "like").data(9, bytes)
      return Onnx.model(
        Onnx.graph([Onnx.node("CastLike", ["x", "like"], ["y"])], constants: [like]), opset: 21)
    }
    let half = try read(cast(10, [0, 0])).graph.nodes
    #expect(half.map(\.name) == ["onnx.Cast"])
    #expect(refusal(cast(22, [0])).contains("22"))
    #expect(try read(cast(1, [0, 0, 0, 0])).graph.nodes.allSatisfy { $0.name == "onnx.CastLike" })
  }

  @Test("a damaged file is refused and nothing else happens")
  func damage() throws {
    let bytes = try Fixture.bytes("onnx/functions.onnx")
    #expect(damaged(bytes, step: 3) { _ = try read($0) } == [])
  }
}
