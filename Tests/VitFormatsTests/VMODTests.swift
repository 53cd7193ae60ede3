import Testing
import VitFormats
import VitIR
import VitTestSupport

/// Files to write and read.
enum VModSample {
  static func file(seed: UInt64? = nil) throws -> VModFile {
    var file = VModFile(try SampleGraph.hybrid(seed: seed))
    file.preprocessing = [("size", "28"), ("mean\u{0}", "0.5")]
    file.labels = ["shirt", "", "übergröße"]
    file.lineage = [("teacher", "sha256:00"), ("seed", "7")]
    file.probes = [
      Probe(
        inputs: [("pixel_values", Tensor(shape: [1, 4], floats: [1, 2, 3, .nan]))],
        outputs: [("logits", Tensor(shape: [1, 3], floats: [1, -2, 3]))], tolerance: 1e-5)
    ]
    file.report = "{\"layers\":[]}"
    file.measurements = "{\"ms\":1.5}"
    return file
  }

  static func read(_ path: String) throws(VitError) -> VModFile {
    try VModReader.read(path: path, registry: StandIn.registry)
  }

  /// Reads a file made of these bytes, and every tensor in it.
  static func readAll(_ bytes: [UInt8], in scratch: Scratch) throws {
    let file = try read(scratch.write(bytes, to: "damaged.vmod"))
    try file.verifyTensors()
  }

  /// The bytes of a file.
  static func bytes(_ file: VModFile, weights: ElementType = .f32) throws -> [UInt8] {
    let scratch = try Scratch()
    try VModWriter.write(file, to: scratch.file("m.vmod"), weights: weights)
    return try MappedFile.contents(of: scratch.file("m.vmod"), limit: 1 << 24)
  }
}

@Suite struct VMODTests {
  @Test("a file reads back as it was written", arguments: [nil, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] as [UInt64?])
  func roundTrip(seed: UInt64?) throws {
    let scratch = try Scratch()
    let file = try VModSample.file(seed: seed)
    let digest = try VModWriter.write(file, to: scratch.file("m.vmod"))
    let again = try VModSample.read(scratch.file("m.vmod"))
    #expect(try file.hybrid.firstDifference(from: again.hybrid) == nil)
    #expect(again.preprocessing.map(\.key) == ["size", "mean\u{0}"])
    #expect(again.preprocessing.map(\.value) == ["28", "0.5"])
    #expect(again.labels == file.labels)
    #expect(again.lineage.map(\.value) == ["sha256:00", "7"])
    #expect(again.report == file.report && again.measurements == file.measurements)
    #expect(again.contentDigest == digest)
    let probe = try #require(again.probes.first)
    #expect(
      probe.tolerance == 1e-5 && probe.inputs[0].name == "pixel_values" && probe.outputs[0].name == "logits")
    #expect(try probe.outputs[0].tensor.floats() == [1, -2, 3])
    #expect(try probe.inputs[0].tensor.floats()[3].isNaN)
    try again.verifyTensors()
    #expect(try scratch.names == ["m.vmod"])
    // What was read can be written again, to the same bytes.
    #expect(try VModSample.bytes(again) == VModSample.bytes(file))
  }

  @Test("nodes of a file are located in it")
  func locations() throws {
    let scratch = try Scratch()
    let path = scratch.file("m.vmod")
    try VModWriter.write(VModSample.file(), to: path)
    #expect(try VModSample.read(path).graph.nodes[0].location == Location(file: path, node: "/head/MatMul"))
  }

  @Test("measurements change no digest, everything else does")
  func contentDigest() throws {
    let scratch = try Scratch()
    let digests = try (0..<6).map { change in
      var file = try VModSample.file()
      switch change {
      case 1: file.measurements = nil
      case 2: file.labels.append("more")
      case 3: file.report = nil
      case 4: file.probes[0].tolerance = 2e-5
      case 5: file.probes[0].outputs[0].tensor = Tensor(shape: [1, 3], floats: [1, -2, 4])
      default: break
      }
      return try VModWriter.write(file, to: scratch.file("m.vmod"))
    }
    #expect(digests[0] == digests[1])
    #expect(Set(digests).count == 5)
  }

  @Test("weights are rounded on the way when that is asked for")
  func rounding() throws {
    var file = try VModSample.file()
    let weight = file.graph.addConstant(Tensor(shape: [2, 2], floats: [0.1, 0.2, 0.3, 0.4]), name: "w")
    let scratch = try Scratch()
    try VModWriter.write(file, to: scratch.file("m.vmod"), weights: .f16)
    let read = try VModSample.read(scratch.file("m.vmod")).graph
    let tensor = try #require(read.value(named: "w").flatMap(read.tensor))
    #expect(tensor.element == .f16)
    #expect(try tensor.floats() == file.graph.roundingWeights(to: .f16).tensor(weight)?.floats())
    // Rounding before writing is the same.
    file.graph = try file.graph.roundingWeights(to: .f16)
    #expect(try VModSample.bytes(file) == MappedFile.contents(of: scratch.file("m.vmod"), limit: 1 << 20))
  }

  @Test("tensors of every element type and any kind of content come back", arguments: ElementType.allCases)
  func tensors(element: ElementType) throws {
    var random = SplitMix(seed: 3)
    var file = VModFile(Hybrid(Graph(name: "tensors")))
    func add(_ name: String, _ shape: [Int], _ number: () -> Double) {
      let count = shape.reduce(1, *)
      _ = file.graph.addConstant(
        Tensor(element, shape: shape, values: (0..<count).map { _ in number() }), name: name)
    }
    add("scalar", []) { 1 }
    add("empty", [0, 3]) { 1 }
    add("zeros", [200, 300]) { 0 }
    add("weights", [67, 33]) { random.normal() / 10 }
    add("noise", [999]) { Double(random.next() >> 40) }
    let scratch = try Scratch()
    try VModWriter.write(file, to: scratch.file("m.vmod"))
    let read = try VModSample.read(scratch.file("m.vmod"))
    #expect(try file.graph.firstDifference(from: read.graph) == nil)
    try read.verifyTensors()
  }

  @Test("weights of 32 bits take less space than their bytes, zeros much less")
  func compression() throws {
    var random = SplitMix(seed: 3)
    var file = VModFile(Hybrid(Graph(name: "g")))
    let weights = (0..<40_000).map { _ in Float(random.normal() / 20) }
    _ = file.graph.addConstant(Tensor(shape: [200, 200], floats: weights), name: "w")
    #expect(try VModSample.bytes(file).count < 160_000 * 9 / 10)
    file.graph.tensors["w"] = Tensor(shape: [200, 200], floats: [Float](repeating: 0, count: 40_000))
    #expect(try VModSample.bytes(file).count < 2000)
  }

  @Test("a tensor's memory is let go when nobody holds it, and shared while somebody does")
  func laziness() throws {
    let scratch = try Scratch()
    try VModWriter.write(VModSample.file(), to: scratch.file("m.vmod"))
    let file = try VModSample.read(scratch.file("m.vmod"))
    let storage = try #require(file.graph.tensors["head.weight"]).storage
    #expect(storage.resident == nil)
    let (a, b) = try storage.withBytes { outer in
      try storage.withBytes { (outer.baseAddress, $0.baseAddress) }
    }
    #expect(a == b && Int(bitPattern: a) % 64 == 0)
  }

  @Test("what a reader would refuse is not written")
  func refusals() throws {
    let scratch = try Scratch()
    var file = try VModSample.file()
    file.lineage.append(("seed", "8"))
    #expect(throws: VitError.self) { try VModWriter.write(file, to: scratch.file("m.vmod")) }
    file = try VModSample.file()
    file.graph.nodes.removeFirst()
    #expect(throws: VitError.self) { try VModWriter.write(file, to: scratch.file("m.vmod")) }
    file = VModFile(Hybrid(try Graph(text: SampleGraph.small().text(), registry: StandIn.registry)))
    let error = #expect(throws: VitError.self) { try VModWriter.write(file, to: scratch.file("m.vmod")) }
    #expect(error?.diagnostic.code == "tensor-elided")
    #expect(try scratch.names == [])
  }

  @Test("a path that cannot be written is an error of the environment")
  func unwritable() throws {
    let file = try VModSample.file()
    for path in ["/nonexistent/m.vmod", "/dev/full"] {
      let error = #expect(throws: VitError.self) { try VModWriter.write(file, to: path) }
      #expect(error?.kind == .environment)
    }
  }

  @Test("files are told by their first bytes")
  func recognition() throws {
    let bytes = try VModSample.bytes(VModSample.file())
    #expect(VModReader.recognises(Array(bytes.prefix(8))) && !VModReader.recognises(Array(bytes.prefix(7))))
    #expect(!VitText.recognises(bytes) && VitText.recognises(Array("// x\n graph \"g\"".utf8)))
  }
}
