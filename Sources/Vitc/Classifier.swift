internal import VitData
internal import VitFormats
internal import VitPasses
public import VitIR
internal import Glibc

/// Says what is in images.
public final class Classifier {
  /// A class and how likely it is.
  public struct Class: Sendable {
    /// Its number.
    public let index: Int
    /// Its name, where the model says so.
    public let label: String?
    /// How likely it is: the softmax of the model's first output.
    public let probability: Double
  }

  private let session: Session
  private let input: ImageInput

  /// What the user should know: how images are prepared, who says so, and what is doubtful about it.
  public var diagnostics: [Diagnostic] { input.diagnostics }

  /// The files beside the model that say how images are prepared.
  public var sources: [String] { input.consulted }

  /// A classifier; `settings` override how images are prepared. Throws where the model's input is no image or its first output
  /// no row of numbers for each.
  public init(_ model: Model, session: Session, settings: [(key: String, value: String)] = []) throws {
    guard model.graph.inputs.count == 1 else {
      throw VitError(
        "the model has \(model.graph.inputs.count) inputs, expected one that takes images",
        code: "no-image-input",
        help: "give arrays with --input")
    }
    input = try ImageInput(model, settings: settings)
    self.session = session
    guard input.preprocess != nil else {
      throw VitError(
        "the model takes arrays \(input.shape), no images", code: "no-image-input",
        help: "run it on an array with --input")
    }
    guard OutputKind.width(of: model.graph) != nil else {
      throw VitError(
        "the model's first output has no classes", code: "no-classes", help: "run it on an array with --input"
      )
    }
  }

  /// The files of images that `paths` name: of a folder all in it and below. Throws where one has none.
  public static func images(at paths: [String]) throws -> [String] {
    try paths.flatMap { path in
      let found = try Dataset.images(at: path)
      if found.isEmpty {
        throw VitError("the folder holds no images", code: "empty-data", location: Location(file: path))
      }
      return found
    }
  }

  /// The `count` likeliest classes of the image in a file, likeliest first.
  public func classify(_ path: String, top count: Int) throws -> [Class] {
    do {
      let image = try Image(contentsOf: path)
      var values = [Float](repeating: 0, count: input.count)
      try values.withUnsafeMutableBufferPointer { try input.write(.image(image), to: $0) }
      let logits = try session.run([input.tensor(values)])[0].doubles()
      let highest = logits.max() ?? 0
      let sum = logits.reduce(0) { $0 + exp($1 - highest) }
      let order = logits.indices.sorted { (logits[$1], $0) < (logits[$0], $1) }
      return order.prefix(count).map { index in
        let names = input.labels ?? []
        return Class(
          index: index, label: index < names.count ? names[index] : nil,
          probability: exp(logits[index] - highest) / sum)
      }
    } catch let error as VitError { throw error.at(Location(file: path)) }
  }
}
