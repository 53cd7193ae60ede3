import FoundationEssentials
import Testing
import VitFormats
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// What the manifest of the models says about their attention.
private struct Expected: Decodable, Sendable {
  struct Attention: Decodable, Sendable {
    var layers: Int
    var heads: [Int]
    var kind: String
    var other: [String]
  }
  var file: String
  var attention: Attention

  private struct Models: Decodable { var models: [Expected] }

  static let all: [String: Attention] = {
    guard Zoo.isThere,
      let data = try? Data(contentsOf: URL(fileURLWithPath: Zoo.file("open/manifest.json"))),
      let models = try? JSONDecoder().decode(Models.self, from: data).models
    else { return [:] }
    return Dictionary(uniqueKeysWithValues: models.map { ($0.file, $0.attention) })
  }()
}

@Suite(.enabled(if: Zoo.isThere, "VITC_ZOO names no folder of models"))
struct ZooRaiseTests {
  @Test(
    "a model gives its reference outputs when it is raised, its layers and heads are found",
    arguments: Zoo.models)
  func raised(_ model: Zoo.Model) throws {
    let original: Graph
    do { original = try Zoo.read("open/" + model.file).graph } catch {
      #expect(model.expect.contains("diagnostic"), "\(error)")
      return
    }
    let sites = try apply("fold,raise,dce", to: Hybrid(original))
    let graph = sites.graph
    let expected = try #require(Expected.all[model.file])
    #expect(sites.layers.map(\.heads) == expected.heads)
    #expect(sites.layers.count == expected.layers)
    #expect(sites.others.count >= expected.other.count)
    #expect(sites.layers.map(\.index) == Array(0..<sites.layers.count))
    if ["window", "talking heads"].contains(expected.kind) {
      #expect(sites.layers.allSatisfy { !$0.isReplaceable })
    }
    var runs = [(model.inputs.map(\.npy), model.outputs.map(\.npy))]
    for run in model.extra_runs ?? [] { runs.append(([run.input], [run.output])) }
    for (inputs, outputs) in runs {
      let results = try Zoo.run(graph, try inputs.map { try read($0) })
      #expect(results.count >= outputs.count)
      for (result, name) in zip(results, outputs) {
        let difference = try Zoo.difference(result, try read(name), scale: model.output_scale)
        #expect(difference <= model.tolerance, "\(name)")
      }
    }
  }

  private func read(_ name: String) throws -> Tensor { try NPY.read(Zoo.file("open/" + name)) }
}
