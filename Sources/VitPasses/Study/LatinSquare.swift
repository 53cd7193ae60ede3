internal import VitIR

/// Which level each layer of each teacher has: in blocks of as many layers as there are levels, every layer meets each level once over
/// the teachers, and every teacher each level once over the layers of a whole block. Levels say nothing of depth then.
struct LatinSquare {
  private let levels: Int
  private let offsets: [Int]

  /// Square `number` for so many layers; the seed decides how blocks are turned.
  init(_ number: Int, layers: Int, levels: Int, seed: UInt64) {
    self.levels = levels
    let random = SplitMix(seed: seed).split("latin-square").split(number)
    offsets = (0..<(layers + levels - 1) / levels).map { block in
      var own = random.split(block)
      return own.below(levels)
    }
  }

  /// The level of a layer in teacher `teacher`, which counts from 0 to the number of levels.
  func level(layer: Int, teacher: Int) -> Int { (layer + offsets[layer / levels] + teacher) % levels }
}
