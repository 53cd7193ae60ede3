internal import Glibc
internal import VitData
internal import VitFormats
public import VitIR

/// The folder in which a team keeps the goldens of its models: a file `NAME.json` for the model `NAME.vmod`, wherever that lies.
public struct GoldenFolder: Sendable {
  /// The folder's path.
  public let path: String

  /// A folder, which need not be there yet.
  public init(_ path: String) {
    self.path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
  }

  /// Makes the folder where it is missing; throws where that cannot be.
  public func make() throws(VitError) {
    guard FileName.withBytes(of: path, { mkdir($0, 0o777) }) == 0 || errno == EEXIST else {
      throw VitError(
        "the folder cannot be made: \(String(cString: strerror(errno)))", kind: .environment,
        code: "not-writable", location: Location(file: path))
    }
  }

  /// The file that keeps the golden of the model at `model`.
  public func file(for model: String) -> String { "\(path)/\(GoldenFolder.stem(of: model)).json" }

  /// The goldens that lie here, sorted by name; other JSON files are passed over. Throws where there is none, or one is damaged.
  public func goldens() throws -> [(file: String, golden: Golden)] {
    let files = try Folder(path).files.filter { $0.hasSuffix(".json") }.map { "\(path)/\($0)" }
    let goldens = try files.filter { file in
      // Of another version it is a golden all the same, which is refused by name.
      if case .string(let schema)? = JSON(try JSONValue.read(file))["schema"] {
        schema.hasPrefix(Golden.anySchema)
      } else {
        false
      }
    }.map { ($0, try Golden(contentsOf: $0)) }
    guard !goldens.isEmpty else {
      throw VitError(
        "no goldens lie here", code: "golden-missing", location: Location(file: path),
        help: "'vitc golden init \(path) MODEL' makes one")
    }
    return goldens
  }

  /// The model's name without its folder and its ending.
  public static func stem(of model: String) -> String {
    let name = model.split(separator: "/").last.map(String.init) ?? model
    guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return name }
    return String(name[..<dot])
  }

  /// A path as a golden here names it: from this folder, the split of data behind it kept; made-up data as they are.
  public func reference(to path: String) -> String {
    let (file, split) = GoldenFolder.cut(path)
    guard !GoldenFolder.isSynthetic(path),
      let own = GoldenFolder.resolved(self.path) ?? GoldenFolder.absolute(self.path),
      let other = GoldenFolder.absolute(file)
    else { return path }
    let shared = zip(own, other).prefix { $0 == $1 }.count
    // What has nothing in common with this folder does not move along with it.
    if shared == 0, path.hasPrefix("/") { return path }
    let steps = Array(repeating: "..", count: own.count - shared) + other.dropFirst(shared)
    return steps.joined(separator: "/") + split
  }

  /// The path to what a golden here names, as short as it can be written.
  public func path(to reference: String) -> String {
    if GoldenFolder.isSynthetic(reference) || reference.hasPrefix("/") { return reference }
    let whole = "\(path)/\(reference)"
    var parts: [Substring] = []
    for part in whole.split(separator: "/") where part != "." {
      if part == "..", let last = parts.last, last != ".." { parts.removeLast() } else { parts.append(part) }
    }
    let short = (whole.hasPrefix("/") ? "/" : "") + parts.joined(separator: "/")
    // Through a link `..` leads elsewhere.
    return FileIdentity(GoldenFolder.cut(short).file) == FileIdentity(GoldenFolder.cut(whole).file)
      ? short : whole
  }

  /// Whether the data that a golden names are there.
  public static func isMissing(_ path: String) -> Bool {
    !isSynthetic(path) && FileIdentity.isMissing(cut(path).file)
  }

  private static func isSynthetic(_ path: String) -> Bool {
    path == "synthetic" || path.hasPrefix("synthetic:")
  }

  /// A name of data without the split behind it, and that.
  private static func cut(_ path: String) -> (file: String, split: String) {
    for split in [":train", ":test"] where path.hasSuffix(split) && FileIdentity.isMissing(path) {
      return (String(path.dropLast(split.count)), split)
    }
    return (path, "")
  }

  /// A path from the root. Links above the last part are followed, the last part is left as it is named: where a link leads may change.
  private static func absolute(_ path: String) -> [String]? {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    let slash = path.lastIndex(of: "/")
    let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    if ["", ".", ".."].contains(name) { return resolved(path) }
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    return resolved(folder).map { $0 + [name] }
  }

  private static func resolved(_ path: String) -> [String]? {
    guard let real = FileName.withBytes(of: path, { realpath($0, nil) }) else { return nil }
    defer { free(real) }
    return FileName.text(of: UnsafeRawBufferPointer(start: real, count: strlen(real)))
      .split(separator: "/").map(String.init)
  }
}
