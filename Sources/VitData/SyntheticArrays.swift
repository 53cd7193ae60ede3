internal import VitIR

/// Arrays of normal numbers, for models that take no pictures. Array `i` depends on the seed and `i` only.
struct SyntheticArrays: DatasetSource {
  let count: Int
  private let shape: [Int]
  private let random: SplitMix

  /// `count` arrays of this shape.
  init(count: Int, shape: [Int], seed: UInt64) {
    self.count = count
    self.shape = shape
    random = SplitMix(seed: seed).split("synthetic")
  }

  func sample(_ index: Int) throws -> Sample {
    var random = random.split(index)
    return .tensor(
      Tensor(.f32, shape: shape, values: (0..<shape.reduce(1, *)).map { _ in random.normal() }))
  }
}
