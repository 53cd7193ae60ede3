internal import Glibc
internal import VitIR

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

  /// A card that says nothing.
  public init() {}

  /// Reads what lies beside the model at `path`: `NAME.preprocessor_config.json` (`NAME` without its extension), or
  /// else `preprocessor_config.json` in the model's folder, of Hugging Face; then `config.json` in the folder, of timm
  /// or Hugging Face, for what is still unknown.
  ///
  /// Throws where one of these files is malformed or asks for something that vitc does not do.
  public init(besideModel path: String) throws {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let folder = slash.map { String(path[...$0]) } ?? ""
    let name = path[folder.endIndex...]
    let stem = name.lastIndex(of: ".").map { $0 > name.startIndex ? name[..<$0] : name } ?? name
    for (file, isOwn) in [
      (folder + stem + ".preprocessor_config.json", true), (folder + "preprocessor_config.json", true),
      (folder + "config.json", false),
    ] where access(file, F_OK) == 0 {
      if isOwn, preprocess != nil { continue }
      let json = try JSONValue.read(file)
      consulted.append(file)
      let found: Preprocess?
      do throws(VitError) {
        found = isOwn ? try HuggingFaceConfig(json).preprocess : try TimmConfig(json)?.preprocess
      } catch { throw error.at(Location(file: file)) }
      let names = ModelCard.labels(json)
      guard found != nil || names != nil else { continue }
      preprocess = preprocess ?? found
      labels = labels ?? names
      files.append(file)
    }
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
