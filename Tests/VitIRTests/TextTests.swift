import Testing
import VitIR
import VitTestSupport

@Suite struct TextTests {
  /// Reads text and prints it again.
  private func reprinted(_ text: String) throws -> String {
    try Graph(text: text, file: "x.vit", registry: StandIn.registry).text()
  }

  /// The error that reading a text gives.
  private func failure(_ text: String) -> VitError? {
    do {
      _ = try Graph(text: text, file: "x.vit", registry: StandIn.registry)
      return nil
    } catch { return error }
  }

  @Test("a graph prints as one line for each tensor and node")
  func layout() throws {
    let expected = """
      graph "tiny" {mean = [0.5, 0.25]} (%pixel_values: f32[batch, 4]) -> \
      (logits = %a, "the rest" = %flat, "as is" = @head.weight) {
        tensor @head.weight : f16[4, 3]
        tensor @shape : i64[2] = [2, 6]
        %logits = test.linear(%pixel_values, @head.weight, _) : f32[batch, 3] at "/head/MatMul"
        %a, %b = test.parts(%logits) : f32[batch, 3], f32[batch, 3]
        %flat = test.reshape(@head.weight, @shape) : f32[2, 6]
      }

      """
    #expect(try SampleGraph.small().text() == expected)
  }

  @Test("locations and annotations can be left out")
  func options() throws {
    var options = TextOptions()
    options.locations = false
    options.annotations = false
    let text = try SampleGraph.small().text(options)
    #expect(!text.contains("at \"") && !text.contains("mean"))
  }

  @Test("what is printed reads back as the same graph", arguments: 0..<300)
  func roundTrip(seed: UInt64) throws {
    let graph = try SampleGraph.random(seed: seed)
    try graph.checkInvariants()
    let text = try graph.text()
    let again: Graph
    do {
      again = try Graph(text: text, registry: StandIn.registry)
    } catch { throw VitError("seed \(seed): \(error.description)\n\(text)") }
    #expect(try graph.firstDifference(from: again, comparingValues: false) == nil, "seed \(seed)")
    #expect(try again.text() == text, "seed \(seed)")
    try Verifier.verify(again, registry: StandIn.registry)
  }

  @Test("a text of any version up to this one's is read, of a later one refused", arguments: [1, 2, 3])
  func versions(version: Int) throws {
    let graph = try SampleGraph.small()
    var options = TextOptions()
    options.version = version
    let text = try graph.text(options)
    #expect(text.hasPrefix("version \(version)\ngraph "))
    func read() throws(VitError) -> Graph {
      try Graph(text: text, file: "x.vit", registry: StandIn.registry)
    }
    if version <= TextOptions.currentVersion {
      #expect(try graph.firstDifference(from: read(), comparingValues: false) == nil)
    } else {
      let error = #expect(throws: VitError.self) { try read() }
      #expect(
        error?.description
          == """
          error: x.vit:1:9: the text has the version 3 of the format, expected at most 2
          help: a newer vitc may read it
          """)
    }
  }

  @Test(
    "what stands for a version and is none is an error",
    arguments: ["", "x", "0", "-1", "1.5", "99999999999999999999"])
  func badVersions(version: String) throws {
    let text = "version \(version)\n" + (try SampleGraph.small().text())
    #expect(throws: VitError.self) { try Graph(text: text, registry: StandIn.registry) }
  }

  @Test("layers print behind the graph and read back as they were", arguments: 0..<100)
  func layers(seed: UInt64) throws {
    let hybrid = try SampleGraph.hybrid(seed: seed == 0 ? nil : seed)
    try hybrid.checkInvariants()
    let text = try hybrid.text()
    let again = try Hybrid(text: Array(text.utf8), registry: StandIn.registry)
    #expect(try hybrid.firstDifference(from: again, comparingValues: false) == nil, "seed \(seed)")
    #expect(try again.text() == text, "seed \(seed)")
    var options = TextOptions()
    options.layers = false
    #expect(try hybrid.text(options) == hybrid.graph.text())
    #expect(try reprinted(text) == hybrid.graph.text())
  }

  @Test("a layer stands on one line")
  func layerLine() throws {
    let graph = try SampleGraph.small()
    let (logits, x) = (try #require(graph.value(named: "logits")), graph.inputs[0])
    var layer = Layer(
      index: 3, kind: "glr", heads: 2, node: "/attn", core: logits, input: x, output: nil, parameters: 12,
      obstacle: "it is a mixer already")
    (layer.choice, layer.merges) = (.onTrial, 5)
    layer.scores = Attributes([("lag", .floats([1, 2.5]))])
    var candidate = Layer.Candidate(mixer: "glr{width=4}")
    candidate.error = 0.5
    candidate.divergence = .init(step: 7, rate: 0.01)
    layer.candidates = [candidate]
    let hybrid = Hybrid(
      graph, layers: [layer], others: [AttentionLike(node: "/pool", reason: "its queries are learned")])
    let expected = """
      layers {
        layer 3 glr %logits(%pixel_values) -> _ {choice = "on-trial", heads = 2, \
      merges = 5, obstacle = "it is a mixer already", parameters = 12} scores {lag = [1.0, 2.5]} \
      candidate "glr{width=4}" {diverged_at = 7, diverged_rate = 0.01, error = 0.5} at "/attn"
        other "/pool" "its queries are learned"
      }

      """
    #expect(try hybrid.text() == graph.text() + expected)
  }

  @Test(
    "what is wrong with a layer is named",
    arguments: [
      (
        #"layer 0 a %x(_) -> _ {heads = 1, obstacle = "o", parameters = 0} at """#,
        "is around a value that no operation gives"
      ),
      (#"layer 0 a %z(_) -> _ {heads = 1, parameters = 0} at """#, "%z' is not defined here"),
      (#"layer 0 a %y(_) -> _ {heads = 1} at """#, "'parameters' (int) is missing"),
      (
        #"layer 0 a %y(_) -> _ {heads = -1, obstacle = "o", parameters = 0} at """#,
        "has -1 heads and 0 parameters"
      ),
      (
        #"layer 0 a %y(%x) -> %y {heads = 1, parameters = 0} at """#,
        "can be replaced, but does not map tokens to tokens"
      ),
      (
        #"layer 0 a %y(_) -> _ {choice = "so", heads = 1, parameters = 0} at """#,
        "a layer's choice cannot be 'so'"
      ),
      (#"layer 1 a %y(_) -> _ {heads = 1, parameters = 0, speed = 1} at """#, "unknown attribute 'speed'"),
      (#"layer 0 a %y(_) -> _ {heads = 1, merges = -1, parameters = 0} at """#, "cannot merge -1 patches"),
      ("layer -1", "expected the number of a layer"), ("tensor", "expected 'layer', 'other' or '}'"),
      (
        #"layer 0 a %y(_) -> _ {heads = 1, parameters = 0} candidate "c" {error = true} at """#,
        "attribute 'error' has the type bool, expected float"
      ),
      (
        #"layer 1 a %y(_) -> _ {heads = 1, obstacle = "o", parameters = 0} at "" "#
          + #"layer 1 a %y(_) -> _ {heads = 1, obstacle = "o", parameters = 0} at """#,
        "layer 1 comes after layer 1"
      ),
    ])
  func badLayers(_ line: String, _ message: String) {
    let graph = "graph \"g\" (%x: f32[1]) -> () { %y = test.parts(%x) : f32[1] }\n"
    let error = failure(graph + "layers { \(line) }")
    #expect(error?.description.contains(message) == true, "\(error?.description ?? "no error")")
    #expect(error?.diagnostic.location.line != nil)
  }

  @Test("what version 1 noted about nodes is passed over")
  func oldNotes() throws {
    let text = "graph \"g\" (%x: f32[1]) -> () {\n  %y = test.parts(%x) : f32[1] note {a = 0.5} at \"n\"\n}\n"
    #expect(try reprinted(text) == text.replacing(" note {a = 0.5}", with: ""))
  }

  @Test("tensors come from the file that the text names, and it is asked for once")
  func tensorsFile() throws {
    let graph = try SampleGraph.small()
    let text = try graph.text(TextOptions(tensorsDigest: "abc"))
    var asked: [String] = []
    let again = try Graph(
      text: text, registry: StandIn.registry,
      tensors: { digest throws(VitError) in
        asked.append(digest)
        return graph.tensors
      })
    #expect(asked == ["abc"])
    #expect(try graph.firstDifference(from: again) == nil)
    let error = #expect(throws: VitError.self) {
      try Graph(
        text: text, file: "x.vit", registry: StandIn.registry,
        tensors: { _ throws(VitError) in TensorTable() })
    }
    #expect(error?.description.contains("x.vit:3:10: the tensors' file has no tensor 'head.weight'") == true)
  }

  @Test("a text without tensors gives a graph whose large tensors have types and no values")
  func elided() throws {
    let graph = try Graph(text: SampleGraph.small().text(), registry: StandIn.registry)
    let weight = try #require(graph.tensors["head.weight"])
    #expect(weight.isElided && weight.element == .f16 && weight.shape == [4, 3])
    #expect(graph.tensors["shape"]?.isElided == false)
    let error = #expect(throws: VitError.self) { try weight.floats() }
    #expect(error?.diagnostic.code == "tensor-elided")
    #expect(try graph.text() == SampleGraph.small().text())
  }

  @Test("floats are told from whole numbers and read back exactly")
  func floats() throws {
    let values: [Double] = [1, -0.0, 0.1, 1e-6, 1e300, .leastNonzeroMagnitude, .infinity, -.infinity, .nan]
    #expect(
      Attribute.floats(values).text == "[1.0, -0.0, 0.1, 1e-06, 1e+300, 5e-324, inf, -inf, nan]")
    #expect(Attribute.floats([]).text == "floats[]" && Attribute.ints([]).text == "[]")
    let text =
      "graph \"g\" {a = [0.5, -inf, nan], b = -9223372036854775808, c = floats[], d = 1e-06} () -> () {\n}\n"
    #expect(try reprinted(text) == text)
  }

  @Test(
    "small tensors of every element type but whole numbers with scales stand in the text",
    arguments: ElementType.allCases.filter { !$0.isQuantised })
  func smallTensors(element: ElementType) throws {
    var graph = Graph(name: "g")
    let values: [Double] = element == .bool ? [1, 0] : element.isFloat ? [0.1, -3e-5] : [7, 0]
    _ = graph.addConstant(Tensor(element, shape: [2], values: values), name: "t")
    let again = try Graph(text: graph.text(), registry: StandIn.registry)
    #expect(try graph.firstDifference(from: again) == nil)
  }

  @Test("extents print as polynomials and read back")
  func extents() throws {
    let (h, w) = (Dimension.symbol("height"), Dimension.symbol("image width"))
    let shape: Shape = [
      h * 4 + 1, (h + 3).floorDivided(by: 14) * w, 0 - h, h * h * .fixed(Int.min), w - 2, .symbol("floor"),
      .symbol("f32"),
    ]
    let text = TensorType(.f32, shape).description
    #expect(
      text == "f32[4*height + 1, \"image width\"*floor(height + 3, 14), -height, "
        + "-9223372036854775808*height*height, \"image width\" - 2, \"floor\", f32]")
    #expect(try TensorType(text: text).shape == shape)
  }

  @Test(
    "what is wrong is told with line and column",
    arguments: [
      ("", "x.vit:1:1: expected 'graph', found the end of the text"),
      ("graph \"g\" () -> () {\n  %x = test.parts(%y) : f32[]\n}", "x.vit:2:19: '%y' is not defined here"),
      (
        "graph \"g\" (%x: f32[2]) -> () {\n  %y = test.parts(%x) : f32[3]\n}",
        "x.vit:2:3: 'y' is declared f32[3], but 'test.parts' gives f32[2]"
      ),
      ("graph \"g\" (%x: f32[2], %x: f32[]) -> () {}", "x.vit:1:24: the name 'x' is defined twice"),
      (
        "graph \"g\" (%x: f32[2]) -> () {\n  %x = test.parts(%x) : f32[2]\n}",
        "x.vit:2:3: the name 'x' is defined twice"
      ),
      (
        "graph \"g\" (%x: f32[2]) -> () {\n  %y, %y = test.parts(%x) : f32[2], f32[2]\n}",
        "x.vit:2:3: the name 'y' is defined twice"
      ),
      (
        "graph \"g\" (%x: f32[2]) -> () { %y = test.nothing(%x) : f32[2] }",
        "x.vit:1:32: unknown operation 'test.nothing'"
      ),
      (
        "graph \"g\" (%x: f32[2]) -> () { %y = test.add(%x, %x) {k = 1} : f32[2] }",
        "x.vit:1:32: unknown attribute 'k'"
      ),
      (
        "graph \"g\" (%x: f32[2]) -> () { %y, %z = test.add(%x, %x) : f32[2], f32[2] }",
        "x.vit:1:32: 'test.add' has 1 results, expected 2"
      ),
      (
        "graph \"g\" (%x: f16[2]) -> () {}",
        "x.vit:1:12: 'x' has the element type f16, in which nothing is computed"
      ),
      ("graph \"g\" (%x: f32[-2]) -> () {}", "x.vit:1:16: the shape [-2] has the negative dimension -2"),
      (
        "graph \"g\" (%x: f32[99999999999999999999]) -> () {}",
        "x.vit:1:20: the number is out of the range of 64 bits"
      ),
      (
        "graph \"g\" (%x: f32[1048576, 1048577]) -> () {}",
        "x.vit:1:16: the shape [1048576, 1048577] has too many elements"
      ),
      (
        "graph \"g\" () -> () { tensor @t : f32[2] = [1, 2, 3] }",
        "x.vit:1:43: the tensor has 3 values, but its type has 2"
      ),
      ("graph \"g\" () -> () { tensor @t : i8[1] = [128] }", "x.vit:1:43: 128 is no number of the type i8"),
      (
        "graph \"g\" () -> () { tensor @t : f32[n] }",
        "x.vit:1:34: a tensor's extents are numbers, found f32[n]"
      ),
      ("graph \"g\" {a = 1, a = 2} () -> () {}", "x.vit:1:19: the attribute 'a' is given twice"),
      ("graph \"g\" {a = [1, 2.5]} () -> () {}", "x.vit:1:20: a list holds both int and float"),
      ("graph \"g\" {a = 1e999} () -> () {}", "x.vit:1:16: the number is out of the range of 64 bits"),
      ("graph \"g\" () -> (y = %x) {}", "x.vit:1:22: '%x' is not defined here"),
      ("graph \"g\" (%x: f32[]) -> (y = %x, y = %x) {}", "x.vit:1:39: there are two outputs 'y'"),
      ("graph \"g", "x.vit:1:7: a quoted text does not end on its line"),
      ("graph \"\\q\"", "unknown escape in a quoted text"),
      ("graph \"é\" ?", "x.vit:1:11: unexpected character '?'"),
      ("graph \"g\" () -> () {} graph", "x.vit:1:23: expected the end of the text, found 'graph'"),
    ])
  func errors(text: String, message: String) {
    #expect(
      failure(text)?.description.contains(message) == true, "\(failure(text)?.description ?? "no error")")
  }

  @Test("a node's origin is told beside its place in the text")
  func locations() throws {
    let graph = try Graph(text: SampleGraph.small().text(), file: "t.vit", registry: StandIn.registry)
    #expect(graph.nodes[0].location == Location(file: "t.vit", node: "/head/MatMul", line: 4, column: 3))
    #expect(graph.nodes[1].location == Location(file: "t.vit", line: 5, column: 3))
  }

  @Test("comments and blanks do not matter")
  func blanks() throws {
    let text = "// a comment\n\tgraph\r\n \"g\" ( ) ->() { // another\n}// the end"
    #expect(try reprinted(text) == "graph \"g\" () -> () {\n}\n")
  }

  @Test("divisions nested too deeply are an error, not a stack overflow")
  func nesting() {
    let deep = String(repeating: "floor(", count: 100_000)
    #expect(failure("graph \"g\" (%x: f32[\(deep)")?.description.contains("nested too deeply") == true)
  }

  @Test("a polynomial that outgrows its bound is refused and costs no time")
  func hugePolynomial() {
    var sum = Dimension.fixed(0)
    for index in 0..<1000 { sum = sum + .symbol("s\(index)") }
    #expect(sum.fixedValue.map { $0 > TensorType.maximumElements } == true)
    var nested = Dimension.symbol("n")
    for _ in 0..<200 { nested = (nested * nested + 1).floorDivided(by: 3) }
    #expect(throws: VitError.self) { try TensorType(.f32, [nested]).validate() }
  }

  @Test("damaged text gives errors and never a trap")
  func damage() throws {
    for seed: UInt64 in 0..<3 {
      let bytes = Array(try SampleGraph.random(seed: seed + 7).text().utf8)
      #expect(damaged(bytes, step: 3) { _ = try Graph(text: $0, registry: StandIn.registry) } == [])
    }
    #expect(
      damaged(Array(try SampleGraph.small().text().utf8)) {
        _ = try Graph(text: $0, registry: StandIn.registry)
      }
        == [])
  }

  @Test("random words give errors that name the file, and never a trap")
  func randomWords() {
    let words = [
      "graph", "\"g\"", "(", ")", "{", "}", "[", "]", "->", "%x", "@t", ":", "=", ",", "f32", "tensor",
      "tensors", "at",
      "note", "1", "-", "2.5", "+", "*", "floor", "_", "test.add", "test.parts", "true", "inf", "\n", "\"",
      "%\"\"",
    ]
    var random = SplitMix(seed: 5)
    for _ in 0..<3000 {
      let start = random.below(2) == 0 ? "graph \"g\" (%x: f32[2]) -> () { " : ""
      let chosen = (0..<random.below(30)).map { _ in words[random.below(words.count)] }
      // The one way to make a graph of them.
      if !start.isEmpty, chosen.filter({ $0 != "\n" }) == ["}"] { continue }
      let text = start + chosen.joined(separator: " ")
      #expect(failure(text)?.diagnostic.location.file == "x.vit", "\(text)")
    }
  }
}
