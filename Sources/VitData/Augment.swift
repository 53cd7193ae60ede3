public import VitIR

/// Random changes of a sample that leave its meaning: a mirror image, a shift.
public struct Augment: Hashable, Sendable {
  /// Whether half of the samples are mirrored.
  public var flips: Bool
  /// The most pixels of a shift along each axis; what comes in from outside repeats the edge.
  public var shift: Int

  /// An augmentation.
  public init(flips: Bool = true, shift: Int = 0) {
    precondition(shift >= 0)
    self.flips = flips
    self.shift = shift
  }

  /// Changes the planes of one sample, `[channels, height, width]`, in place.
  public func apply(
    to planes: UnsafeMutablePointer<Float>, channels: Int, height: Int, width: Int, _ random: SplitMix
  ) {
    var random = random
    let isFlipped = flips && random.below(2) == 1
    let down = random.below(2 * shift + 1) - shift
    let right = random.below(2 * shift + 1) - shift
    guard isFlipped || down != 0 || right != 0 else { return }
    let area = height * width
    var copy = [Float](repeating: 0, count: area)
    for channel in 0..<channels {
      let plane = planes + channel * area
      for index in 0..<area { copy[index] = plane[index] }
      for y in 0..<height {
        let row = min(max(y - down, 0), height - 1) * width
        for x in 0..<width {
          let column = min(max(x - right, 0), width - 1)
          plane[y * width + x] = copy[row + (isFlipped ? width - 1 - column : column)]
        }
      }
    }
  }
}
