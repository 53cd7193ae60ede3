public import VitFormats
public import VitIR

/// What is done to a picture before a model sees it: colours, resize, centre crop, scale, mean and deviation.
///
/// The result is `[channels, height, width]`, 32-bit floats: `(sample × scale - mean) / deviation`.
public struct Preprocess: Hashable, Sendable {
  /// How a picture gets its size.
  public enum Resize: Hashable, Sendable {
    /// Not at all.
    case none
    /// To just these extents, whatever that does to its proportions.
    case exact(height: Int, width: Int)
    /// So that its shorter edge has this length; the longer one is rounded down.
    case shortest(Int)
    /// So that it just covers these extents; the other edge is rounded to nearest.
    case cover(height: Int, width: Int)
  }

  /// How the middle is cut out where what is left over is odd.
  public enum Crop: String, Hashable, Sendable {
    /// Nothing is cut out: another size than the result's is an error.
    case none
    /// The margin before is rounded down, as in Hugging Face processors.
    case down
    /// The margin before is rounded to the even number, as in torchvision.
    case even
  }

  /// The order of colours.
  public enum Order: String, Hashable, Sendable { case rgb, bgr }

  /// Channels of the result. From one to three and back, colours are converted as by Pillow.
  public var channels: Int
  /// Rows of the result.
  public var height: Int
  /// Columns of the result.
  public var width: Int
  /// The order of the three channels.
  public var order: Order = .rgb
  /// How the size is reached.
  public var resize: Resize
  /// The filter that resizes.
  public var interpolation: Interpolation = .bicubic
  /// How the result is cut out; a smaller picture gets black margins.
  public var crop: Crop = .down
  /// What the 8-bit samples are multiplied by.
  public var scale: Double = 1.0 / 255.0
  /// What is then subtracted: one number for each channel, or one for all.
  public var mean: [Double]
  /// What it is then divided by: one number for each channel, or one for all.
  public var deviation: [Double]

  /// What is usual for a model that takes `[channels, height, width]`: shortest edge, centre crop, bicubic; ImageNet's
  /// mean and deviation for three channels, a half for others.
  public init(channels: Int, height: Int, width: Int) {
    self.channels = channels
    self.height = height
    self.width = width
    resize = height == width ? .shortest(height) : .cover(height: height, width: width)
    mean = channels == 3 ? [0.485, 0.456, 0.406] : [0.5]
    deviation = channels == 3 ? [0.229, 0.224, 0.225] : [0.5]
  }

  /// The lengths, in pixels, that an edge can have.
  static let edges = 1...(1 << 14)

  /// The extent of which `size` pixels are `share`, rounded down; `nil` where it is beyond every image.
  static func edge(_ size: Int, share: Double) -> Int? {
    let edge = (Double(size) / share).rounded(.towardZero)
    return edge <= Double(Preprocess.edges.upperBound) ? Int(exactly: edge) : nil
  }

  /// The number of floats in a result.
  public var count: Int { channels * height * width }

  /// The same for results of another size: what the picture is resized to changes in proportion. Throws where one of
  /// the sizes is none that an image can have.
  public func resized(height newHeight: Int, width newWidth: Int) throws(VitError) -> Preprocess {
    try Preprocess.check(edges: resizeEdges + [height, width, newHeight, newWidth])
    var copy = self
    copy.height = newHeight
    copy.width = newWidth
    func scaled(_ value: Int, _ new: Int, _ old: Int) -> Int {
      max(1, Int((Double(value) * Double(new) / Double(old)).rounded()))
    }
    switch resize {
    case .none: break
    case .exact(let h, let w):
      copy.resize = .exact(height: scaled(h, newHeight, height), width: scaled(w, newWidth, width))
    case .shortest(let edge) where newHeight == newWidth:
      copy.resize = .shortest(scaled(edge, newHeight, min(height, width)))
    case .shortest(let edge):
      copy.resize = .cover(
        height: scaled(edge, newHeight, min(height, width)), width: scaled(edge, newWidth, min(height, width))
      )
    case .cover(let h, let w):
      copy.resize = .cover(height: scaled(h, newHeight, height), width: scaled(w, newWidth, width))
    }
    return copy
  }

  /// The same for a model of which some extents are fixed; throws where the numbers of channels contradict.
  public func fitted(channels: Int?, height: Int?, width: Int?) throws(VitError) -> Preprocess {
    var copy = try resized(height: height ?? self.height, width: width ?? self.width)
    copy.channels = channels ?? self.channels
    try copy.validate()
    return copy
  }

  /// The edges that pictures are resized to.
  private var resizeEdges: [Int] {
    switch resize {
    case .none: []
    case .shortest(let edge): [edge]
    case .exact(let h, let w), .cover(let h, let w): [h, w]
    }
  }

  private static func bad(_ what: String) -> VitError {
    VitError("preprocessing: " + what, code: "preprocess")
  }

  private static func check(edges: [Int]) throws(VitError) {
    for edge in edges where !Preprocess.edges.contains(edge) {
      throw Preprocess.bad(
        "a size of \(edge) pixels is outside of \(Preprocess.edges.lowerBound) to \(Preprocess.edges.upperBound)"
      )
    }
  }

  /// Throws unless all numbers make sense together.
  public func validate() throws(VitError) {
    try Preprocess.check(edges: resizeEdges + [height, width])
    guard (1...1024).contains(channels) else {
      throw Preprocess.bad("\(channels) channels are outside of 1 to 1024")
    }
    for (name, values) in [("mean", mean), ("std", deviation)] {
      guard values.count == 1 || values.count == channels else {
        throw Preprocess.bad(
          "expected one \(name) or \(channels), one for each channel, found \(values.count)")
      }
      guard values.allSatisfy(\.isFinite) else { throw Preprocess.bad("a \(name) is no finite number") }
    }
    guard deviation.allSatisfy({ $0 > 0 }) else { throw Preprocess.bad("a std is not positive") }
    guard scale.isFinite, scale > 0 else { throw Preprocess.bad("the scale \(scale) is not positive") }
    guard order == .rgb || channels == 3 else { throw Preprocess.bad("order 'bgr' needs three channels") }
    if crop == .none, case .shortest = resize, height != width {
      throw Preprocess.bad("with resize=shortest and no crop, the result has no fixed size")
    }
  }

  /// The picture in its final size and channels, still 8 bits a sample; throws where it cannot get there.
  public func raster(_ image: Image) throws(VitError) -> Image {
    var image = try converted(image)
    let size: (height: Int, width: Int) =
      switch resize {
      case .none: (image.height, image.width)
      case .exact(let height, let width): (height, width)
      case .shortest(let edge): shortest(image, edge)
      case .cover(let height, let width): cover(image, height, width)
      }
    guard size.height.multipliedReportingOverflow(by: size.width).partialValue <= Image.maximumPixels,
      max(size.height, size.width) <= Image.maximumPixels
    else {
      throw VitError(
        "an image of \(image.width) × \(image.height) pixels is too long to be resized to \(size.width) × "
          + "\(size.height)", code: "image-size")
    }
    image = interpolation.resize(image, width: size.width, height: size.height)
    if image.height == height, image.width == width { return image }
    guard crop != .none else {
      throw VitError(
        "the model takes images of \(width) × \(height) pixels, found \(image.width) × \(image.height)",
        code: "image-size", help: "let the preprocessing resize or crop")
    }
    return cropped(image)
  }

  /// Writes the `count` floats that the model takes for `sample`.
  ///
  /// A tensor is taken as it is; throws where its shape is not `[channels, height, width]`.
  public func write(_ sample: Sample, to target: UnsafeMutablePointer<Float>) throws {
    switch sample {
    case .image(let image): normalise(try raster(image), to: target)
    case .tensor(let tensor):
      guard tensor.shape == [channels, height, width] else {
        throw VitError(
          "the model takes \([channels, height, width]), found an array of \(tensor.shape)",
          code: "sample-shape",
          help: "give images as uint8 arrays, or tensors in the model's own shape")
      }
      let values = try tensor.floats()
      values.withUnsafeBufferPointer { source in
        if let base = source.baseAddress { target.update(from: base, count: values.count) }
      }
    }
  }

  private func normalise(_ image: Image, to target: UnsafeMutablePointer<Float>) {
    let area = height * width
    image.pixels.withUnsafeBufferPointer { pixels in
      for channel in 0..<channels {
        let source = order == .bgr ? channels - 1 - channel : channel
        let mean = mean[mean.count == 1 ? 0 : channel]
        let deviation = deviation[deviation.count == 1 ? 0 : channel]
        let table = (0..<256).map { Float((Double($0) * scale - mean) / deviation) }
        let plane = target + channel * area
        table.withUnsafeBufferPointer { table in
          for index in 0..<area { plane[index] = table[Int(pixels[index * channels + source])] }
        }
      }
    }
  }

  private func converted(_ image: Image) throws(VitError) -> Image {
    switch (image.channels, channels) {
    case let (from, to) where from == to: return image
    case (1, 3):
      var pixels: [UInt8] = []
      pixels.reserveCapacity(3 * image.pixels.count)
      for sample in image.pixels { pixels.append(contentsOf: repeatElement(sample, count: 3)) }
      return Image(width: image.width, height: image.height, channels: 3, pixels: pixels)
    case (3, 1):
      // ITU-R 601 luma in 16-bit fixed point.
      let gray = stride(from: 0, to: image.pixels.count, by: 3).map { index -> UInt8 in
        let red = Int(image.pixels[index]) * 19595
        let green = Int(image.pixels[index + 1]) * 38470
        let blue = Int(image.pixels[index + 2]) * 7471
        return UInt8((red + green + blue + 0x8000) >> 16)
      }
      return Image(width: image.width, height: image.height, channels: 1, pixels: gray)
    default:
      throw VitError(
        "the model takes \(channels) channels, found an image with \(image.channels)", code: "image-channels")
    }
  }

  private func shortest(_ image: Image, _ edge: Int) -> (height: Int, width: Int) {
    let (short, long) = (min(image.height, image.width), max(image.height, image.width))
    let other = edge * long / short
    return image.height <= image.width ? (edge, other) : (other, edge)
  }

  private func cover(_ image: Image, _ height: Int, _ width: Int) -> (height: Int, width: Int) {
    let ratio = min(Double(image.height) / Double(height), Double(image.width) / Double(width))
    func rounded(_ edge: Int) -> Int { max(1, Int((Double(edge) / ratio).rounded(.toNearestOrEven))) }
    return (rounded(image.height), rounded(image.width))
  }

  private func cropped(_ image: Image) -> Image {
    func margin(_ excess: Int) -> Int {
      // Padding, where `excess` is negative, always puts the smaller half before.
      if excess < 0 { return -(-excess / 2) }
      return crop == .even ? Int((Double(excess) / 2).rounded(.toNearestOrEven)) : excess / 2
    }
    let (top, left) = (margin(image.height - height), margin(image.width - width))
    var pixels = [UInt8](repeating: 0, count: count)
    for y in max(0, -top)..<min(height, image.height - top) {
      let columns = max(0, -left)..<min(width, image.width - left)
      let from = ((y + top) * image.width + columns.lowerBound + left) * channels
      let to = (y * width + columns.lowerBound) * channels
      let length = columns.count * channels
      pixels.replaceSubrange(to..<to + length, with: image.pixels[from..<from + length])
    }
    return Image(width: width, height: height, channels: channels, pixels: pixels)
  }
}
