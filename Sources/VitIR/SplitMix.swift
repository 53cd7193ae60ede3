internal import VitSystem

/// The project's seeded random numbers: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
///
/// The same seed gives the same numbers on every machine; `split(_:)` gives independent streams by name, so that
/// adding a consumer does not shift the numbers of the others.
public struct SplitMix: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// A generator whose stream is decided by `seed`.
  public init(seed: UInt64) { state = seed }

  /// The next 64 random bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    return SplitMix.mix(state)
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// An independent stream named `label`; this generator does not move.
  public func split(_ label: String) -> SplitMix {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in label.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    return SplitMix(seed: SplitMix.mix(state ^ SplitMix.mix(hash)))
  }

  /// An independent stream numbered `index`; this generator does not move.
  public func split(_ index: Int) -> SplitMix {
    let salted = UInt64(bitPattern: Int64(index)) &+ 0x632b_e59b_d9b4_e019
    return SplitMix(seed: SplitMix.mix(state ^ SplitMix.mix(salted)))
  }

  /// A uniform number in [0, 1), of 53 random bits.
  public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// A uniform whole number in `0..<bound`, without bias; `bound` is positive.
  public mutating func below(_ bound: Int) -> Int {
    precondition(bound > 0)
    let range = UInt64(bound)
    let limit = UInt64.max - UInt64.max % range
    while true {
      let draw = next()
      if draw < limit { return Int(draw % range) }
    }
  }

  /// A normal number with mean 0 and variance 1: Marsaglia's polar method, one of its two numbers thrown away.
  public mutating func normal() -> Double {
    while true {
      let x = 2 * uniform() - 1
      let y = 2 * uniform() - 1
      let radius = x * x + y * y
      if radius < 1, radius > 0 { return x * (-2 * SystemMath.log(radius) / radius).squareRoot() }
    }
  }

  /// `items` in a random order (Fisher and Yates).
  public mutating func shuffled<Element>(_ items: [Element]) -> [Element] {
    var result = items
    var last = result.count - 1
    while last > 0 {
      result.swapAt(last, below(last + 1))
      last -= 1
    }
    return result
  }
}
