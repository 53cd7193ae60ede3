public import VitIR

/// The textual IR in files: `x.vit`, and its tensors in `x.vit.tensors`, which the text names by digest.
public enum VitText {
  /// The most bytes of a text.
  public static let maximumSize = 256 << 20

  /// Whether a file that begins with these bytes may be textual IR: blanks and comments, then `graph` or `version` and a
  /// number.
  ///
  /// A prefix that ends in a comment counts as text.
  public static func recognises(_ prefix: [UInt8]) -> Bool {
    var rest = prefix[...]
    while true {
      rest = rest.drop { [0x20, 0x09, 0x0a, 0x0d].contains($0) }
      guard rest.starts(with: "//".utf8) else { break }
      rest = rest.drop { $0 != 0x0a }
      if rest.isEmpty { return true }
    }
    if rest.starts(with: "version".utf8) {
      // A pointer of Git LFS begins with that word, too.
      rest = rest.dropFirst(7).drop { [0x20, 0x09].contains($0) }
      return rest.first.map { (0x30...0x39).contains($0) } ?? false
    }
    return rest.starts(with: "graph".utf8)
  }

  /// Writes a model with its layers as text to `path`, and the tensors that do not stand in it to `path` with
  /// `.tensors` behind.
  ///
  /// With `elidingTensors` there is only the text. The tensors appear first, so that a text never names what
  /// is not there.
  public static func write(
    _ hybrid: Hybrid, to path: String, elidingTensors: Bool = false, options: TextOptions = TextOptions()
  ) throws {
    try hybrid.checkInvariants()
    var options = options
    options.version = TextOptions.currentVersion
    options.tensorsDigest =
      elidingTensors ? nil : try writeTensors(of: hybrid.graph, to: path + suffix, options)
    try AtomicFile.write(Array(try hybrid.text(options).utf8), to: path)
  }

  /// Reads a model; its tensors come from the file that the text names, or are elided where it names none.
  public static func read(
    path: String, registry: Registry, fold: GraphBuilder.Fold? = nil
  ) throws(VitError) -> Hybrid {
    try read(MappedFile(path: path), registry: registry, fold: fold)
  }

  /// Reads a model whose text is open; one that lies in memory has no file of tensors beside it.
  public static func read(
    _ file: MappedFile, registry: Registry, fold: GraphBuilder.Fold? = nil
  ) throws(VitError) -> Hybrid {
    let bytes = try file.contents(limit: maximumSize)
    return try Hybrid(text: bytes, file: file.path, registry: registry, fold: fold) {
      digest throws(VitError) in
      guard !file.isInMemory else {
        throw VitError(
          "the text names tensors, and it lies in memory, with no file beside it", code: "missing-file",
          help: "delete the line 'tensors …' to read the text without them")
      }
      return try readTensors(path: file.path + suffix, digest: digest)
    }
  }

  /// What stands behind the name of a text in that of the file of its tensors.
  public static let suffix = ".tensors"

  /// The file that the tensors of `graph` are in, which was read from the text at `path`; `nil` where the text stands alone.
  public static func tensorsPath(of path: String, read graph: Graph) -> String? {
    let isApart = graph.tensors.names.contains { graph.tensors[$0]?.storage is FrameStorage }
    return isApart ? path + suffix : nil
  }

  /// Writes the tensors that are not written out in the text; returns the digest to name, or `nil` where
  /// there are none.
  private static func writeTensors(of graph: Graph, to path: String, _ options: TextOptions) throws -> String?
  {
    let tensors = graph.tensors.names.compactMap { name in
      graph.tensors[name].map { (name: name, tensor: $0) }
    }
    .filter { !options.inlines($0.tensor) }
    if tensors.isEmpty { return nil }
    var records = tensors.map(TensorRecord.init)
    let digest = try Container.write(
      to: path, .tensors, manifestSize: Manifest.packed(tensors: records).count,
      tensors: tensors.map(\.tensor)
    ) { digests in
      for (index, digest) in digests.enumerated() { records[index].digest = digest.bytes }
      return Manifest.packed(tensors: records)
    }
    return "sha256:\(digest)"
  }

  private static func readTensors(path: String, digest: String) throws(VitError) -> TensorTable {
    let container: Container
    do throws(VitError) { container = try Container(path: path, .tensors) } catch {
      guard error.diagnostic.code == "missing-file" else { throw error }
      throw VitError(
        "the text names tensors, but there is no file '\(path)'", code: "missing-file",
        help: "delete the line 'tensors …' to read the text without them")
    }
    let found = "sha256:\(container.digest)"
    guard found == digest else {
      throw VitError(
        "the text names the tensors '\(digest)', but '\(path)' holds '\(found)'", code: "digest-mismatch")
    }
    let location = Location(file: path)
    do throws(VitError) {
      let records = try Manifest.tensors(
        unpacking: container.manifest, version: container.header.version)
      var table = TensorTable()
      for (record, tensor) in zip(records, try container.tensors(records)) { table[record.name] = tensor }
      return table
    } catch { throw error.at(location) }
  }
}
