public import VitIR
internal import VitRuntime

extension SSD {
  /// Each direction as one chunk: products with the decays between all pairs of tokens. Logarithms of decays are added up and
  /// subtracted there, which in single precision costs up to 1e-4 where decays are strong.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let lowering = try SSDLowering(self, builder, operands)
    return [try lowering.lower(into: &builder)]
  }
}

/// A state space mixer as ONNX operators.
private struct SSDLowering {
  private let mixer: SSD
  private let operands: [ValueID?]
  private let x: ValueID
  private let element: ElementType
  private let layout: MixerLayout
  private let scan: ScanLowering
  private let places: SSD.Places

  init(_ mixer: SSD, _ builder: GraphBuilder, _ operands: [ValueID?]) throws(VitError) {
    self.mixer = mixer
    self.operands = operands
    places = mixer.places
    let types = builder.operands(operands)
    let (type, weight) = (try types.type(0, "x"), try types.type(SSD.values.weight, "wv"))
    let output = try types.type(places.output.bias, "bo")
    guard let x = operands[0], let inner = weight.shape[0].fixedValue, inner % mixer.copies == 0 else {
      throw VitError("'wv' is \(weight), expected rows for \(mixer.copies) directions", code: "operand-shape")
    }
    self.x = x
    element = type.element
    layout = try mixer.scan.layout(type, width: .fixed(inner / mixer.copies), outputDim: output.shape[0])
    scan = ScanLowering(layout)
  }

  private var directions: Int { layout.order.directionCount }
  private var inner: Int { layout.width * mixer.copies }

  /// A part of what the directions share evenly.
  private func own(
    _ value: ValueID, _ direction: Int, of count: Int, axis: Int, from start: Int = 0, in total: Int? = nil,
    _ builder: inout GraphBuilder
  )
    throws(VitError) -> ValueID
  {
    let size = count / directions
    let first = start + direction * size
    return try ScanLowering.slice(value, first..<first + size, of: total ?? count, axis: axis, into: &builder)
  }

  private func number(_ value: Double, _ builder: inout GraphBuilder) -> ValueID {
    builder.constant([value], shape: [], element: element)
  }

  func lower(into builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let keys = mixer.keyWidth
    let parts = [
      (try SSD.values.lower(x, operands, into: &builder), inner),
      (try SSD.keys.lower(x, operands, into: &builder), keys),
      (try SSD.queries.lower(x, operands, into: &builder), keys),
    ]
    let rates = try SSD.rates.lower(x, operands, into: &builder)
    var results: [ValueID] = []
    for direction in 0..<directions {
      func sequence(_ value: ValueID, _ count: Int) throws(VitError) -> ValueID {
        let part = try own(value, direction, of: count, axis: 2, &builder)
        return try scan.read(part, direction: direction, axis: 1, into: &builder)
      }
      var sequences: [ValueID] = []
      for (value, count) in parts { sequences.append(try sequence(value, count)) }
      let read = try convolved(sequences, direction, &builder)
      let o = try core(read, try sequence(rates, mixer.heads), direction, &builder)
      results.append(try scan.write(o, direction: direction, axis: 2, into: &builder))
    }
    // [batch, heads, tokens, channels]
    var s = try ScanLowering.join(results, axis: 1, into: &builder)
    if mixer.isShaped { s = try shaped(s, &builder) }
    if mixer.form.directions == .full { s = try merged(s, &builder) }
    return try places.output.lower(try flat(s, layout.width, &builder), operands, into: &builder)
  }

  /// `[batch, heads, tokens, channels]` as tokens of all channels.
  private func flat(_ x: ValueID, _ width: Int, _ builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let ordered = try builder.add("onnx.Transpose", [x], [("perm", .ints([0, 2, 1, 3]))])
    return try builder.add("onnx.Reshape", [ordered, builder.integers([0, 0, width])])
  }

  /// `[batch, steps, blocks·width]` as `[batch, blocks, steps, width]`.
  private func split(_ x: ValueID, _ blocks: Int, _ width: Int, _ builder: inout GraphBuilder)
    throws(VitError)
    -> ValueID
  {
    let cut = try builder.add("onnx.Reshape", [x, builder.integers([0, 0, blocks, width])])
    return try builder.add("onnx.Transpose", [cut], [("perm", .ints([0, 2, 1, 3]))])
  }

  /// Values, keys and queries of a direction behind convolution and activation.
  private func convolved(_ sequences: [ValueID], _ direction: Int, _ builder: inout GraphBuilder)
    throws(VitError)
    -> [ValueID]
  {
    guard mixer.isConvolved else { return sequences }
    let widths = [inner, mixer.keyWidth, mixer.keyWidth]
    let total = widths.reduce(0, +)
    var joined = try ScanLowering.join(sequences, axis: 2, into: &builder)
    if let taps = places.taps, let bias = places.tapBias, let taps = operands[taps], let bias = operands[bias]
    {
      func channels(_ value: ValueID) throws(VitError) -> ValueID {
        var (blocks, start) = ([ValueID](), 0)
        for width in widths {
          blocks.append(try own(value, direction, of: width, axis: 0, from: start, in: total, &builder))
          start += width
        }
        return try ScanLowering.join(blocks, axis: 0, into: &builder)
      }
      let weight = try builder.add("onnx.Unsqueeze", [try channels(taps), builder.integers([1])])
      let rows = try builder.add("onnx.Transpose", [joined], [("perm", .ints([0, 2, 1]))])
      let result = try builder.add(
        "onnx.Conv", [rows, weight, try channels(bias)],
        [
          ("group", .int(total / directions)), ("kernel_shape", .ints([mixer.form.taps])),
          ("pads", .ints([mixer.form.taps - 1, 0])),
        ])
      joined = try builder.add("onnx.Transpose", [result], [("perm", .ints([0, 2, 1]))])
    }
    if mixer.form.activation == .silu { joined = try Activation.silu.lower(joined, into: &builder) }
    var (results, start) = ([ValueID](), 0)
    for width in widths {
      let size = width / directions
      results.append(
        try ScanLowering.slice(joined, start..<start + size, of: total / directions, axis: 2, into: &builder))
      start += size
    }
    return results
  }

  /// The scan of a direction: `[batch, heads, steps, channels]`.
  private func core(_ read: [ValueID], _ rates: ValueID, _ direction: Int, _ builder: inout GraphBuilder)
    throws(VitError) -> ValueID
  {
    let heads = mixer.heads / directions
    let groups = mixer.groups * mixer.copies / directions
    let r = try builder.add("onnx.Transpose", [rates], [("perm", .ints([0, 2, 1]))])
    let v = try split(read[0], heads, layout.headWidth, &builder)
    var (written, decay) = (v, r)
    let last = builder.integers([3])
    if mixer.form.write == .delta, let place = places.speed, let a = operands[place] {
      let beta = try builder.add("onnx.Softplus", [r])
      let speed = try builder.add("onnx.Exp", [try own(a, direction, of: mixer.heads, axis: 0, &builder)])
      let column = try builder.add("onnx.Reshape", [speed, builder.integers([heads, 1])])
      decay = try builder.add("onnx.Neg", [try builder.add("onnx.Mul", [beta, column])])
      written = try builder.add("onnx.Mul", [v, try builder.add("onnx.Unsqueeze", [beta, last])])
    } else {
      let rest = try builder.add("onnx.Softplus", [try builder.add("onnx.Neg", [r])])
      decay = try builder.add("onnx.Mul", [rest, number(-1.0 / SSDShape.normaliser, &builder)])
    }
    // M[i][j] = exp(Σ g up to i − Σ g up to j) for j ≤ i; what is masked must not be exponentiated.
    let sums = try builder.add("onnx.CumSum", [decay, builder.integers([2], shape: [])])
    let rows = try builder.add("onnx.Unsqueeze", [sums, last])
    let columns = try builder.add("onnx.Unsqueeze", [sums, builder.integers([2])])
    let places = Array(0..<scan.steps)
    let seen = try builder.add(
      "onnx.GreaterOrEqual",
      [
        builder.integers(places, shape: [places.count, 1]),
        builder.integers(places, shape: [1, places.count]),
      ])
    let logarithms = try builder.add(
      "onnx.Where", [seen, try builder.add("onnx.Sub", [rows, columns]), number(-.infinity, &builder)])
    let decays = try builder.add("onnx.Exp", [logarithms])
    func grouped(_ x: ValueID) throws(VitError) -> ValueID {
      let split = try split(x, groups, mixer.state, &builder)
      if groups == heads { return split }
      let indices = (0..<heads).map { $0 * groups / heads }
      return try builder.add("onnx.Gather", [split, builder.integers(indices)], [("axis", .int(1))])
    }
    let k = try builder.add("onnx.Transpose", [try grouped(read[1])], [("perm", .ints([0, 1, 3, 2]))])
    var scores = try builder.add("onnx.MatMul", [try grouped(read[2]), k])
    if mixer.scale != 1 { scores = try builder.add("onnx.Mul", [scores, number(mixer.scale, &builder)]) }
    let o = try builder.add("onnx.MatMul", [try builder.add("onnx.Mul", [scores, decays]), written])
    guard let place = self.places.skip, let skip = operands[place] else { return o }
    let factor = try builder.add(
      "onnx.Reshape",
      [try own(skip, direction, of: mixer.heads, axis: 0, &builder), builder.integers([heads, 1, 1])])
    return try builder.add("onnx.Add", [o, try builder.add("onnx.Mul", [v, factor])])
  }

  /// Norm and gate of `[batch, heads, tokens, channels]`.
  private func shaped(_ o: ValueID, _ builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let (heads, width) = (mixer.heads, layout.headWidth)
    var gate: ValueID?
    if let map = places.gate {
      let z = try split(try map.lower(x, operands, into: &builder), heads, width, &builder)
      gate = try Activation.silu.lower(z, into: &builder)
    }
    var s = o
    if mixer.form.norm == .all, let gate { s = try builder.add("onnx.Mul", [s, gate]) }
    if mixer.form.norm != .none, let place = places.norm, let gain = operands[place] {
      // Heads of a direction are normalised together, or each alone.
      let together = mixer.form.norm == .all ? layout.heads : 1
      let blocks = heads / together
      func blocked(_ x: ValueID) throws(VitError) -> ValueID {
        let rows = try builder.add("onnx.Transpose", [x], [("perm", .ints([0, 2, 1, 3]))])
        return try builder.add("onnx.Reshape", [rows, builder.integers([0, 0, blocks, together * width])])
      }
      let rows = try blocked(s)
      let square = try builder.add(
        "onnx.ReduceMean", [try builder.add("onnx.Mul", [rows, rows]), builder.integers([3])],
        [("keepdims", .int(1))])
      let root = try builder.add(
        "onnx.Sqrt", [try builder.add("onnx.Add", [square, number(GateShape.epsilon, &builder)])])
      let shape = builder.integers([blocks, together * width])
      let factor = try builder.add("onnx.Reshape", [gain, shape])
      let normed = try builder.add("onnx.Mul", [try builder.add("onnx.Div", [rows, root]), factor])
      let cut = try builder.add("onnx.Reshape", [normed, builder.integers([0, 0, heads, width])])
      s = try builder.add("onnx.Transpose", [cut], [("perm", .ints([0, 2, 1, 3]))])
    }
    if mixer.form.norm != .all, let gate { s = try builder.add("onnx.Mul", [s, gate]) }
    return s
  }

  /// The channels of each head in all directions, mapped to one direction's.
  private func merged(_ s: ValueID, _ builder: inout GraphBuilder) throws(VitError) -> ValueID {
    let (heads, width) = (layout.heads, layout.headWidth)
    guard let weight = places.merge.flatMap({ operands[$0] }),
      let bias = places.mergeBias.flatMap({ operands[$0] })
    else { throw VitError("the merge is missing", code: "operand-missing") }
    var directions: [ValueID] = []
    for copy in 0..<mixer.copies {
      directions.append(
        try ScanLowering.slice(s, copy * heads..<(copy + 1) * heads, of: mixer.heads, axis: 1, into: &builder)
      )
    }
    let joined = try ScanLowering.join(directions, axis: 3, into: &builder)
    let transposed = try builder.add("onnx.Transpose", [weight], [("perm", .ints([0, 2, 1]))])
    let shift = try builder.add("onnx.Reshape", [bias, builder.integers([heads, 1, width])])
    return try builder.add("onnx.Add", [try builder.add("onnx.MatMul", [joined, transposed]), shift])
  }
}
