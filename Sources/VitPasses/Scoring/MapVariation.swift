internal import VitTrain

/// How much the attention maps of a head differ from image to image: E‖A − Ā‖² / E‖A‖² in squared Frobenius norms, 0 for
/// a map that is the same whatever an image shows (Mixers.md §1).
///
/// The mean map Ā is that of the images of a batch, so that no map is kept; the spread is divided by one less than their
/// number, which makes it that about the mean of all images.
struct MapVariation: TreeTerm {
  private var spread = 0.0
  private var squares = 0.0

  /// Nothing seen yet.
  init() {}

  /// The maps of one head for `count` images, `size` numbers each, the first at `maps` and each `stride` behind the one
  /// before. One image alone says nothing.
  init(_ maps: UnsafePointer<Float>, count: Int, stride: Int, size: Int) {
    guard count > 1 else { return }
    var deviations = 0.0
    for place in 0..<size {
      var (sum, square) = (0.0, 0.0)
      for image in 0..<count { sum += Double(maps[image * stride + place]) }
      let mean = sum / Double(count)
      for image in 0..<count {
        let value = Double(maps[image * stride + place])
        let deviation = value - mean
        square += value * value
        deviations += deviation * deviation
      }
      squares += square
    }
    spread = deviations * Double(count) / Double(count - 1)
  }

  /// Adds what later images show.
  mutating func add(_ later: MapVariation) {
    spread += later.spread
    squares += later.squares
  }

  /// The ratio; `nil` where no two images were seen together.
  var dependence: Double? { squares > 0 ? spread / squares : nil }
}
