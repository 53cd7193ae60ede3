/// The scale with which whole numbers of 4 bits are nearest to some numbers, by least squares.
package enum GroupScale {
  /// The numbers that the one of greatest magnitude is tried as; between them lies what another rounds to.
  private static let targets: [Float] = (0...20).flatMap { (step: Int) -> [Float] in
    let inwards = 0.15 * Float(step)
    return [inwards - 8, 7 - inwards]
  }

  /// The scale s that makes Σ d·(v − s·q)² least among those tried, where q is v / s rounded to −8…7 and s that of least squares for
  /// these; rounded to 8 bits of precision. It may be negative: −8 is one more than 7. 0 for zeros, and where it is no normal number. `weights` are the d, 1
  /// without any.
  package static func best(_ values: ArraySlice<Float>, weights: [Float]? = nil) -> Float {
    guard let most = values.max(by: { $0.magnitude < $1.magnitude }), most.magnitude.isNormal else {
      return 0
    }
    var best: (error: Float, scale: Float) = (.infinity, 0)
    for target in targets {
      let first = most / target
      let scale = rounded(fitted(values, weights, first))
      guard scale.magnitude.isNormal else { continue }
      var error: Float = 0
      for (place, value) in values.enumerated() {
        let left = value - scale * whole(value, scale)
        error += (weights?[place] ?? 1) * left * left
      }
      if error < best.error { best = (error, scale) }
    }
    return best.scale
  }

  private static func whole(_ value: Float, _ scale: Float) -> Float {
    min(max((value / scale).rounded(.toNearestOrEven), -8), 7)
  }

  /// The scale of least squares for what `first` rounds to.
  private static func fitted(_ values: ArraySlice<Float>, _ weights: [Float]?, _ first: Float) -> Float {
    var (product, square): (Float, Float) = (0, 0)
    for (place, value) in values.enumerated() {
      let q = whole(value, first)
      let weight = weights?[place] ?? 1
      product += weight * value * q
      square += weight * q * q
    }
    return square > 0 ? product / square : first
  }

  /// To nearest among the numbers whose lower 16 bits are zero.
  private static func rounded(_ scale: Float) -> Float {
    Float(bitPattern: (scale.bitPattern &+ 0x7fff &+ (scale.bitPattern >> 16 & 1)) & 0xffff_0000)
  }
}
