public import CVitc
internal import VitIR
internal import Vitc

/// See `vitc.h`.
@c @implementation
public func vitc_image_shape(
  _ model: OpaquePointer!, _ shape: UnsafeMutablePointer<Int64>!, _ rank: UnsafeMutablePointer<Int>!,
  _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    try write(ModelHandle.at(try required(model, "model")).preprocessor().shape, shape, rank)
    return done
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_image_prepare(
  _ model: OpaquePointer!, _ bytes: UnsafeRawPointer!, _ size: Int, _ target: UnsafeMutablePointer<Float>!,
  _ count: Int, _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let preprocessor = try ModelHandle.at(try required(model, "model")).preprocessor()
    let (bytes, target) = (try required(bytes, "bytes"), try required(target, "target"))
    guard size >= 0, count >= 0 else { throw misuse("expected a size and a count of at least 0") }
    try preprocessor.prepare(
      encoded: [UInt8](UnsafeRawBufferPointer(start: bytes, count: size)),
      into: UnsafeMutableBufferPointer(start: target, count: count))
    return done
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_image_prepare_pixels(
  _ model: OpaquePointer!, _ pixels: UnsafePointer<UInt8>!, _ width: Int, _ height: Int, _ channels: Int,
  _ rowBytes: Int, _ target: UnsafeMutablePointer<Float>!, _ count: Int,
  _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let preprocessor = try ModelHandle.at(try required(model, "model")).preprocessor()
    let (pixels, target) = (try required(pixels, "pixels"), try required(target, "target"))
    // What a picture may have at most lies far below what overflows.
    let most = 1 << 28
    guard width > 0, height > 0, [1, 3].contains(channels), width <= most, height <= most, rowBytes <= most,
      rowBytes >= width * channels, width * channels * height <= most, count >= 0
    else {
      throw misuse(
        "expected a picture of 1 or 3 channels with rows of at least their bytes, found \(width)x\(height) pixels of \(channels) in rows of \(rowBytes)"
      )
    }
    var packed: [UInt8] = []
    packed.reserveCapacity(width * channels * height)
    for row in 0..<height {
      packed += UnsafeBufferPointer(start: pixels + row * rowBytes, count: width * channels)
    }
    try preprocessor.prepare(
      pixels: packed, width: width, height: height, channels: channels,
      into: UnsafeMutableBufferPointer(start: target, count: count))
    return done
  }
}
