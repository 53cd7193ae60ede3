public import VitIR

extension LSTMFull {
  /// How open the output gates start.
  private static let outputGate = 2.0

  /// From attention: its values, averaged in every direction over each head's reach by cells that are small enough for
  /// tanh to be nearly linear, with next to constant gates and no recurrence of the gates; the mean of the directions; its
  /// output map. Else at random, with open forget gates.
  public func initialise(
    _ layout: MixerLayout, from attention: AttentionWeights?, random: inout SplitMix
  ) throws -> [Tensor] {
    let (dim, width, w) = (layout.dim, layout.width, layout.headWidth)
    let directions = layout.order.directionCount
    let blocks = [layout.heads * directions, 4 * w, w]
    let merge = [layout.heads, w, directions * w]
    let bound = 1 / Double(w).squareRoot()
    guard let attention else {
      return [
        FirstValues.uniform([width, dim], bound: 1 / Double(dim).squareRoot(), &random),
        FirstValues.constant([width]),
        FirstValues.uniform(blocks, bound: bound, &random),
        Tensor(
          .f32, shape: [4 * directions * width],
          values: (0..<4 * directions * width).map { $0 / w % 4 == 1 ? 1.0 : 0 }),
        FirstValues.uniform(blocks, bound: bound, &random),
        FirstValues.uniform(merge, bound: bound / Double(directions).squareRoot(), &random),
        FirstValues.constant([width]),
        FirstValues.output(layout, nil, &random), FirstValues.outputBias(layout, nil),
      ]
    }
    let inherited = try InheritedChannels(layout, attention)
    let scales = Timescales(layout)
    let open = Timescales.logistic(LSTMFull.outputGate)
    var wp = (0..<width * dim).map { _ in random.normal() / Double(dim).squareRoot() }
    var bp = [Double](repeating: 0, count: width)
    // A little noise breaks the symmetry of gates that would otherwise see nothing of the input.
    var u = (0..<blocks.reduce(1, *)).map { $0 / (w * w) % 4 == 2 ? 0 : random.normal() * 0.02 }
    var b = [Double](repeating: 0, count: 4 * directions * width)
    var m = [Double](repeating: 0, count: merge.reduce(1, *))
    for index in 0..<width {
      let (head, place) = (index / w, index % w)
      let channel = inherited.channels[index]
      if let channel {
        wp.replaceSubrange(index * dim..<(index + 1) * dim, with: channel.value)
        bp[index] = channel.valueBias
      }
      let small = 0.2 / (channel?.rms ?? 1)
      for direction in 0..<directions {
        // The first row of the block, whose gates have w rows each.
        let block = (head * directions + direction) * 4 * w
        let timescale = inherited.timescale(index, direction: direction) ?? scales.random(&random)
        let decay = Timescales.decayLogit(timescale)
        b[block + place] = -decay
        b[block + w + place] = decay
        b[block + 3 * w + place] = LSTMFull.outputGate
        u[(block + 2 * w + place) * w + place] = small
        m[(index * directions + direction) * w + place] = 1 / (small * open * Double(directions))
      }
    }
    return [
      Tensor(.f32, shape: [width, dim], values: wp), Tensor(.f32, shape: [width], values: bp),
      Tensor(.f32, shape: blocks, values: u), Tensor(.f32, shape: [4 * directions * width], values: b),
      FirstValues.constant(blocks), Tensor(.f32, shape: merge, values: m), FirstValues.constant([width]),
      FirstValues.output(layout, inherited, &random), FirstValues.outputBias(layout, inherited),
    ]
  }

  /// The merge, towards the attended values, for a mixer as wide as they are; see `LSTMMergeFit`.
  public func fit(_ layout: MixerLayout, _ parameters: [Tensor]) throws -> (any InteriorFit)? {
    try LSTMMergeFit(self, layout, parameters)
  }
}
