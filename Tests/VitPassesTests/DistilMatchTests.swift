import Testing
import VitIR
import VitOps
import VitPasses

@Suite("What distillation brings together")
struct DistilMatchTests {
  /// The names of the constants that are the last map of the mixer of a layer.
  private func readout(_ hybrid: Hybrid, _ layer: Int) throws -> Set<String> {
    let place = try #require(hybrid.graph.place(defining: hybrid.layers[layer].core))
    let node = hybrid.graph.nodes[place]
    let map = try #require((node.operation as? any Mixer)?.readout)
    return Set(
      [map.weight, map.bias].compactMap { $0.flatMap { node.operands[$0] } }.map { hybrid.graph[$0].name })
  }

  @Test(
    "steps towards the attended values bring them nearer and leave the last map as it is",
    arguments: ["lstm{form=full}", "mamba", "ssd"],
    ["attend{own=true}", "attend{own=false}", "mixer"])
  func context(mixer: String, prefix: String) throws {
    let context = TinyViT.context(count: 8)
    context.heldOut = context.data
    let before = try apply(
      "swap{mixer=\(mixer),prefix=\(prefix),layers=all}", to: try TinyViT.model(), context)
    var losses: [Double] = []
    context.progress = { phase, _, _, figure in
      if phase == "distil", let value = figure.split(separator: " ").last.flatMap({ Double($0) }) {
        losses.append(value)
      }
    }
    let after = try apply("distil{steps=40,batch=8,rate=0.02,solve=false,match=context}", to: before, context)
    let (start, end) = (try #require(losses.first), try #require(losses.last))
    #expect(end < start * 0.8, "from \(start) to \(end)")
    let (old, new) = (try before.weightBytes(), try after.weightBytes())
    for layer in 0..<2 {
      for name in try readout(before, layer) { #expect(old[name] == new[name], "\(name)") }
    }
    #expect(old.contains { $0.key.hasPrefix("mixer.") && new[$0.key] != $0.value })
  }

  @Test(
    "a mixer that lacks the attention's channels is brought towards its output", arguments: ["lstm", "glr"])
  func narrow(_ mixer: String) throws {
    func bytes(_ match: String) throws -> [String: [UInt8]] {
      try apply(
        "swap{mixer=\(mixer),width=0.5,layers=all},distil{steps=3,batch=8,match=\(match)}",
        to: try TinyViT.model()
      )
      .weightBytes()
    }
    // What has fewer of the attention's channels is brought towards those.
    #expect(try (bytes("context") == bytes("output")) == (mixer == "lstm"))
  }

  @Test("another word is refused with those that there are")
  func unknown() throws {
    let error = try #require(throws: VitError.self) {
      try apply("swap{layers=all},distil{match=loss}", to: try TinyViT.model())
    }
    let text = "\(error.diagnostic)"
    #expect(text.contains("output") && text.contains("context"), "\(text)")
  }
}
