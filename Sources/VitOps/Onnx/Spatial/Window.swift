internal import VitIR

/// How an operator fits windows into an image when it is not told the padding.
enum AutoPad: String, CaseIterable {
  case explicit = "NOTSET"
  case upper = "SAME_UPPER"
  case lower = "SAME_LOWER"
  case valid = "VALID"
}

/// The attributes that convolutions and pools share: how windows lie, along each spatial axis.
struct WindowParameters: Sendable {
  var kernel: [Int]?
  var strides: [Int]?
  var dilations: [Int]?
  var pads: [Int]?
  var autoPad: AutoPad

  /// Reads the attributes; extents of windows and steps are positive.
  init(_ reader: inout AttributeReader) throws(VitError) {
    kernel = try reader.optionalInts("kernel_shape")
    strides = try reader.optionalInts("strides")
    dilations = try reader.optionalInts("dilations")
    pads = try reader.optionalInts("pads")
    autoPad = try reader.choice("auto_pad", default: .explicit)
    let limit = 1 << 31
    for (name, values) in [("kernel_shape", kernel), ("strides", strides), ("dilations", dilations)] {
      for value in values ?? [] where value < 1 || value > limit {
        throw VitError("attribute '\(name)' holds \(value), expected positive numbers")
      }
    }
    for value in pads ?? [] where value < 0 || value > limit {
      throw VitError("attribute 'pads' holds \(value), expected numbers of at least 0")
    }
    if autoPad != .explicit, pads?.allSatisfy({ $0 == 0 }) ?? true { pads = nil }
    if autoPad != .explicit && pads != nil {
      throw VitError("both 'pads' and 'auto_pad' \(autoPad.rawValue) are given")
    }
  }

  /// The attributes in canonical form.
  var entries: [(String, Attribute)] {
    var result: [(String, Attribute)] = []
    if autoPad != .explicit { result.append(("auto_pad", .string(autoPad.rawValue))) }
    for (name, values) in [
      ("kernel_shape", kernel), ("strides", strides), ("dilations", dilations), ("pads", pads),
    ] {
      if let values { result.append((name, .ints(values))) }
    }
    return result
  }

  /// Throws unless every list has as many numbers as there are spatial axes.
  func expect(axes: Int) throws(VitError) {
    for (name, values, count) in [
      ("kernel_shape", kernel, axes), ("strides", strides, axes), ("dilations", dilations, axes),
      ("pads", pads, 2 * axes),
    ] {
      guard let values, values.count != count else { continue }
      throw VitError("attribute '\(name)' is \(values), expected \(count) numbers", code: "attribute-count")
    }
  }

  /// Positions of a window of `kernel` in an image of `extent` along an axis.
  func positions(axis: Int, extent: Dimension, kernel: Int, axes: Int, ceiling: Bool = false) -> Dimension {
    let stride = Dimension.fixed(strides?[axis] ?? 1)
    let reach = reach(axis: axis, kernel: kernel)
    switch autoPad {
    case .upper, .lower: return extent.ceilingDivided(by: stride)
    case .valid: return (extent - .fixed(reach)).floorDivided(by: stride) + 1
    case .explicit:
      let (before, after) = (pads?[axis] ?? 0, pads?[axis + axes] ?? 0)
      let room = extent + .fixed(before + after) - .fixed(reach)
      guard ceiling else { return room.floorDivided(by: stride) + 1 }
      let count = room.ceilingDivided(by: stride) + 1
      // The last window must begin inside the image or the padding before it.
      guard let whole = count.fixedValue, let size = extent.fixedValue else { return count }
      return .fixed((whole - 1) * (strides?[axis] ?? 1) >= size + before ? whole - 1 : whole)
    }
  }

  /// How much of an image a window covers along an axis.
  func reach(axis: Int, kernel: Int) -> Int {
    let (steps, overflow) = (kernel - 1).multipliedReportingOverflow(by: dilations?[axis] ?? 1)
    return overflow ? Int(Int32.max) << 16 : steps + 1
  }

  /// The padding before the image along an axis, of known extents.
  func before(axis: Int, extent: Int, positions: Int, kernel: Int) -> Int {
    guard autoPad == .upper || autoPad == .lower else { return pads?[axis] ?? 0 }
    let total = max(0, (positions - 1) * (strides?[axis] ?? 1) + reach(axis: axis, kernel: kernel) - extent)
    return autoPad == .upper ? total / 2 : total - total / 2
  }
}

/// Windows over an image of known extents: which of its elements each window sees at each position.
///
/// There are always three spatial axes; those that an operator does not have, have extent one and come first.
struct Window {
  /// Extents of the image.
  var image: [Int]
  /// Extents of a window, counted in elements that it sees.
  var kernel: [Int]
  /// Steps from a position to the next, in elements of the image.
  var strides: [Int]
  /// Steps from an element of a window to the next.
  var dilations: [Int]
  /// The padding before the image.
  var before: [Int]
  /// The number of positions.
  var positions: [Int]

  /// Windows by an operator's parameters; `image` and `positions` are spatial extents alone.
  init(_ parameters: WindowParameters, image: [Int], kernel: [Int], positions: [Int], before: [Int]) {
    func three(_ values: [Int], _ fill: Int) -> [Int] {
      [Int](repeating: fill, count: 3 - values.count) + values
    }
    let ones = [Int](repeating: 1, count: image.count)
    self.image = three(image, 1)
    self.kernel = three(kernel, 1)
    self.strides = three(parameters.strides ?? ones, 1)
    self.dilations = three(parameters.dilations ?? ones, 1)
    self.positions = three(positions, 1)
    self.before = three(before, 0)
  }

  /// Elements of an image, of a window, and positions.
  var imageCount: Int { image.reduce(1, *) }
  /// See `imageCount`.
  var kernelCount: Int { kernel.reduce(1, *) }
  /// See `imageCount`.
  var positionCount: Int { positions.reduce(1, *) }

  /// What all windows together reach over, padding included.
  var full: [Int] {
    (0..<3).map { max(0, positions[$0] - 1) * strides[$0] + (kernel[$0] - 1) * dilations[$0] + 1 }
  }

  /// Whether windows never leave the image, so that no padded copy is needed.
  var isInside: Bool {
    let full = full
    return (0..<3).allSatisfy { before[$0] == 0 && full[$0] <= image[$0] }
  }

  /// Whether the columns are the image itself.
  var isIdentity: Bool { isInside && kernelCount == 1 && strides == [1, 1, 1] && positions == image }

  /// Elements of a padded copy of `channels` images; none where windows stay inside.
  func paddedCount(channels: Int) -> Int { isInside ? 0 : channels * full.reduce(1, *) }

  /// The move from `channels` images to their padded copy.
  private func padding(channels: Int) -> Move {
    let full = full
    let (imageStrides, fullStrides) = (
      rowMajorStrides([channels] + image), rowMajorStrides([channels] + full)
    )
    var shape = [channels]
    var (source, target) = (0, 0)
    for axis in 0..<3 {
      let first = max(0, -before[axis])
      let last = min(image[axis], full[axis] - before[axis])
      shape.append(max(0, last - first))
      source += first * imageStrides[axis + 1]
      target += (first + before[axis]) * fullStrides[axis + 1]
    }
    return Move(
      shape: shape, source: Move.Region(offset: source, strides: imageStrides),
      target: Move.Region(offset: target, strides: fullStrides))
  }

  /// The move from `channels` (padded) images to columns `[channels, kernel…, positions…]`.
  private func columns(channels: Int) -> Move {
    let extents = isInside ? image : full
    let strides = rowMajorStrides([channels] + extents)
    let inWindow = (0..<3).map { strides[$0 + 1] * dilations[$0] }
    let across = (0..<3).map { strides[$0 + 1] * self.strides[$0] }
    return Move(
      shape: [channels] + kernel + positions, source: Move.Region(strides: [strides[0]] + inWindow + across))
  }

  /// Writes what each window sees of the images `[channels, …]` as columns `[channels·kernel, positions]`;
  /// outside it sees `border`.
  func gather(
    _ images: View, into columns: View, padded: View, channels: Int, border: Double = 0, _ pool: any WorkPool
  ) {
    if !isInside {
      padded.fill(border, pool)
      padding(channels: channels).copy(images, to: padded, pool)
    }
    self.columns(channels: channels).copy(isInside ? images : padded, to: columns, pool)
  }

  /// Adds columns `[channels·kernel, positions]` to the elements of the images that the windows see.
  func scatter(_ columns: View, addingTo images: View, padded: View, channels: Int, _ pool: any WorkPool) {
    if !isInside { padded.zero() }
    let move = self.columns(channels: channels).reversed
    // One element of the window at a time: windows overlap, but no two positions see one element at the same
    // place.
    for tap in 0..<kernelCount {
      let place = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]]
      func part(_ region: Move.Region) -> Move.Region {
        let offset = (0..<3).reduce(region.offset) { $0 + place[$1] * region.strides[$1 + 1] }
        return Move.Region(offset: offset, strides: [region.strides[0]] + region.strides[4...])
      }
      Move(shape: [channels] + positions, source: part(move.source), target: part(move.target))
        .add(columns, to: isInside ? images : padded, pool)
    }
    if !isInside { padding(channels: channels).reversed.add(padded, to: images, pool) }
  }
}

extension AttributeReader {
  /// The number of groups that a convolution's channels are cut into.
  mutating func groups() throws(VitError) -> Int {
    let groups = try int("group", default: 1)
    guard groups > 0 else { throw VitError("attribute 'group' is \(groups), expected a positive number") }
    return groups
  }
}
