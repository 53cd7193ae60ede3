internal import VitIR

/// What the ending of a file's name says about what is in it.
enum FileFormat: Equatable {
  case vmod, text, onnx, array, json, html, sarif, xml, dependencies, other

  private static let endings: [(String, FileFormat)] = [
    ("vmod", .vmod), ("vit", .text), ("onnx", .onnx), ("npy", .array), ("json", .json), ("html", .html),
    ("sarif", .sarif), ("xml", .xml), ("d", .dependencies),
  ]
  private static let others = [
    "npz", "png", "jpg", "jpeg", "idx", "gz", "zip", "bin", "pt", "pth", "pb", "tflite",
    "safetensors",
    "csv", "pdf", "tensors", "checkpoint",
  ]

  /// What a name says; `nil` where its ending is none of those that vitc knows.
  init?(_ path: String) {
    let name = path.split(separator: "/").last ?? ""
    guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return nil }
    let ending = name[name.index(after: dot)...].lowercased()
    if let known = FileFormat.endings.first(where: { $0.0 == ending }) {
      self = known.1
    } else if FileFormat.others.contains(ending) {
      self = .other
    } else {
      return nil
    }
  }

  /// What a message calls it.
  private var description: String {
    switch self {
    case .vmod: "a .vmod"
    case .text: "textual IR, .vit"
    case .onnx: "ONNX"
    case .array: "an array, .npy"
    case .json: "JSON"
    case .html: "HTML"
    case .sarif: "SARIF"
    case .xml: "XML"
    case .dependencies: "a file of dependencies, .d"
    case .other: "something else"
    }
  }

  /// Throws a usage error where the name of an output says that it is of another format than it will be.
  static func check(_ path: String, is formats: FileFormat..., as role: String, help: String? = nil)
    throws(VitError)
  {
    if path.isEmpty { throw usage("\(role) names no file", code: "option-value") }
    guard let found = FileFormat(path), !formats.contains(found) else { return }
    let written = formats.map(\.description).joined(separator: " or ")
    throw usage(
      "\(role) '\(path)': what is written is \(written), which its name does not say", code: "output-format",
      help: help)
  }
}
