internal import Glibc
internal import VitIR

/// First values of parameters (Mixers.md §2).
enum FirstValues {
  /// What a gate `silu(q)` needs to be one: silu(κ) = 1.
  static let openGate = 1.2784645427610737

  /// How much smaller than usual an output starts that stands for nothing: without a readout solve the first
  /// error is far too large.
  static let timidOutput = 0.05

  /// Uniform numbers within ± `bound`.
  static func uniform(_ shape: [Int], bound: Double, _ random: inout SplitMix) -> Tensor {
    Tensor(.f32, shape: shape, values: numbers(shape) { (2 * random.uniform() - 1) * bound })
  }

  /// Normal numbers of the given deviation.
  static func normal(_ shape: [Int], deviation: Double, _ random: inout SplitMix) -> Tensor {
    Tensor(.f32, shape: shape, values: numbers(shape) { random.normal() * deviation })
  }

  /// One number everywhere.
  static func constant(_ shape: [Int], _ value: Double = 0) -> Tensor {
    Tensor(.f32, shape: shape, values: numbers(shape) { value })
  }

  private static func numbers(_ shape: [Int], _ next: () -> Double) -> [Double] {
    (0..<shape.reduce(1, *)).map { _ in next() }
  }

  /// Weight `[width, dim]` and bias of the values: rows that are inherited, and for the others rows of unit gain at random.
  static func values(
    _ layout: MixerLayout, _ inherited: InheritedChannels?, _ random: inout SplitMix
  ) -> [Tensor] {
    let (dim, width) = (layout.dim, layout.width)
    var weight = (0..<width * dim).map { _ in random.normal() / Double(dim).squareRoot() }
    var bias = [Double](repeating: 0, count: width)
    for index in 0..<width {
      guard let channel = inherited?.channels[index] else { continue }
      weight.replaceSubrange(index * dim..<(index + 1) * dim, with: channel.value)
      bias[index] = channel.valueBias
    }
    return [
      Tensor(.f32, shape: [width, dim], values: weight), Tensor(.f32, shape: [width], values: bias),
    ]
  }

  /// The weight of the output map, `[outputDim, width]`: columns that are inherited, times `scale`, and timid
  /// ones for the others.
  static func output(
    _ layout: MixerLayout, _ inherited: InheritedChannels?, _ random: inout SplitMix,
    scale: (InheritedChannels.Channel) -> Double = { _ in 1 }
  ) -> Tensor {
    let (rows, columns) = (layout.outputDim, layout.width)
    let bound = timidOutput / Double(columns).squareRoot()
    var values = (0..<rows * columns).map { _ in (2 * random.uniform() - 1) * bound }
    for column in 0..<columns {
      guard let channel = inherited?.channels[column] else { continue }
      let factor = scale(channel)
      for row in 0..<rows { values[row * columns + column] = channel.output[row] * factor }
    }
    return Tensor(.f32, shape: [rows, columns], values: values)
  }

  /// The bias of the output map.
  static func outputBias(_ layout: MixerLayout, _ inherited: InheritedChannels?) -> Tensor {
    Tensor(
      .f32, shape: [layout.outputDim],
      values: inherited?.outputBias ?? [Double](repeating: 0, count: layout.outputDim))
  }
}
