internal import FoundationEssentials
public import VitFormats
public import VitIR
internal import VitOps
internal import VitPasses
internal import VitRuntime

/// Small models of many exporters with reference outputs, and files that must be refused, in the folder that the environment
/// variable `VITC_ZOO` names; without it the tests that need it are skipped.
public enum Zoo {
  /// The folder.
  public static let path = ProcessInfo.processInfo.environment["VITC_ZOO"]
  /// Whether there is one.
  public static let isThere = path != nil

  /// A model that must run, as the manifest describes it.
  public struct Model: Decodable, Sendable, CustomStringConvertible {
    /// An input or output.
    public struct Value: Decodable, Sendable {
      /// The file with its reference numbers.
      public var npy: String
    }
    /// A further pair of input and output.
    public struct Run: Decodable, Sendable {
      /// The file with the input.
      public var input: String
      /// The file with the output.
      public var output: String
    }
    /// The file's name in `open`.
    public var file: String
    /// The inputs.
    public var inputs: [Value]
    /// The outputs.
    public var outputs: [Value]
    /// The difference allowed, in units of `output_scale`.
    public var tolerance: Double
    /// The largest magnitude of the output, at least 1.
    public var output_scale: Double
    /// What is expected of an importer.
    public var expect: String
    /// Other shapes to run.
    public var extra_runs: [Run]?
    /// The file's name.
    public var description: String { file }
  }

  /// A file that is malformed, hostile or strange, as the manifest describes it.
  public struct Bad: Decodable, Sendable, CustomStringConvertible {
    /// The file's name in `bad`.
    public var file: String
    /// What is wrong with it.
    public var what: String
    /// `error`, `valid` or `either`.
    public var expect: String
    /// Words that a good message has.
    public var diagnostic_mentions: [String]?
    /// The file with an input, where the model is valid.
    public var input: String?
    /// The file with the output for it.
    public var output: String?
    /// The file's name.
    public var description: String { file }
  }

  private struct Models: Decodable { var models: [Model] }
  private struct Files: Decodable { var files: [Bad] }

  /// The path of a file of the zoo.
  public static func file(_ name: String) -> String { (path ?? "") + "/" + name }

  private static func decode<T: Decodable>(_ type: T.Type, _ name: String) -> T? {
    guard path != nil else { return nil }
    return try? JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: file(name))))
  }

  /// The models that must run.
  public static let models: [Model] = decode(Models.self, "open/manifest.json")?.models ?? []
  /// The files that are bad.
  public static let bad: [Bad] = decode(Files.self, "bad/manifest.json")?.files ?? []

  /// Reads a model of the zoo.
  public static func read(_ name: String) throws -> OnnxImport { try read(path: file(name)) }

  /// Reads a model with every operation, folding constants, and opens its batch.
  public static func read(path: String) throws -> OnnxImport {
    let folder = ConstantFolder(pool: SerialPool())
    var model = try OnnxReader.read(path: path, registry: .standard, fold: folder.fold)
    let context = PassContext(pool: SerialPool(), registry: .standard)
    var notes: [Diagnostic] = []
    context.report = { notes.append($0) }
    _ = try OpenBatch().run(on: &model.graph, context: context)
    model.diagnostics += notes
    return model
  }

  /// Runs a graph on tensors.
  public static func run(_ graph: Graph, _ inputs: [Tensor]) throws -> [Tensor] {
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
    return try executor.outputs.map(Tensor.init(copying:))
  }

  /// The largest difference, in units of `scale`; infinite where a number is none.
  public static func difference(_ a: Tensor, _ b: Tensor, scale: Double) throws -> Double {
    guard a.shape == b.shape else { return .infinity }
    return zip(try a.doubles(), try b.doubles()).reduce(0) { worst, pair in
      let difference = abs(pair.0 - pair.1) / scale
      return difference.isNaN ? .infinity : max(worst, difference)
    }
  }
}
