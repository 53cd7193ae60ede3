public import VitIR

/// What an ONNX file has become.
public struct OnnxImport: Sendable {
  /// The model, in the operations of ONNX.
  public var graph: Graph
  /// What the user should know about it: warnings and notes.
  public var diagnostics: [Diagnostic]
  /// The files beside the model that hold some of its tensors, in the order of first use.
  public var externalFiles: [String]
  /// What the file says of the model beside, by key.
  public var metadata: [(key: String, value: String)] = []
}

/// Reads ONNX files.
///
/// Every byte of the file is taken to be hostile: whatever it says is checked before memory is spent on it, no file outside of
/// the model's folder is opened, and what is malformed or not supported is an error that names it. Tensors stay ranges of the
/// mapped file.
public enum OnnxReader {
  /// Reads the model at `path` into operations of `registry`.
  ///
  /// `fold` computes what follows from constants alone where a shape depends on it (`ConstantFolder.fold`); `inputShapes` say
  /// what the file leaves open.
  /// Throws a `VitError` of the kind `.input` whose location has the file and, where there is one, the node.
  public static func read(
    path: String, registry: Registry, fold: GraphBuilder.Fold? = nil, inputShapes: [InputShape] = []
  ) throws -> OnnxImport {
    try read(MappedFile(path: path), registry: registry, fold: fold, inputShapes: inputShapes)
  }

  /// Reads a model whose file is open.
  public static func read(
    _ file: MappedFile, registry: Registry, fold: GraphBuilder.Fold? = nil, inputShapes: [InputShape] = []
  ) throws -> OnnxImport {
    let (path, location) = (file.path, Location(file: file.path))
    do {
      let external = ExternalData(besideModel: file.isInMemory ? nil : path)
      var decoder = OnnxDecoder(tensors: TensorDecoder(file: file, external: external))
      try file.withBytes { bytes in try decode(bytes, with: &decoder) }
      var result = try OnnxModelImporter(
        decoder.model, path: path, registry: registry, fold: fold, given: inputShapes
      ).read()
      if let text = decoder.repaired {
        result.diagnostics.append(
          Diagnostic(.warning, "the name '\(text)' is no UTF-8, its bytes are escaped", code: "bad-text"))
      }
      for index in result.diagnostics.indices {
        result.diagnostics[index].location = result.diagnostics[index].location.filled(from: location)
      }
      (result.externalFiles, result.metadata) = (external.paths, decoder.model.metadata)
      return result
    } catch let error as VitError { throw error.at(location) }
  }

  private static func decode(_ bytes: UnsafeRawBufferPointer, with decoder: inout OnnxDecoder)
    throws(VitError)
  {
    guard !bytes.isEmpty else { throw VitError("the file is empty", code: "not-onnx") }
    if let format = knownFormat(bytes) {
      throw VitError(
        "not an ONNX model: the file is \(format.name)", code: "not-onnx", help: format.help)
    }
    try decoder.decodeModel(WireReader(bytes, message: "ModelProto", budget: MessageBudget()))
  }

  /// Formats that are handed to vitc by mistake.
  private static func knownFormat(_ bytes: UnsafeRawBufferPointer) -> (name: String, help: String?)? {
    let export = "export it with torch.onnx.export"
    let formats: [(offset: Int, magic: [UInt8], name: String, help: String?)] = [
      (0, [0x50, 0x4b, 3, 4], "a ZIP archive, perhaps a PyTorch checkpoint", export),
      (0, [0x80, 2], "a Python pickle, perhaps a PyTorch checkpoint", export),
      (0, [0xff, 0xd8, 0xff], "a JPEG image", nil),
      (0, [0x89, 0x50, 0x4e, 0x47], "a PNG image", nil),
      (0, [0x1f, 0x8b], "compressed with gzip", "decompress it"),
      (0, [0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd", "decompress it"),
      (0, Array("GGUF".utf8), "a GGUF model", nil),
      (0, [0x89, 0x48, 0x44, 0x46], "an HDF5 file, perhaps of Keras", nil),
      (0, [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59], "a NumPy array", nil),
      (
        0, Array("version https://git-lfs".utf8), "a pointer of Git LFS", "fetch the file with 'git lfs pull'"
      ),
      (
        4, Array("ORTM".utf8), "an ONNX Runtime model in its own format",
        "use the .onnx file that it was made from"
      ),
      (4, Array("TFL3".utf8), "a TensorFlow Lite model", nil),
    ]
    for format in formats where bytes.count >= format.offset + format.magic.count {
      if zip(bytes[format.offset...], format.magic).allSatisfy(==) { return (format.name, format.help) }
    }
    return nil
  }
}
