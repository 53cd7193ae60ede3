import FoundationEssentials
import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite(.enabled(if: Zoo.isThere, "VITC_ZOO names no folder of models"))
struct OnnxZooTests {
  /// Models that the manifest asks to be refused, and what the refusal says.
  private static let refused = ["plain_loop_if_ts17.onnx": ["Loop", "control flow"]]

  @Test("a model gives what ONNX Runtime gives", arguments: Zoo.models)
  func modelMatchesReference(_ model: Zoo.Model) throws {
    if let words = Self.refused[model.file] {
      let error = #expect(throws: VitError.self) { try Zoo.read("open/" + model.file) }
      for word in words {
        #expect(error?.diagnostic.text.contains(word) == true, "\(error?.diagnostic.text ?? "")")
      }
      return
    }
    let graph = try Zoo.read("open/" + model.file).graph
    func check(_ inputs: [String], _ outputs: [String]) throws {
      let results = try Zoo.run(graph, inputs.map { try NPY.read(Zoo.file("open/" + $0)) })
      #expect(results.count == outputs.count)
      for (result, name) in zip(results, outputs) {
        let wanted = try NPY.read(Zoo.file("open/" + name))
        let difference = try Zoo.difference(result, wanted, scale: model.output_scale)
        #expect(difference <= model.tolerance, "\(name)")
        if ProcessInfo.processInfo.environment["VITC_ZOO_TABLE"] != nil { print("\(name): \(difference)") }
      }
    }
    try check(model.inputs.map(\.npy), model.outputs.map(\.npy))
    for run in model.extra_runs ?? [] { try check([run.input], [run.output]) }
  }

  @Test("a malformed, hostile or unsupported file is refused in words that help", arguments: Zoo.bad)
  func badFileIsRefused(_ bad: Zoo.Bad) throws {
    var messages: [String] = []
    do {
      let model = try Zoo.read("bad/" + bad.file)
      messages = model.diagnostics.map(\.text)
      let input = try NPY.read(Zoo.file("bad/" + (bad.input ?? "base_valid.input.npy")))
      let results = try Zoo.run(model.graph, [input])
      #expect(bad.expect != "error", "\(bad.what)")
      if let output = bad.output {
        let wanted = try NPY.read(Zoo.file("bad/" + output))
        #expect(try Zoo.difference(results[0], wanted, scale: 1) < 1e-4)
        return
      }
    } catch let error as VitError {
      messages.append(error.diagnostic.text)
      #expect(bad.expect != "valid", "\(error.diagnostic.text)")
      #expect(error.kind == .input)
      #expect(error.diagnostic.location.file != nil)
    }
    let text = messages.joined(separator: "\n")
    if ProcessInfo.processInfo.environment["VITC_ZOO_TABLE"] != nil { print("\(bad.file): \(text)") }
    // A file that may be imported or refused needs no words where it is imported with the right meaning.
    let mentions = bad.expect == "either" && text.isEmpty ? [] : bad.diagnostic_mentions ?? []
    for word in mentions {
      #expect(
        text.contains(word) || (word == "link" && text.contains("cannot be opened")), "\(word) in: \(text)")
    }
  }
}
