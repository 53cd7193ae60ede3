internal import Glibc
public import VitIR

/// What lies beside a model: how its images are prepared, and what its classes are called.
public struct ModelCard: Sendable {
  /// How images are prepared, where a file says so.
  public var preprocess: Preprocess?
  /// The names of the classes, in the order of the logits, where a file says so.
  public var labels: [String]?
  /// The files that said something.
  public var files: [String] = []
  /// All files that were read.
  public var consulted: [String] = []
  /// The file that says how images are prepared.
  public var preprocessFile: String?
  /// What the user should know of these files.
  public var warnings: [Diagnostic] = []

  /// A card that says nothing.
  public init() {}

  /// Reads what lies beside the model at `path`: `NAME.preprocessor_config.json` (`NAME` without its extension),
  /// `preprocessor_config.json` or `processor_config.json` (the image processor in it) of Hugging Face, whichever comes first;
  /// then `config.json`, of timm or Hugging Face, for what is still unknown. A model in a folder `onnx` has its files there or
  /// in the folder above.
  ///
  /// Throws where one of these files is malformed or asks for something that vitc does not do.
  public init(besideModel path: String) throws {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let folder = slash.map { String(path[...$0]) } ?? ""
    let name = path[folder.endIndex...]
    let stem = name.lastIndex(of: ".").map { $0 > name.startIndex ? name[..<$0] : name } ?? name
    var files = [(folder + stem + ".preprocessor_config.json", Kind.processor)]
    for place in [folder] + (ModelCard.folderAbove(folder).map { [$0] } ?? []) {
      files += [
        (place + "preprocessor_config.json", .processor), (place + "processor_config.json", .nested),
        (place + "config.json", .model),
      ]
    }
    for (file, kind) in files where FileName.withBytes(of: file, { access($0, F_OK) }) == 0 {
      if kind != .model, preprocess != nil { continue }
      let json = try JSONValue.read(file)
      consulted.append(file)
      let found: Preprocess?
      do throws(VitError) { found = try read(json, kind, file) } catch {
        throw error.at(Location(file: file))
      }
      let names = ModelCard.labels(json)
      guard found != nil || names != nil else { continue }
      if preprocess == nil, let found { (preprocess, preprocessFile) = (found, file) }
      labels = labels ?? names
      self.files.append(file)
    }
  }

  /// What a file is.
  private enum Kind {
    case processor
    /// A processor of several kinds of inputs, the image processor in it.
    case nested
    case model
  }

  private mutating func read(_ json: JSONValue, _ kind: Kind, _ file: String) throws(VitError) -> Preprocess?
  {
    var own = json
    switch kind {
    case .model: return preprocess == nil ? try TimmConfig(json)?.preprocess : nil
    case .processor: break
    case .nested:
      guard let inner = json["image_processor"] else { return nil }
      own = inner
    }
    let config = try HuggingFaceConfig(own)
    warnings += config.warnings.map { warning in
      var warning = warning
      warning.location = Location(file: file)
      return warning
    }
    return config.preprocess
  }

  /// The folder above one that is called `onnx`.
  private static func folderAbove(_ folder: String) -> String? {
    guard let resolved = FileName.withBytes(of: folder.isEmpty ? "." : folder, { realpath($0, nil) }) else {
      return nil
    }
    defer { free(resolved) }
    guard String(cString: resolved).hasSuffix("/onnx") else { return nil }
    return folder.hasSuffix("onnx/") ? String(folder.dropLast("onnx/".count)) : folder + "../"
  }

  /// The names of classes in any of the forms that are about; `nil` for those that transformers makes up (`LABEL_0`).
  private static func labels(_ json: JSONValue) -> [String]? {
    if let names = json["labels"]?.texts ?? json["label_names"]?.texts { return names.isEmpty ? nil : names }
    guard case .table(let table)? = json["id2label"], !table.isEmpty else { return nil }
    var names: [String] = []
    for index in 0..<table.count {
      guard let name = table["\(index)"]?.text else { return nil }
      names.append(name)
    }
    return names.indices.allSatisfy { names[$0] == "LABEL_\($0)" } ? nil : names
  }
}
