internal import Glibc
internal import VitIR

/// A few sums that tell how far numbers moved, without the numbers themselves: the "tug of war" of Alon, Matias and Szegedy
/// ("The space complexity of approximating the frequency moments", 1996).
///
/// Each sum gives every element a sign by its place. The difference of two such sums is on average, over signs, as large as
/// the difference of the numbers (Euclidean); eight of them tell that within about a third. Whether anything moved at all they tell
/// but for rounding. Linear time; the same on every machine.
struct Sketch: Hashable, Sendable {
  /// How many sums there are.
  static let count = 8

  /// The root of the mean square.
  let size: Double
  /// The sums, divided by the root of the number of elements: of the order of `size`.
  let sums: [Double]

  /// A sketch that was read.
  init?(size: Double, sums: [Double]) {
    guard sums.count == Sketch.count else { return nil }
    (self.size, self.sums) = (size, sums)
  }

  /// The sketch of a tensor's elements.
  init(_ tensor: Tensor) throws {
    let values = try tensor.doubles()
    var sums = [Double](repeating: 0, count: Sketch.count)
    var squares = 0.0
    for (place, value) in values.enumerated() {
      squares += value * value
      let signs = Sketch.signs(place)
      for index in sums.indices { sums[index] += signs >> UInt64(index) & 1 == 0 ? value : -value }
    }
    let scale = Double(max(values.count, 1))
    size = Sketch.shortened((squares / scale).squareRoot())
    self.sums = sums.map { Sketch.shortened($0 / scale.squareRoot()) }
  }

  /// About how far the numbers are from those of `other`, root mean square, relative to the larger of the two; infinite where
  /// one holds something that is no number.
  func deviation(from other: Sketch) -> Double {
    let squares = zip(sums, other.sums).map { $0.isNaN && $1.isNaN || $0 == $1 ? 0 : ($0 - $1) * ($0 - $1) }
      .reduce(0, +)
    if squares == 0 { return 0 }
    let distance = (squares / Double(Sketch.count)).squareRoot()
    let result = distance / max(size, other.size, .leastNormalMagnitude)
    return result.isFinite ? result : .infinity
  }

  /// Five digits: so many that hold between machines, as far as kernels round alike, and few enough to read.
  private static func shortened(_ value: Double) -> Double {
    guard value.isFinite, value != 0 else { return value }
    let scale = pow(10, 4 - log10(value.magnitude).rounded(.down))
    let result = (value * scale).rounded() / scale
    // The shortest decimal number near it, which is what is written.
    return result.isFinite
      ? Double(Float(result).description) ?? result : Double(Float(value).description) ?? value
  }

  /// Bits that look random, for a place (the finaliser of SplitMix64).
  static func signs(_ place: Int) -> UInt64 {
    var bits = UInt64(truncatingIfNeeded: place) &* 0x9e37_79b9_7f4a_7c15 &+ 0x9e37_79b9_7f4a_7c15
    bits = (bits ^ bits >> 30) &* 0xbf58_476d_1ce4_e5b9
    bits = (bits ^ bits >> 27) &* 0x94d0_49bb_1331_11eb
    return bits ^ bits >> 31
  }
}
