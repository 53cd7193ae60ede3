import Foundation
import Testing
import VitIR
import VitOps
import VitPasses
import VitTestSupport

/// A pipeline, a graph, and what comes of it, in one file of `golden/passes/cases`:
///
/// ```
/// // passes: fold,raise
/// graph "g" (…) -> (…) { … }
/// // gives
/// graph "g" (…) -> (…) { … }      or      // error: …
/// ```
///
/// Tensors whose numbers do not stand in the text get random ones, decided by their place. Larger tensors are printed
/// without numbers, so that none stands there that a level of the instruction set might round otherwise.
@Suite("passes as text")
struct PassGoldenTests {
  static let folder = "passes/cases"
  static let files = ((try? FileManager.default.contentsOfDirectory(atPath: Fixture.path(folder))) ?? [])
    .sorted()
  private static let divider = "// gives\n"

  @Test("the graph or the error that comes of a pipeline is what stands behind its input", arguments: files)
  func gives(_ file: String) throws {
    let text = String(decoding: try Fixture.bytes("\(Self.folder)/\(file)"), as: UTF8.self)
    let input = try #require(text.components(separatedBy: Self.divider).first)
    let first = try #require(input.split(separator: "\n").first)
    try #require(first.hasPrefix("// passes: "), "the first line names the passes")
    let pipeline = String(first.dropFirst("// passes: ".count))
    Golden.expect(input + Self.divider + outcome(input, pipeline, file), "\(Self.folder)/\(file)")
  }

  @Test("every standard pass has a file in which it changes a graph, or finds nothing to do")
  func everyPass() throws {
    let named = try Self.files.map {
      String(decoding: try Fixture.bytes("\(Self.folder)/\($0)"), as: UTF8.self)
    }
    .filter { !$0.contains("\n// error: ") }.compactMap { $0.split(separator: "\n").first }
    .flatMap { try Pipeline(String($0.dropFirst("// passes: ".count))).passes.map { type(of: $0).name } }
    #expect(Set(Pipeline.standardPasses.map { $0.name }).subtracting(named).isEmpty)
  }

  private func outcome(_ input: String, _ pipeline: String, _ file: String) -> String {
    do {
      let passes = try Pipeline(pipeline)
      var hybrid = try Hybrid(text: Array(input.utf8), file: file, registry: .standard)
      hybrid.graph = filled(hybrid.graph)
      if hybrid.layers.isEmpty { hybrid.findLayers() }
      let isLabelled = passes.passes.contains { $0 is Head }
      try passes.run(on: &hybrid, context: TinyViT.context(labelled: isLabelled))
      try Verifier.verify(hybrid.graph, registry: .standard)
      var options = TextOptions()
      options.inlineFloats = 1
      // What scoring and training computed has a place here, but its numbers depend on the machine.
      return try hybrid.text(options).replacing(#/(scores|candidate "[^"]*") \{[^}]*\}/#) { match in
        match.output.0.replacing(#/ = (\[[^\]]*\]|[^,}]+)/#, with: " = …")
      }
    } catch {
      return "\(error)".split(separator: "\n").map { "// \($0)\n" }.joined()
    }
  }

  private func filled(_ graph: Graph) -> Graph {
    var graph = graph
    for (place, name) in graph.tensors.names.enumerated() {
      guard let tensor = graph.tensors[name], tensor.isElided, let id = graph.value(named: name) else {
        continue
      }
      graph.setTensor(.random(tensor.shape, seed: UInt64(place), scale: 0.5, element: tensor.element), of: id)
    }
    return graph
  }
}
