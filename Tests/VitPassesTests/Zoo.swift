import FoundationEssentials
import Testing
import VitFormats
import VitIR
import VitOps
import VitRuntime

/// Small models of many exporters with reference outputs, and files that must be refused, in the folder that the environment
/// variable `VITC_ZOO` names; without it the tests that need it are skipped.
enum Zoo {
  static let path = ProcessInfo.processInfo.environment["VITC_ZOO"]
  static let isThere = path != nil

  struct Model: Decodable, Sendable, CustomTestStringConvertible {
    struct Value: Decodable, Sendable { var npy: String }
    struct Run: Decodable, Sendable {
      var input: String
      var output: String
    }
    var file: String
    var inputs: [Value]
    var outputs: [Value]
    var tolerance: Double
    var output_scale: Double
    var expect: String
    var extra_runs: [Run]?
    var testDescription: String { file }
  }

  struct Bad: Decodable, Sendable, CustomTestStringConvertible {
    var file: String
    var what: String
    var expect: String
    var diagnostic_mentions: [String]?
    var input: String?
    var output: String?
    var testDescription: String { file }
  }

  private struct Models: Decodable { var models: [Model] }
  private struct Files: Decodable { var files: [Bad] }

  static func file(_ name: String) -> String { (path ?? "") + "/" + name }

  private static func decode<T: Decodable>(_ type: T.Type, _ name: String) -> T? {
    guard path != nil else { return nil }
    return try? JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: file(name))))
  }

  static let models: [Model] = decode(Models.self, "open/manifest.json")?.models ?? []
  static let bad: [Bad] = decode(Files.self, "bad/manifest.json")?.files ?? []

  static func read(_ name: String) throws -> OnnxImport { try read(path: file(name)) }

  static func read(path: String) throws -> OnnxImport {
    let folder = ConstantFolder(pool: SerialPool())
    return try OnnxReader.read(path: path, registry: .standard) { node, operands, results throws(VitError) in
      try folder.fold(node, operands, results)
    }
  }

  /// Runs a graph on tensors.
  static func run(_ graph: Graph, _ inputs: [Tensor]) throws -> [Tensor] {
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: inputs.map(\.shape), pool: ThreadPool())
    for (view, tensor) in zip(executor.inputs, inputs) {
      let buffer = UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount)
      try tensor.storage.withBytes { bytes in
        for index in 0..<tensor.count {
          buffer.store(bytes.loadNumber(at: index, as: tensor.element), at: index, as: view.element)
        }
      }
    }
    executor.run()
    return executor.outputs.map(Tensor.init(copying:))
  }

  /// The largest difference, in units of `scale`; infinite where a number is none.
  static func difference(_ a: Tensor, _ b: Tensor, scale: Double) throws -> Double {
    guard a.shape == b.shape else { return .infinity }
    return zip(try a.doubles(), try b.doubles()).reduce(0) { worst, pair in
      let difference = abs(pair.0 - pair.1) / scale
      return difference.isNaN ? .infinity : max(worst, difference)
    }
  }
}
