internal import VitFormats
internal import VitIR

/// Pictures in files of their own.
struct ImageFiles: DatasetSource {
  let paths: [String]
  var count: Int { paths.count }
  func sample(_ index: Int) throws -> Sample { .image(try Image(contentsOf: paths[index])) }
}

/// Batches of CIFAR, one after another.
struct CIFARBatches: DatasetSource {
  let batches: [CIFAR]
  let count: Int

  init(_ batches: [CIFAR]) {
    self.batches = batches
    count = batches.reduce(0) { $0 + $1.count }
  }

  func sample(_ index: Int) throws -> Sample {
    var rest = index
    for batch in batches {
      if rest < batch.count { return .image(try batch.image(rest)) }
      rest -= batch.count
    }
    preconditionFailure("sample \(index) of \(count)")
  }
}

/// An array of which the first axis counts the samples: bytes are pictures, floats are tensors.
struct ArraySamples: DatasetSource {
  private enum Layout {
    case image(height: Int, width: Int, channels: Int, isPlanar: Bool)
    case tensor
  }
  private let array: Tensor
  private let layout: Layout
  let count: Int

  /// Throws where the array cannot be samples; with `areTensors` none are pictures.
  init(_ array: Tensor, areTensors: Bool = false) throws(VitError) {
    let shape = array.shape
    guard shape.count >= 2 else {
      throw VitError("expected an array of samples, found the shape \(shape)", code: "sample-shape")
    }
    count = shape[0]
    self.array = array
    switch (array.element, shape.count) {
    case _ where areTensors && array.element != .bool: layout = .tensor
    case (.u8, 3): layout = .image(height: shape[1], width: shape[2], channels: 1, isPlanar: false)
    case (.u8, 4) where [1, 3].contains(shape[3]):
      layout = .image(height: shape[1], width: shape[2], channels: shape[3], isPlanar: false)
    case (.u8, 4) where [1, 3].contains(shape[1]):
      layout = .image(height: shape[2], width: shape[3], channels: shape[1], isPlanar: true)
    case (.f32, _), (.f64, _), (.f16, _): layout = .tensor
    default:
      throw VitError(
        "an array \(array.type) is neither images (u8, [N, H, W] or [N, H, W, 1 or 3]) nor tensors (floats)",
        code: "sample-shape")
    }
    if case .image(let height, let width, _, _) = layout, height == 0 || width == 0 {
      throw VitError("images of the shape \(shape) have no pixels", code: "sample-shape")
    }
  }

  func sample(_ index: Int) throws -> Sample {
    let size = array.storage.byteCount / count
    return try array.storage.withBytes { bytes in
      let part = UnsafeRawBufferPointer(rebasing: bytes[index * size..<(index + 1) * size])
      switch layout {
      case .image(let height, let width, let channels, let isPlanar):
        if isPlanar { return .image(Image(planes: part, width: width, height: height, channels: channels)) }
        return .image(Image(width: width, height: height, channels: channels, pixels: Array(part)))
      case .tensor:
        let shape = Array(array.shape.dropFirst())
        return .tensor(
          try Tensor(.f32, shape: shape) { target in
            guard let from = part.baseAddress, let to = target.baseAddress else { return }
            Conversion.copy(shape.reduce(1, *), from: from, array.element, to: to, .f32)
          })
      }
    }
  }
}
