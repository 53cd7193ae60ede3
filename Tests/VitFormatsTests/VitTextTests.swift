import Glibc
import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct VitTextTests {
  @Test("text and tensors read back as the graph", arguments: [nil, 11, 12, 13, 14, 15] as [UInt64?])
  func roundTrip(seed: UInt64?) throws {
    let scratch = try Scratch()
    let hybrid = try SampleGraph.hybrid(seed: seed)
    try VitText.write(hybrid, to: scratch.file("x.vit"))
    #expect(
      try hybrid.firstDifference(from: VitText.read(path: scratch.file("x.vit"), registry: StandIn.registry))
        == nil)
  }

  @Test("files name the version, and are told by it")
  func version() throws {
    let scratch = try Scratch()
    try VitText.write(SampleGraph.hybrid(seed: nil), to: scratch.file("x.vit"))
    let bytes = try MappedFile.contents(of: scratch.file("x.vit"), limit: 1 << 20)
    #expect(bytes.starts(with: "version 2\ngraph ".utf8))
    #expect(VitText.recognises(bytes) && VitText.recognises(Array("// x\n\tversion 7".utf8)))
    #expect(!VitText.recognises(Array("version https://git-lfs.github.com/spec/v1".utf8)))
  }

  @Test("a text without tensors stands alone")
  func elided() throws {
    let scratch = try Scratch()
    let graph = try SampleGraph.small()
    try VitText.write(Hybrid(graph), to: scratch.file("x.vit"), elidingTensors: true)
    #expect(try scratch.names == ["x.vit"])
    let read = try VitText.read(path: scratch.file("x.vit"), registry: StandIn.registry).graph
    #expect(try graph.firstDifference(from: read, comparingValues: false) == nil)
    #expect(read.tensors["head.weight"]?.isElided == true)
  }

  @Test("tensors that are missing, of another model or damaged are told apart")
  func mismatches() throws {
    let scratch = try Scratch()
    func failure() -> String? {
      do {
        let graph = try VitText.read(path: scratch.file("x.vit"), registry: StandIn.registry).graph
        _ = try graph.tensors["head.weight"]?.floats()
        return nil
      } catch { return (error as? VitError)?.diagnostic.code }
    }
    var graph = try SampleGraph.small()
    try VitText.write(Hybrid(graph), to: scratch.file("x.vit"))
    #expect(failure() == nil)
    let tensors = try MappedFile.contents(of: scratch.file("x.vit.tensors"), limit: 1 << 20)
    var damagedTensors = tensors
    damagedTensors[tensors.count - 30] ^= 1
    try scratch.write(damagedTensors, to: "x.vit.tensors")
    #expect(failure() == "bad-checksum" || failure() == "bad-tensor")

    graph.tensors["head.weight"] = Tensor(.f16, shape: [4, 3], values: [Double](repeating: 1, count: 12))
    try VitText.write(Hybrid(graph), to: scratch.file("y.vit"))
    let other = try MappedFile.contents(of: scratch.file("y.vit.tensors"), limit: 1 << 20)
    try scratch.write(other, to: "x.vit.tensors")
    #expect(failure() == "digest-mismatch")

    try scratch.write([], to: "x.vit.tensors")
    #expect(failure() == "bad-magic")
    #expect(unlink(scratch.file("x.vit.tensors")) == 0)
    #expect(failure() == "missing-file")
  }
}
