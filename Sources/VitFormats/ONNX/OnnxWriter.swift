internal import VitIR

/// Writes ONNX files. Where the constants are too many for one, they go into a second beside it.
///
/// A file appears whole or not at all; the second is in place before the first. The same model gives the same bytes.
public struct OnnxWriter {
  private let file: OnnxFile
  private let path: String
  /// Whether constants go into a second file.
  private let isSplit: Bool

  /// The most bytes of one file: what readers of the format take.
  public static let maximum = 2_000_000_000
  /// Where constants of a split model start.
  private static let alignment = 4096
  /// Constants of fewer bytes stay in the first file.
  private static let least = 1024

  /// A writer of `file` to `path`; `splitting` puts constants into a second file, whatever their size.
  public init(_ file: OnnxFile, to path: String, splitting: Bool = false) {
    (self.file, self.path) = (file, path)
    isSplit = splitting || file.initializers.reduce(0) { $0 + $1.byteCount } > OnnxWriter.maximum
  }

  /// The file that holds the constants, where they are in one of their own.
  public static func dataPath(of path: String) -> String { path + ".data" }

  /// Writes; gives the files that were written. Throws where one cannot be, or a tensor's source is damaged.
  @discardableResult
  public func write() throws -> [String] {
    var (places, end): ([String: Int], Int) = ([:], 0)
    if isSplit {
      for constant in file.initializers where constant.byteCount >= OnnxWriter.least {
        end = (end + OnnxWriter.alignment - 1) / OnnxWriter.alignment * OnnxWriter.alignment
        places[constant.name] = end
        end += constant.byteCount
      }
    }
    let model = try message(places)
    guard model.count <= OnnxWriter.maximum else {
      throw VitError(
        "the graph takes \(model.count) bytes, more than an ONNX file may", code: "file-too-large")
    }
    var written: [String] = []
    if isSplit {
      let path = OnnxWriter.dataPath(of: path)
      var data = try AtomicFile(path: path)
      for constant in file.initializers {
        guard let place = places[constant.name] else { continue }
        try data.write([UInt8](repeating: 0, count: place - data.count))
        try data.write(constant.tensor, as: constant.element)
      }
      try data.commit()
      written.append(path)
    }
    var output = try AtomicFile(path: path)
    try model.write(to: &output)
    try output.commit()
    return [path] + written
  }

  private func message(_ places: [String: Int]) throws(VitError) -> WireWriter {
    var model = WireWriter()
    model.int(1, file.formatVersion)
    model.text(2, file.producer)
    model.text(3, file.version)
    try model.message(7) { graph throws(VitError) in try write(places, to: &graph) }
    try model.message(8) { set throws(VitError) in
      set.text(1, "")
      set.int(2, file.opset)
    }
    for (key, value) in file.metadata {
      try model.message(14) { entry throws(VitError) in
        entry.text(1, key)
        entry.text(2, value)
      }
    }
    return model
  }

  private func write(_ places: [String: Int], to graph: inout WireWriter) throws(VitError) {
    for node in file.nodes {
      try graph.message(1) { message throws(VitError) in try OnnxWriter.write(node, to: &message) }
    }
    graph.text(2, file.name)
    for constant in file.initializers {
      try graph.message(5) { tensor throws(VitError) in
        OnnxWriter.describe(constant.tensor, constant.element, constant.name, to: &tensor)
        guard let place = places[constant.name] else {
          return tensor.elements(9, constant.tensor, as: constant.element)
        }
        let location = OnnxWriter.dataPath(of: path).split(separator: "/").last.map(String.init) ?? ""
        let entries = [("location", location), ("offset", "\(place)"), ("length", "\(constant.byteCount)")]
        for (key, value) in entries {
          try tensor.message(13) { entry throws(VitError) in
            entry.text(1, key)
            entry.text(2, value)
          }
        }
        tensor.int(14, 1)
      }
    }
    for (name, type) in file.inputs {
      try graph.message(11) { message throws(VitError) in try OnnxWriter.write(name, type, to: &message) }
    }
    for (name, type) in file.outputs {
      try graph.message(12) { message throws(VitError) in try OnnxWriter.write(name, type, to: &message) }
    }
  }

  private static func describe(
    _ tensor: Tensor, _ element: ElementType, _ name: String, to message: inout WireWriter
  ) {
    for extent in tensor.shape { message.int(1, extent) }
    message.int(2, OnnxElement.code(element) ?? 0)
    message.text(8, name)
  }

  private static func write(_ node: OnnxFile.Node, to message: inout WireWriter) throws(VitError) {
    for input in node.inputs { message.text(1, input) }
    for output in node.outputs { message.text(2, output) }
    message.text(3, node.name)
    message.text(4, node.type)
    for (name, value) in node.attributes {
      try message.message(5) { attribute throws(VitError) in
        attribute.text(1, name)
        write(value, to: &attribute)
      }
    }
    guard let (name, tensor) = node.tensor else { return }
    try message.message(5) { attribute throws(VitError) in
      attribute.text(1, name)
      try attribute.message(5) { message throws(VitError) in
        describe(tensor, tensor.element, name, to: &message)
        message.elements(9, tensor, as: tensor.element)
      }
      attribute.int(20, 4)
    }
  }

  /// The value of an attribute, and which kind it is.
  private static func write(_ value: Attribute, to message: inout WireWriter) {
    switch value {
    case .float(let number):
      message.float(2, Float(number))
      message.int(20, 1)
    case .int(let number):
      message.int(3, number)
      message.int(20, 2)
    case .bool(let isTrue):
      message.int(3, isTrue ? 1 : 0)
      message.int(20, 2)
    case .string(let text):
      message.text(4, text)
      message.int(20, 3)
    case .floats(let list):
      for number in list { message.float(7, Float(number)) }
      message.int(20, 6)
    case .ints(let list):
      for number in list { message.int(8, number) }
      message.int(20, 7)
    case .strings(let list):
      for text in list { message.text(9, text) }
      message.int(20, 8)
    }
  }

  private static func write(
    _ name: String, _ type: TensorType, to message: inout WireWriter
  ) throws(VitError) {
    message.text(1, name)
    try message.message(2) { kind throws(VitError) in
      try kind.message(1) { tensor throws(VitError) in
        tensor.int(1, OnnxElement.code(type.element) ?? 0)
        try tensor.message(2) { shape throws(VitError) in
          for extent in type.shape {
            try shape.message(1) { dimension throws(VitError) in
              if let count = extent.fixedValue {
                dimension.int(1, count)
              } else {
                dimension.text(2, extent.description)
              }
            }
          }
        }
      }
    }
  }
}

extension OnnxFile.Initializer {
  var byteCount: Int { tensor.count * element.size }
}
