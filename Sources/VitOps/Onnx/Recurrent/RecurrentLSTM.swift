internal import VitIR
internal import VitRuntime

/// `onnx.LSTM(X, W, R, B?, sequence_lens?, initial_h?, initial_c?, P?)`: a long short-term memory in one
/// direction or two.
///
/// Gates in the order input, output, forget, cell. With `layout` 0 `X` is `[steps, batch, input]` and `Y`
/// `[steps, directions, batch, hidden]`; with 1 `[batch, steps, input]` and `[batch, steps, directions,
/// hidden]`. A sequence that is shorter than the others leaves zeros behind it, and is reversed within its
/// own length.
struct OnnxLSTM: Operation {
  static let name = "onnx.LSTM"
  static let summary = "A long short-term memory over a sequence"

  enum Direction: String, CaseIterable, Sendable { case forward, reverse, bidirectional }

  let direction: Direction
  let hiddenSize: Int?
  let isBatchFirst: Bool
  let couplesForget: Bool
  let clip: Double?
  /// For each direction the functions of gates, cell input and cell.
  let activations: [RecurrentActivation]

  init(attributes: inout AttributeReader) throws(VitError) {
    direction = try attributes.choice("direction", default: .forward)
    hiddenSize = try attributes.optionalInt("hidden_size")
    isBatchFirst = try attributes.bool("layout", default: false)
    couplesForget = try attributes.bool("input_forget", default: false)
    clip = try attributes.optionalFloat("clip")
    attributes.ignore("output_sequence")
    let count = direction == .bidirectional ? 2 : 1
    let standard = [[String]](repeating: ["Sigmoid", "Tanh", "Tanh"], count: count).flatMap { $0 }
    let names = try attributes.optionalStrings("activations") ?? standard
    guard names.count == 3 * count else {
      throw VitError(
        "attribute 'activations' has \(names.count) entries, expected \(3 * count)", code: "attribute-value")
    }
    var alphas = try attributes.optionalFloats("activation_alpha").map { $0[...] } ?? []
    var betas = try attributes.optionalFloats("activation_beta").map { $0[...] } ?? []
    var functions: [RecurrentActivation] = []
    for name in names { functions.append(try RecurrentActivation(name, &alphas, &betas)) }
    activations = functions
    guard clip ?? 1 >= 0, hiddenSize ?? 1 > 0 else {
      throw VitError("attributes 'clip' and 'hidden_size' must not be negative", code: "attribute-value")
    }
  }

  var attributes: Attributes {
    let functions = activations.map(\.canonical)
    var result = Attributes([
      ("direction", .string(direction.rawValue)), ("layout", .int(isBatchFirst ? 1 : 0)),
      ("input_forget", .int(couplesForget ? 1 : 0)), ("activations", .strings(functions.map(\.name))),
    ])
    let (alphas, betas) = (functions.compactMap(\.alpha), functions.compactMap(\.beta))
    if !alphas.isEmpty { result["activation_alpha"] = .floats(alphas) }
    if !betas.isEmpty { result["activation_beta"] = .floats(betas) }
    result["clip"] = clip.map(Attribute.float)
    result["hidden_size"] = hiddenSize.map(Attribute.int)
    return result
  }

  private var directions: Int { direction == .bidirectional ? 2 : 1 }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...8)
    guard (1...3).contains(operands.resultCount) else {
      throw VitError("expected 1 to 3 results, found \(operands.resultCount)", code: "result-count")
    }
    let x = try operands.float(0, "X", rank: 3...3)
    let r = try operands.float(2, "R", rank: 3...3)
    guard let hidden = r.shape[2].fixedValue, hidden > 0, hidden <= 1 << 24, hiddenSize ?? hidden == hidden
    else {
      throw VitError(
        "'R' is \(r), expected \(hiddenSize.map(String.init) ?? "some") hidden channels",
        code: "operand-shape")
    }
    let (steps, batch) = isBatchFirst ? (x.shape[1], x.shape[0]) : (x.shape[0], x.shape[1])
    let count = Dimension.fixed(directions)
    try operands.expect(1, "W", x.with([count, .fixed(4 * hidden), x.shape[2]]))
    try operands.expect(2, "R", x.with([count, .fixed(4 * hidden), .fixed(hidden)]))
    try operands.expectOptional(3, "B", x.with([count, .fixed(8 * hidden)]))
    let state = x.with(isBatchFirst ? [batch, count, .fixed(hidden)] : [count, batch, .fixed(hidden)])
    if let lengths = operands[4], ![.i32, .i64].contains(lengths.element) || lengths.shape != [batch] {
      throw VitError("'sequence_lens' is \(lengths), expected i32[\(batch)]", code: "operand-shape")
    }
    try operands.expectOptional(5, "initial_h", state)
    try operands.expectOptional(6, "initial_c", state)
    try operands.expectOptional(7, "P", x.with([count, .fixed(3 * hidden)]))
    let y = x.with(
      isBatchFirst ? [batch, steps, count, .fixed(hidden)] : [steps, count, batch, .fixed(hidden)])
    return Array([y, state, state].prefix(operands.resultCount))
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    let state = isBatchFirst ? 0 : 1
    let axes = (0..<operands.count).map { index -> Int? in
      guard operands.has(index) else { return nil }
      switch index {
      case 0, 5, 6: return state
      case 4: return 0
      default: return nil
      }
    }
    return AxisMap([
      AxisMap.Letter(.parallel, axes, results.indices.map { $0 == 0 && !isBatchFirst ? 2 : state })
    ])
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 1, 2: .weight
    case 3: .bias
    case 4: .index
    case 7: .gain
    default: .data
    }
  }

  /// The input's share of the gates, of every step and of one direction; the recurrence's, of one step;
  /// states and cells; biases.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], let r = operands[2] else { return [] }
    let (hidden, batch) = (r.extents[2], x.extents[isBatchFirst ? 0 : 1])
    return [
      [x.extents[0] * x.extents[1], 4 * hidden], [batch, 4 * hidden], [batch, hidden], [batch, hidden],
      [4 * hidden],
    ].map { TensorType(x.element, fixed: $0) }
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0], let r = operands[2] else { return Cost() }
    let (hidden, rows) = (r.extents[2], x.rows)
    return Cost(
      flops: directions * rows * (8 * hidden * (x.width + hidden) + 12 * hidden),
      bytes: operands.bytes(results))
  }

  func forward(_ context: KernelContext) {
    if context.input(0).element == .f64 { run(context, Double.self) } else { run(context, Float.self) }
  }

  /// Where the parts of a step lie.
  private struct Shape {
    let steps, batch, input, hidden, directions: Int
    let isBatchFirst: Bool

    func row(_ step: Int, _ item: Int) -> Int { isBatchFirst ? item * steps + step : step * batch + item }
    func output(_ step: Int, _ direction: Int, _ item: Int) -> Int {
      (isBatchFirst
        ? (item * steps + step) * directions + direction : (step * directions + direction) * batch + item)
        * hidden
    }
    func state(_ direction: Int, _ item: Int) -> Int {
      (isBatchFirst ? item * directions + direction : direction * batch + item) * hidden
    }
  }

  private func run<Real: BinaryFloatingPoint>(_ context: KernelContext, _: Real.Type) {
    let x = context.input(0)
    let recurrence = context.input(2)
    let hidden = recurrence.shape[2]
    let shape = Shape(
      steps: x.shape[isBatchFirst ? 1 : 0], batch: x.shape[isBatchFirst ? 0 : 1], input: x.shape[2],
      hidden: hidden,
      directions: directions, isBatchFirst: isBatchFirst)
    let (gates, recurrent) = (context.scratch[0], context.scratch[1])
    let (states, cells) = (context.scratch[2], context.scratch[3])
    context.output.zero()
    for index in 0..<directions {
      let isReverse = direction == .reverse || index == 1
      let weight = recurrence.part(index * 4 * hidden * hidden, of: 4 * hidden * hidden)
      project(context, shape, index, Real.self)
      load(context.optionalInput(5), shape, index, into: states, Real.self)
      load(context.optionalInput(6), shape, index, into: cells, Real.self)
      for step in 0..<shape.steps {
        Kernel.gemm(
          transB: true, m: shape.batch, n: 4 * hidden, k: hidden, a: states, b: weight, c: recurrent,
          pool: context.pool)
        for item in 0..<shape.batch {
          let length = self.length(context, item, shape.steps)
          guard step < length else { continue }
          let place = isReverse ? length - 1 - step : step
          let row = gates.pointer(as: Real.self) + shape.row(place, item) * 4 * hidden
          cell(
            context, index, row, recurrent.pointer(as: Real.self) + item * 4 * hidden,
            states.pointer(as: Real.self) + item * hidden, cells.pointer(as: Real.self) + item * hidden,
            hidden)
          let y = context.output.pointer(as: Real.self) + shape.output(place, index, item)
          y.update(from: states.pointer(as: Real.self) + item * hidden, count: hidden)
        }
      }
      for place in context.outputs.indices.dropFirst() {
        let (result, source) = (context.outputs[place], place == 1 ? states : cells)
        for item in 0..<shape.batch {
          (result.pointer(as: Real.self) + shape.state(index, item))
            .update(from: source.pointer(as: Real.self) + item * hidden, count: hidden)
        }
      }
    }
  }

  /// The input's share of the gates, both biases included.
  private func project<Real: BinaryFloatingPoint>(
    _ context: KernelContext, _ shape: Shape, _ index: Int, _: Real.Type
  ) {
    let bias = context.scratch[4]
    bias.zero()
    let gates = 4 * shape.hidden
    if let both = context.optionalInput(3) {
      let (from, to) = (both.pointer(as: Real.self) + index * 2 * gates, bias.pointer(as: Real.self))
      for gate in 0..<gates { to[gate] = from[gate] + from[gates + gate] }
    }
    Kernel.gemm(
      transB: true, m: shape.steps * shape.batch, n: gates, k: shape.input, a: context.input(0),
      b: context.input(1).part(index * gates * shape.input, of: gates * shape.input), c: context.scratch[0],
      bias: bias, pool: context.pool)
  }

  private func load<Real: BinaryFloatingPoint>(
    _ initial: View?, _ shape: Shape, _ index: Int, into state: View, _: Real.Type
  ) {
    guard let initial else { return state.zero() }
    for item in 0..<shape.batch {
      (state.pointer(as: Real.self) + item * shape.hidden)
        .update(from: initial.pointer(as: Real.self) + shape.state(index, item), count: shape.hidden)
    }
  }

  private func length(_ context: KernelContext, _ item: Int, _ steps: Int) -> Int {
    guard let lengths = context.optionalInput(4) else { return steps }
    let length = lengths.element == .i32 ? Int(lengths.pointer(as: Int32.self)[item]) : Int(lengths.i64[item])
    return min(max(length, 0), steps)
  }

  /// One step of one item: updates its state and cell.
  private func cell<Real: BinaryFloatingPoint>(
    _ context: KernelContext, _ index: Int, _ input: UnsafeMutablePointer<Real>,
    _ recurrent: UnsafeMutablePointer<Real>,
    _ state: UnsafeMutablePointer<Real>, _ cell: UnsafeMutablePointer<Real>, _ hidden: Int
  ) {
    let peepholes = context.optionalInput(7).map { $0.pointer(as: Real.self) + index * 3 * hidden }
    let (gate, squash, output) = (
      activations[3 * index], activations[3 * index + 1], activations[3 * index + 2]
    )
    func limited(_ x: Double) -> Double { clip.map { min(max(x, -$0), $0) } ?? x }
    for channel in 0..<hidden {
      func sum(_ part: Int, _ peephole: Int?, _ cell: Double) -> Double {
        let place = part * hidden + channel
        let seen =
          peephole.flatMap { place in peepholes.map { Double($0[place * hidden + channel]) * cell } } ?? 0
        return limited(Double(input[place]) + Double(recurrent[place]) + seen)
      }
      let before = Double(cell[channel])
      let take = gate.apply(sum(0, 0, before))
      let keep = couplesForget ? 1 - take : gate.apply(sum(2, 2, before))
      let after = keep * before + take * squash.apply(sum(3, nil, 0))
      cell[channel] = Real(after)
      state[channel] = Real(gate.apply(sum(1, 1, after)) * output.apply(after))
    }
  }
}
