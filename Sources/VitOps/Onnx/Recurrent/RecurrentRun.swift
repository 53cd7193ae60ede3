internal import VitIR
internal import VitRuntime

/// One direction of a recurrent operator while it runs: where the parts of a step lie.
struct RecurrentRun<Real: BinaryFloatingPoint> {
  let context: KernelContext
  let settings: RecurrentSettings
  let gates: Int
  let direction: Int
  let steps: Int
  let batch: Int
  let hidden: Int
  private let states: Int
  private let isReverse: Bool
  /// The step that is done, counted in the direction.
  var place = 0

  init(
    _ context: KernelContext, _ settings: RecurrentSettings, gates: Int, states: Int, direction: Int
  ) {
    self.context = context
    self.settings = settings
    self.gates = gates
    self.states = states
    self.direction = direction
    let shape = context.input(0).shape
    (steps, batch) = settings.isBatchFirst ? (shape[1], shape[0]) : (shape[0], shape[1])
    hidden = context.input(2).shape[2]
    isReverse = settings.direction == .reverse || direction == 1
  }

  // MARK: What a step works on

  /// The function of that number of this direction.
  func function(_ index: Int) -> RecurrentActivation {
    settings.activations[direction * (settings.activations.count / settings.directions) + index]
  }

  /// Whether an item's sequence is not over.
  func isActive(_ item: Int) -> Bool { place < length(item) }

  /// The input's share of an item's gates, with biases.
  func input(_ item: Int) -> UnsafeMutablePointer<Real> {
    let step = step(item)
    let row = settings.isBatchFirst ? item * steps + step : step * batch + item
    return context.scratch[0].pointer(as: Real.self) + row * gates * hidden
  }

  /// The state's share of an item's gates, as `multiply` made it.
  func recurrent(_ item: Int) -> UnsafeMutablePointer<Real> {
    context.scratch[1].pointer(as: Real.self) + item * gates * hidden
  }

  /// A state of an item: the hidden one, the cells, or further rows of working memory.
  func state(_ item: Int, _ index: Int = 0) -> UnsafeMutablePointer<Real> {
    context.scratch[3 + index].pointer(as: Real.self) + item * hidden
  }

  /// The numbers for this direction in an operand, `count` for each.
  func part(_ operand: Int, of count: Int) -> UnsafeMutablePointer<Real>? {
    context.optionalInput(operand).map { $0.pointer(as: Real.self) + direction * count }
  }

  /// `recurrent ← state·Rᵀ` for the gates in `range`, of all items.
  func multiply(_ range: Range<Int>, state index: Int = 0) {
    let matrix = context.input(2)
    let start = (direction * gates + range.lowerBound) * hidden * hidden
    let target = context.scratch[1]
    let offset = range.lowerBound * hidden
    Kernel.gemm(
      transB: true, m: batch, n: range.count * hidden, k: hidden, a: context.scratch[3 + index],
      b: matrix.part(start, of: range.count * hidden * hidden),
      c: target.part(offset, of: max(0, target.count - offset)), ldc: gates * hidden, pool: context.pool)
  }

  // MARK: Around the steps

  /// The input's share of the gates, with its bias and, for the first `jointBiases` gates, the recurrence's.
  func project(jointBiases: Int) {
    let bias = context.scratch[2]
    bias.zero()
    let rows = gates * hidden
    if let both = part(3, of: 2 * rows) {
      let sums = bias.pointer(as: Real.self)
      for row in 0..<rows { sums[row] = both[row] + (row < jointBiases * hidden ? both[rows + row] : 0) }
    }
    let width = context.input(0).shape[2]
    Kernel.gemm(
      transB: true, m: steps * batch, n: rows, k: width, a: context.input(0),
      b: context.input(1).part(direction * rows * width, of: rows * width), c: context.scratch[0],
      bias: bias, pool: context.pool)
  }

  /// Where the states of an item lie in operands and results.
  private func rowOfStates(_ item: Int) -> Int {
    (settings.isBatchFirst ? item * settings.directions + direction : direction * batch + item) * hidden
  }

  func loadStates() {
    for index in 0..<states {
      guard let initial = context.optionalInput(5 + index) else {
        context.scratch[3 + index].zero()
        continue
      }
      for item in 0..<batch {
        state(item, index)
          .update(from: initial.pointer(as: Real.self) + rowOfStates(item), count: hidden)
      }
    }
  }

  func storeStates() {
    for (index, result) in context.outputs.dropFirst().enumerated() {
      for item in 0..<batch {
        (result.pointer(as: Real.self) + rowOfStates(item)).update(from: state(item, index), count: hidden)
      }
    }
  }

  /// Writes the hidden states of the step to the first result.
  func store() {
    for item in 0..<batch where isActive(item) {
      let step = step(item)
      let row =
        settings.isBatchFirst
        ? (item * steps + step) * settings.directions + direction
        : (step * settings.directions + direction) * batch + item
      (context.output.pointer(as: Real.self) + row * hidden).update(from: state(item), count: hidden)
    }
  }

  private func length(_ item: Int) -> Int {
    guard let lengths = context.optionalInput(4) else { return steps }
    let length = lengths.element == .i32 ? Int(lengths.pointer(as: Int32.self)[item]) : Int(lengths.i64[item])
    return min(max(length, 0), steps)
  }

  /// The step of an item's sequence that is done.
  private func step(_ item: Int) -> Int { isReverse ? length(item) - 1 - place : place }
}
