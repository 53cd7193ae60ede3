internal import VitIR
internal import VitRuntime

/// A recurrent operator: `(X, W, R, B?, sequence_lens?, initial states…?, P?)` to `Y` and the last states.
///
/// With `layout` 0 `X` is `[steps, batch, input]` and `Y` `[steps, directions, batch, hidden]`; with 1 `[batch, steps,
/// input]` and `[batch, steps, directions, hidden]`. A sequence that is shorter than the others leaves zeros behind it, and
/// is reversed within its own length.
protocol RecurrentOperation: Operation {
  /// The rows of `W` and `R` for each hidden channel.
  static var gates: Int { get }
  /// The states that go from step to step, the hidden one first.
  static var states: Int { get }
  /// The numbers in `P` for each hidden channel; 0: there is no such operand.
  static var peepholes: Int { get }
  /// Working memory of `[batch, hidden]` beside that which all have.
  static var extraRows: Int { get }
  /// The gates, the first so many, whose recurrent bias is added before the step.
  var jointBiases: Int { get }
  var settings: RecurrentSettings { get }
  /// Does the step that `run` stands at, for all items whose sequences are not over.
  func step<Real: BinaryFloatingPoint>(_ run: RecurrentRun<Real>)
}

extension RecurrentOperation {
  static var peepholes: Int { 0 }
  static var extraRows: Int { 0 }
  var jointBiases: Int { Self.gates }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    let last = 4 + Self.states + (Self.peepholes > 0 ? 1 : 0)
    try operands.expectCount(3...(last + 1))
    guard (1...1 + Self.states).contains(operands.resultCount) else {
      throw VitError(
        "expected 1 to \(1 + Self.states) results, found \(operands.resultCount)", code: "result-count")
    }
    let x = try operands.float(0, "X", rank: 3...3)
    let r = try operands.float(2, "R", rank: 3...3)
    let wanted = settings.hiddenSize
    guard let hidden = r.shape[2].fixedValue, hidden > 0, hidden <= 1 << 24, wanted ?? hidden == hidden
    else {
      throw VitError(
        "'R' is \(r), expected \(wanted.map(String.init) ?? "some") hidden channels", code: "operand-shape")
    }
    let isBatchFirst = settings.isBatchFirst
    let (steps, batch) = isBatchFirst ? (x.shape[1], x.shape[0]) : (x.shape[0], x.shape[1])
    let (count, rows) = (Dimension.fixed(settings.directions), Dimension.fixed(Self.gates * hidden))
    try operands.expect(1, "W", x.with([count, rows, x.shape[2]]))
    try operands.expect(2, "R", x.with([count, rows, .fixed(hidden)]))
    try operands.expectOptional(3, "B", x.with([count, rows * 2]))
    let state = x.with(isBatchFirst ? [batch, count, .fixed(hidden)] : [count, batch, .fixed(hidden)])
    operands.note(4, "sequence_lens")
    if let lengths = operands[4], ![.i32, .i64].contains(lengths.element) || lengths.shape != [batch] {
      throw VitError("'sequence_lens' is \(lengths), expected i32[\(batch)]", code: "operand-shape")
    }
    for index in 0..<Self.states {
      try operands.expectOptional(5 + index, index == 0 ? "initial_h" : "initial_c", state)
    }
    if Self.peepholes > 0 {
      try operands.expectOptional(last, "P", x.with([count, .fixed(Self.peepholes * hidden)]))
    }
    let y = x.with(
      isBatchFirst ? [batch, steps, count, .fixed(hidden)] : [steps, count, batch, .fixed(hidden)])
    return [y] + [TensorType](repeating: state, count: operands.resultCount - 1)
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let state = settings.isBatchFirst ? 0 : 1
    let axes = (0..<operands.count).map { index -> Int? in
      guard operands.has(index) else { return nil }
      switch index {
      case 0, 5..<5 + Self.states: return state
      case 4: return 0
      default: return nil
      }
    }
    return AxisMap([
      AxisMap.Letter(
        .parallel, axes, results.indices.map { $0 == 0 && !settings.isBatchFirst ? 2 : state })
    ])
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 2: .weight
    case 3: .bias
    case 4: .index
    case 5 + Self.states: .gain
    default: .data
    }
  }

  /// The input's share of the gates, of every step and of one direction; the recurrence's, of one step; biases; states and
  /// what else there is.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], let r = operands[2] else { return [] }
    let (hidden, batch) = (r.extents[2], x.extents[settings.isBatchFirst ? 0 : 1])
    let rows = [Int](repeating: batch, count: Self.states + Self.extraRows).map { [$0, hidden] }
    let shared = [
      [x.extents[0] * x.extents[1], Self.gates * hidden], [batch, Self.gates * hidden], [Self.gates * hidden],
    ]
    return (shared + rows).map { TensorType(x.element, fixed: $0) }
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let r = operands[2] else { return Cost() }
    let hidden = r.extents[2]
    let step = Self.gates * hidden * (2 * (x.width + hidden) + 3)
    return Cost(flops: settings.directions * x.rows * step, bytes: operands.bytes(results))
  }

  func forward(_ context: KernelContext) {
    if context.input(0).element == .f64 { run(context, Double.self) } else { run(context, Float.self) }
  }

  private func run<Real: BinaryFloatingPoint>(_ context: KernelContext, _: Real.Type) {
    context.output.zero()
    for direction in 0..<settings.directions {
      var run = RecurrentRun<Real>(
        context, settings, gates: Self.gates, states: Self.states, direction: direction)
      run.project(jointBiases: jointBiases)
      run.loadStates()
      for step in 0..<run.steps {
        run.place = step
        self.step(run)
        run.store()
      }
      run.storeStates()
    }
  }
}
