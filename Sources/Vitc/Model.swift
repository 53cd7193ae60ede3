internal import VitFormats
public import VitIR
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

  /// What it computes, and its layers with what was found out and decided about them.
  public var hybrid: Hybrid {
    get { contents.hybrid }
    set { contents.hybrid = newValue }
  }
  /// What it computes.
  public var graph: Graph { contents.graph }
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
  /// The graph, and what a `.vmod` holds beside it.
  var contents: VModFile

  /// Reads a model, whose format its contents tell.
  ///
  /// An ONNX model is folded and raised to vitc's operations, unless `raising` is false; where the raised form does not
  /// compute the same on a random input, the unraised one is taken, with a warning. Throws for a file that is missing,
  /// malformed or not supported.
  public init(contentsOf path: String, raising: Bool = true, threads: Int? = nil) throws {
    do {
      var reader = ModelReader(path: path, pool: ThreadPool(threads: threads))
      self = try reader.read(raising: raising)
    } catch let error as VitError { throw error.at(Location(file: path)) }
  }

  /// A model that an embedder has made.
  public init(_ graph: Graph) {
    self.init(
      VModFile(Hybrid(finding: graph)), path: nil, format: .text, files: [], byteCount: 0, diagnostics: [])
  }

  init(
    _ contents: VModFile, path: String?, format: Format, files: [String], byteCount: Int,
    diagnostics: [Diagnostic]
  ) {
    self.contents = contents
    self.path = path
    self.format = format
    self.files = files
    self.byteCount = byteCount
    self.diagnostics = diagnostics
  }

  /// Writes the model: as textual IR, its tensors in a file beside it unless they are elided, or as `.vmod`.
  ///
  /// Unless a format is given, a name that ends in `.vit` asks for the text. The file appears whole or not at all.
  public func write(to path: String, as format: Format? = nil, elidingTensors: Bool = false) throws {
    switch format ?? (path.hasSuffix(".vit") ? .text : .vmod) {
    case .text: try VitText.write(hybrid, to: path, elidingTensors: elidingTensors)
    case .vmod: try VModWriter.write(contents, to: path)
    case .onnx: throw VitError("models are not written as ONNX", kind: .usage, code: "no-onnx-writer")
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
    contents.labels.isEmpty ? (try? ImageInput(self))?.labels : contents.labels
  }

  /// Where the model comes from, by key: digests, the resolved pipeline, the seed, versions.
  public var lineage: [(key: String, value: String)] { contents.lineage }

  /// How images become inputs, as text, where the model says so.
  public var preprocessing: String? {
    contents.preprocessing.isEmpty
      ? nil : contents.preprocessing.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
  }
}
