internal import VitData
internal import Synchronization
internal import VitFormats
public import VitIR
internal import VitPasses
internal import VitRuntime

/// A vision transformer, or what vitc has made of one.
public struct Model: Sendable {
  /// How a file holds a model.
  public enum Format: String, Sendable {
    /// An ONNX file.
    case onnx
    /// vitc's own container.
    case vmod
    /// The textual IR.
    case text
  }

  /// How its inputs are made and what its outputs mean.
  struct Card: Sendable {
    /// How images become inputs, by key.
    var preprocessing: [(key: String, value: String)] = []
    /// The names of the classes, in order.
    var labels: [String] = []
  }

  /// Where it comes from, and what was found out about it on the way.
  struct Origin: Sendable {
    /// Digests of teacher and data, the resolved pipeline, seed and versions, by key.
    var lineage: [(key: String, value: String)] = []
    /// Inputs with expected outputs.
    var probes: [Probe] = []
    /// The compile's report without times, as JSON.
    var report: String?
    /// What was timed, as JSON.
    var measurements: String?
  }

  /// What it computes, and its layers with what was found out and decided about them.
  public internal(set) var hybrid: Hybrid {
    // Another graph has other weights.
    didSet { shared = SharedWeights() }
  }
  /// What it computes.
  public var graph: Graph { hybrid.graph }
  /// The file it came from, where there is one.
  public let path: String?
  /// How that file holds it.
  public let format: Format
  /// All files that were read for it: the model first, then its external data, or the tensors of a text.
  public let files: [String]
  /// The bytes of these files.
  public let byteCount: Int
  /// What a user should know about it: warnings and notes of reading it.
  public internal(set) var diagnostics: [Diagnostic]
  /// A weight that is no number.
  public struct NonFinite: Hashable, Sendable {
    /// The tensor's name.
    public let tensor: String
    /// `NaN` or `infinity`.
    public let number: String
    /// What is wrong, in words.
    public var message: String { "tensor '\(tensor)' holds \(number)" }
  }

  /// The weights of the file that are no numbers, of which the diagnostics warn.
  public internal(set) var nonFiniteWeights: [NonFinite] = []
  /// What was said of its inputs when it was read.
  var inputShapes: [String] = []
  /// How its inputs are made and what its outputs mean, where the model itself says so.
  var card = Card()
  /// Where it comes from.
  var origin = Origin()
  private var shared = SharedWeights()

  /// Reads a model, whose format its contents tell.
  ///
  /// An ONNX model is folded and raised to vitc's operations, unless `raising` is false; where the raised form does not
  /// compute the same on a random input, the unraised one is taken, with a warning. `inputShapes` say what an ONNX file leaves
  /// open, each as `NAME=batch,3,224,224`. Throws for a file that is missing, malformed or not supported.
  public init(
    contentsOf path: String, raising: Bool = true, inputShapes: [String] = [], threads: Int? = nil
  ) throws {
    do {
      self = try Model.read(MappedFile(path: path), raising, inputShapes, threads)
    } catch let error as VitError { throw error.at(Location(file: path)) }
  }

  /// Reads a model that lies in memory, as a file would hold it; the bytes are copied.
  ///
  /// Nothing lies beside it: external data of an ONNX file and what says there how images are prepared are not found. Messages call it
  /// `name`. Throws as `init(contentsOf:)` does.
  public init(
    bytes: UnsafeRawBufferPointer, named name: String = "model", raising: Bool = true,
    inputShapes: [String] = [], threads: Int? = nil
  ) throws {
    do {
      self = try Model.read(MappedFile(copying: bytes, named: name), raising, inputShapes, threads)
    } catch let error as VitError { throw error.at(Location(file: name)) }
  }

  private static func read(
    _ file: MappedFile, _ raising: Bool, _ inputShapes: [String], _ threads: Int?, dequantising: Bool = false
  ) throws -> Model {
    var reader = ModelReader(
      file, inputShapes: try inputShapes.map { text throws(VitError) in try InputShape(text) },
      pool: ThreadPool.shared(threads: threads))
    var model = try reader.read(raising: raising, dequantising: dequantising)
    model.inputShapes = inputShapes
    return model
  }

  /// The model with all that is quantised in it as floats, in which layers are looked for and replaced; a diagnostic
  /// with the code `dequantised` says so. `nil` where nothing is quantised.
  public func inFloats(threads: Int? = nil) throws -> Model? {
    if graph.hasWeightsInFewerBits {
      var result = try computing(in: .f32)
      result.diagnostics = [.widenedWeights]
      return result
    }
    guard graph.isQuantised, let path else { return nil }
    let result = try Model.read(MappedFile(path: path), true, inputShapes, threads, dequantising: true)
    return result.diagnostics.contains { $0.code == "dequantised" } ? result : nil
  }

  /// A model that an embedder has made.
  public init(_ graph: Graph) {
    self.init(Hybrid(finding: graph), card: Card(), origin: Origin())
  }

  /// A model that no file holds.
  init(_ hybrid: Hybrid, card: Card, origin: Origin) {
    self.hybrid = hybrid
    self.card = card
    self.origin = origin
    (path, format, files, byteCount, diagnostics) = (nil, .text, [], 0, [])
  }

  /// A model that was read.
  init(
    _ contents: VModFile, path: String?, format: Format, files: [String], byteCount: Int,
    diagnostics: [Diagnostic]
  ) {
    hybrid = contents.hybrid
    card = Card(preprocessing: contents.preprocessing, labels: contents.labels)
    origin = Origin(
      lineage: contents.lineage, probes: contents.probes, report: contents.report,
      measurements: contents.measurements)
    self.path = path
    self.format = format
    self.files = files
    self.byteCount = byteCount
    self.diagnostics = diagnostics
  }

  /// What a `.vmod` holds of it.
  var file: VModFile {
    var file = VModFile(hybrid)
    (file.preprocessing, file.labels) = (card.preprocessing, card.labels)
    (file.lineage, file.probes) = (origin.lineage, origin.probes)
    (file.report, file.measurements) = (origin.report, origin.measurements)
    return file
  }

  /// The weights that all sessions of this model and of its copies share, for as long as there is one.
  func weights() throws -> WeightStore { try shared.store(of: graph) }

  /// Writes the model: as textual IR, its tensors in a file beside it unless they are elided, or as `.vmod`.
  ///
  /// Unless a format is given, a name that ends in `.vit` asks for the text. The file appears whole or not at all:
  /// not where a `.vmod` would have more than `most` bytes.
  public func write(
    to path: String, as format: Format? = nil, elidingTensors: Bool = false, atMost most: Int = .max
  ) throws {
    switch format ?? (path.hasSuffix(".vit") ? .text : .vmod) {
    case .text: try VitText.write(hybrid, to: path, elidingTensors: elidingTensors)
    case .vmod: try VModWriter.write(file, to: path, atMost: most)
    case .onnx: try writeONNX(to: path)
    }
  }

  /// Where the tensors of a textual IR at `path` go.
  public static func tensorsPath(of path: String) -> String { path + VitText.suffix }

  /// Throws where a file cannot be written at `path`; leaves nothing behind.
  public static func checkWritable(_ path: String) throws { _ = try AtomicFile(path: path) }

  /// The extents of the inputs for a batch of `batch` samples.
  ///
  /// Symbols other than the batch (an image size that the model leaves open) get the first of some usual sizes that the
  /// model's type rules accept. Throws where none does, naming the node that refuses the last one.
  public func inputShapes(batch: Int = 1) throws -> [[Int]] { try ModelShapes(graph).shapes(batch: batch) }

  /// The symbol that stands for the number of samples, or `nil` where that number is fixed.
  public var batchSymbol: String? { ModelShapes(graph).batchSymbol }

  /// The names of the classes, in the order of the outputs, where the model or a file beside it says so.
  public var labels: [String]? {
    card.labels.isEmpty ? (try? ImageInput(self))?.labels : card.labels
  }

  /// How its input holds samples, where that is not as planes of pictures that an axis counts; `nil` else.
  public var inputForm: String? {
    guard let input = try? ImageInput(self) else { return nil }
    let kind =
      input.preprocess == nil ? "arrays" : input.isChannelsLast ? "images, channels last" : nil
    let parts = [kind, input.isSingle ? "one sample" : nil].compactMap { $0 }
    return parts.isEmpty ? nil : parts.joined(separator: ", ")
  }

  /// Where the model comes from, by key: digests, the resolved pipeline, the seed, versions.
  public var lineage: [(key: String, value: String)] { origin.lineage }

  /// What was measured when it was compiled (`schemas/report.schema.json`; without times where they were left out); `nil` where
  /// nothing was, or what a file holds is no JSON.
  public var report: JSON? {
    guard let text = origin.measurements ?? origin.report else { return nil }
    return (try? JSONValue(parsing: Array(text.utf8))).map(JSON.init)
  }

  /// How images become inputs, as text, where the model or a file beside it says so.
  public var preprocessing: String? {
    guard card.preprocessing.isEmpty else {
      return card.preprocessing.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    }
    guard let input = try? ImageInput(self), !input.isGuessed else { return nil }
    return input.preprocess?.text
  }
}

/// A store of weights that is made when a session first asks for it, and lives as long as one does.
private final class SharedWeights: Sendable {
  private struct Reference {
    weak var store: WeightStore?
  }
  private let reference = Mutex(Reference())

  func store(of graph: Graph) throws -> WeightStore {
    try reference.withLock { reference in
      if let store = reference.store { return store }
      let store = try WeightStore(graph)
      reference.store = store
      return store
    }
  }
}
