import Foundation
import VitTestSupport

/// A folder with a tiny teacher, pictures in two classes and a configuration: small enough to compile in a debug build.
struct TinyModel {
  let scratch: Scratch

  init(images: Int = 4) throws {
    scratch = try Scratch()
    try scratch.write(Fixture.bytes("compat/v1/teacher.vmod"), to: "t.vmod")
    try scratch.write(Array(TinyModel.configuration(mean: 0.5).utf8), to: "preprocessor_config.json")
    for name in ["a", "b"] {
      for index in 0..<images { try addImage("\(name)/\(index).png") }
    }
  }

  static func configuration(mean: Double) -> String {
    """
    {"image_mean": [\(mean), 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "size": {"height": 8, "width": 8}}
    """
  }

  func addImage(_ name: String) throws {
    try scratch.write(Fixture.bytes("formats/rgb.png"), to: "data/" + name)
  }

  /// A compile that takes a moment, in the folder.
  static let compile = [
    "compile", "t.vmod", "--data", "data", "--replace", "layers=0", "--distil-steps", "1",
    "--fine-tune-steps",
    "0", "--batch", "2", "--threads", "1", "--reproducible",
  ]

  @discardableResult
  func run(_ words: [String]) throws -> Tool.Result { try Tool.run(words, in: scratch.path) }

  func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: scratch.file(name))) }
}
