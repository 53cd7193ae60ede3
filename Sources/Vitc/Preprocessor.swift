internal import VitData
internal import VitFormats
public import VitIR

/// Makes the input of a model from an image, as the model, or what lies beside its file, says.
public final class Preprocessor: Sendable {
  private let input: ImageInput

  /// The shape of one prepared image, without the axis that counts images: channels, height and width, or the last first.
  public var shape: [Int] { input.shape }
  /// What the user should know: how images are prepared, who says so, and what is doubtful about it.
  public var diagnostics: [Diagnostic] { input.diagnostics }

  /// For that model; `settings` override how images are prepared. Throws where its first input takes no images.
  public init(_ model: Model, settings: [(key: String, value: String)] = []) throws {
    input = try ImageInput(model, settings: settings)
    guard input.preprocess != nil else {
      throw VitError("the model takes arrays \(input.shape), no images", code: "no-image-input")
    }
  }

  /// Prepares a JPEG, PNG or WebP file that lies in memory, into as many floats as `shape` says. Throws for what cannot be decoded.
  public func prepare(encoded bytes: [UInt8], into target: UnsafeMutableBufferPointer<Float>) throws {
    guard bytes.count <= Image.maximumFile else {
      throw VitError(
        "expected at most \(Image.maximumFile) bytes of an image, found \(bytes.count)", code: "too-large")
    }
    try prepare(Image(decoding: bytes), into: target)
  }

  /// Prepares a picture of 8 bits a sample: rows from the top, the channels of a pixel side by side, 1 (gray) or 3 (red, green,
  /// blue) of them. Throws where there are not as many samples as the extents say, or too many.
  public func prepare(
    pixels: [UInt8], width: Int, height: Int, channels: Int, into target: UnsafeMutableBufferPointer<Float>
  ) throws {
    guard [1, 3].contains(channels), width > 0, height > 0, width <= Image.maximumPixels,
      height <= Image.maximumPixels / width, pixels.count == width * height * channels
    else {
      throw VitError(
        "expected a picture of 1 or 3 channels and at most \(Image.maximumPixels) pixels, found \(pixels.count) samples for \(width)x\(height) pixels of \(channels)",
        code: "sample-shape")
    }
    try prepare(Image(width: width, height: height, channels: channels, pixels: pixels), into: target)
  }

  private func prepare(_ image: Image, into target: UnsafeMutableBufferPointer<Float>) throws {
    guard target.count == input.count else {
      throw VitError(
        "a prepared image has \(input.count) numbers \(shape), found room for \(target.count)",
        code: "sample-shape")
    }
    try input.write(.image(image), to: target)
  }
}
