internal import VitIR

extension Dataset {
  /// The numbers of `count` samples picked at random, or of all where there are fewer; ascending.
  public func sample(count: Int, seed: UInt64) -> [Int] {
    guard count < self.count else { return Array(0..<self.count) }
    var random = SplitMix(seed: seed).split("sample")
    return random.shuffled(Array(0..<self.count)).prefix(count).sorted()
  }

  /// Divides `samples` at random into those to train on and `count` to judge by; both ascending.
  public static func holdOut(
    _ count: Int, of samples: [Int], seed: UInt64
  ) -> (training: [Int], heldOut: [Int]) {
    precondition(count >= 0 && count <= samples.count)
    var random = SplitMix(seed: seed).split("held-out")
    let shuffled = random.shuffled(samples)
    return (shuffled.dropFirst(count).sorted(), shuffled.prefix(count).sorted())
  }
}
