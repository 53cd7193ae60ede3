internal import VitIR

/// Rotary positions: pairs of channels turned by angles that a token's position looks up.
///
/// The operand is `[batch, heads, tokens, depth]` or `[batch, tokens, heads·depth]`; `cosines` and `sines`
/// are `[positions, pairs]`, or `[batch, tokens, pairs]` where there are no positions.
struct Rotation: Sendable {
  /// Heads of an operand of three axes; absent: as many as `depth` says.
  var heads: Int
  /// How many channels of a head are turned; 0: all.
  var width: Int
  /// Whether the channels of a pair are neighbours, rather than half a head apart.
  var isInterleaved: Bool

  /// Concrete extents.
  struct Extents {
    var batch: Int
    var tokens: Int
    var heads: Int
    var depth: Int
    var pairs: Int
    var steps: (batch: Int, token: Int, head: Int)
  }

  func extents(_ shape: [Int], pairs: Int) -> Extents {
    if shape.count == 4 {
      return Extents(
        batch: shape[0], tokens: shape[2], heads: shape[1], depth: shape[3], pairs: pairs,
        steps: (shape[1] * shape[2] * shape[3], shape[3], shape[2] * shape[3]))
    }
    let depth = heads > 0 ? shape[2] / heads : width > 0 ? width : 2 * pairs
    return Extents(
      batch: shape[0], tokens: shape[1], heads: shape[2] / max(1, depth), depth: depth, pairs: pairs,
      steps: (shape[1] * shape[2], shape[2], depth))
  }

  /// The rule for operand and caches; `positions` is the type of the positions, where there are any.
  func check(_ x: TensorType, cosines: TensorType, sines: TensorType, positions: TensorType?) throws(VitError)
  {
    guard x.rank == 3 || x.rank == 4 else {
      throw VitError("the input has the shape \(x.shape), expected three or four axes")
    }
    guard cosines.shape == sines.shape, let pairs = cosines.shape.last?.fixedValue else {
      throw VitError("the caches have the shapes \(cosines.shape) and \(sines.shape), expected equal ones")
    }
    let wanted = positions == nil ? 3 : 2
    guard cosines.rank == wanted else {
      throw VitError("the caches have the shape \(cosines.shape), expected \(wanted) axes")
    }
    guard let last = x.shape.last?.fixedValue else {
      throw VitError("the input has \(x.shape[x.rank - 1]) channels, expected a number without symbols")
    }
    if x.rank == 3, heads > 0, last % heads != 0 {
      throw VitError("\(last) channels cannot be parted into \(heads) heads")
    }
    let depth = x.rank == 4 ? last : heads > 0 ? last / heads : width > 0 ? width : 2 * pairs
    let turned = width > 0 ? width : depth
    guard depth > 0, last % depth == 0, turned <= depth, turned == 2 * pairs else {
      throw VitError(
        "the caches turn \(pairs) pairs of channels, expected half of \(turned) in heads of \(depth) channels"
      )
    }
    let (batch, tokens) = (x.shape[0], x.rank == 4 ? x.shape[2] : x.shape[1])
    if let positions {
      guard positions.shape == [batch, tokens] || positions.elements == 1 else {
        throw VitError(
          "the positions have the shape \(positions.shape), expected \([batch, tokens]) or one number")
      }
      guard cosines.shape[0] != 0 else { throw VitError("the caches hold no positions") }
    } else if cosines.shape[0] != batch || cosines.shape[1] != tokens {
      throw VitError("the caches have the shape \(cosines.shape), expected [\(batch), \(tokens), \(pairs)]")
    }
  }

  /// Which row of the caches belongs to a token.
  private func row(_ positions: View?, _ item: Int, _ token: Int, _ extents: Extents, rows: Int) -> Int {
    guard let positions else { return item * extents.tokens + token }
    func entry(_ index: Int) -> Int {
      positions.element == .i64
        ? Int(positions.pointer(as: Int64.self)[index]) : Int(positions.pointer(as: Int32.self)[index])
    }
    // A single number is the position of the first token.
    let isOffset = positions.count == 1 && extents.batch * extents.tokens != 1 || positions.rank == 1
    let place = isOffset ? entry(0) &+ token : entry(item * extents.tokens + token)
    return min(max(place < 0 ? place &+ rows : place, 0), rows - 1)
  }

  /// `y ← x` turned; backwards, `y ← y + x` turned the other way.
  func turn(
    _ x: View, _ cosines: View, _ sines: View, _ positions: View?, into y: View, backwards: Bool,
    pool: any WorkPool
  ) {
    let pairs = cosines.shape[cosines.rank - 1]
    let extents = extents(x.shape, pairs: pairs)
    let rows = pairs == 0 ? 0 : cosines.count / pairs
    func run<T: Real>(_ type: T.Type) {
      let (source, target) = (x.pointer(as: T.self), y.pointer(as: T.self))
      let (c, s) = (cosines.pointer(as: T.self), sines.pointer(as: T.self))
      let (stepA, stepB) = isInterleaved ? (2, 1) : (1, pairs)
      pool.run(tasks: extents.batch * extents.tokens) { task, _ in
        let (item, token) = task.quotientAndRemainder(dividingBy: max(1, extents.tokens))
        let place = row(positions, item, token, extents, rows: rows) * pairs
        for head in 0..<extents.heads {
          let start = item * extents.steps.batch + token * extents.steps.token + head * extents.steps.head
          for pair in 0..<pairs {
            let (i, j) = (start + pair * stepA, start + pair * stepA + stepB)
            let (a, b, cosine, sine) = (source[i], source[j], c[place + pair], s[place + pair])
            if backwards {
              target[i] += cosine * a + sine * b
              target[j] += cosine * b - sine * a
            } else {
              target[i] = cosine * a - sine * b
              target[j] = sine * a + cosine * b
            }
          }
          for index in start + 2 * pairs..<start + extents.depth {
            target[index] = backwards ? target[index] + source[index] : source[index]
          }
        }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }

  /// Adds the caches' gradients.
  func accumulate(
    _ x: View, dy: View, _ positions: View?, into dcosines: View?, _ dsines: View?, cacheShape: [Int]
  ) {
    guard dcosines != nil || dsines != nil else { return }
    let pairs = cacheShape[cacheShape.count - 1]
    let extents = extents(x.shape, pairs: pairs)
    let rows = cacheShape.dropLast().reduce(1, *)
    func run<T: Real>(_ type: T.Type) {
      let (source, flow) = (x.pointer(as: T.self), dy.pointer(as: T.self))
      let (c, s) = (dcosines?.pointer(as: T.self), dsines?.pointer(as: T.self))
      let (stepA, stepB) = isInterleaved ? (2, 1) : (1, pairs)
      for item in 0..<extents.batch {
        for token in 0..<extents.tokens {
          let place = row(positions, item, token, extents, rows: rows) * pairs
          for head in 0..<extents.heads {
            let start = item * extents.steps.batch + token * extents.steps.token + head * extents.steps.head
            for pair in 0..<pairs {
              let (i, j) = (start + pair * stepA, start + pair * stepA + stepB)
              c?[place + pair] += flow[i] * source[i] + flow[j] * source[j]
              s?[place + pair] += flow[j] * source[i] - flow[i] * source[j]
            }
          }
        }
      }
    }
    x.element == .f64 ? run(Double.self) : run(Float.self)
  }
}

/// An operation that turns pairs of channels of operand 0.
protocol RotatingOperation: Operation {
  var rotation: Rotation { get }
  /// The operands with the cosines of all angles, their sines, and the positions with which they are looked up.
  var cosines: Int { get }
  var sines: Int { get }
  var positions: Int { get }
}

extension RotatingOperation {
  var attributes: Attributes { rotation.attributes }
  var isDifferentiable: Bool { true }

  /// Images run side by side; tokens and channels are turned by their own angles.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    rotation.axes(operands, results, positions: positions)
  }

  func role(of index: Int) -> OperandRole {
    if index == positions { return .index }
    return index == 0 ? .data : .setting
  }

  func forward(_ context: KernelContext) {
    rotation.turn(
      context.input(0), context.input(cosines), context.input(sines), context.optionalInput(positions),
      into: context.output, backwards: false, pool: context.pool)
  }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let places = context.optionalInput(positions)
    if let dx = operandGradients[0] {
      rotation.turn(
        dy, context.input(cosines), context.input(sines), places, into: dx, backwards: true,
        pool: context.pool)
    }
    rotation.accumulate(
      context.input(0), dy: dy, places, into: operandGradients[cosines], operandGradients[sines],
      cacheShape: context.input(cosines).shape)
  }
}

/// `onnx.RotaryEmbedding`: operands X, cosines, sines and, where the caches are looked up, positions.
struct OnnxRotaryEmbedding: RotatingOperation {
  static let name = "onnx.RotaryEmbedding"
  static let summary = "Pairs of channels turned by angles that depend on a token's position"
  static let example = "(f32[1, 2, 2, 6], f32[8, 3], f32[8, 3], i64[1, 2]) {interleaved = 1}"
  let rotation: Rotation
  var cosines: Int { 1 }
  var sines: Int { 2 }
  var positions: Int { 3 }

  init(attributes: inout AttributeReader) throws(VitError) {
    rotation = try Rotation(attributes: &attributes)
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...4)
    try operands.expectResults()
    let x = try operands.typed(0, "X", ElementType.reals)
    let (cosines, sines) = (
      try operands.typed(1, "cos_cache", [x.element]), try operands.typed(2, "sin_cache", [x.element])
    )
    if operands.has(3) { _ = try operands.typed(3, "position_ids", [.i64, .i32]) }
    if x.rank == 3, rotation.heads == 0 {
      throw VitError(
        "the input has three axes, which needs the attribute 'num_heads'", code: "attribute-missing")
    }
    try rotation.check(x, cosines: cosines, sines: sines, positions: operands[3])
    return [x]
  }
}

extension Rotation {
  /// Images run side by side, with the positions and angles that each has of its own.
  func axes(_ operands: Operands, _ results: [TensorType], positions: Int) -> AxisMap {
    guard let shape = operands[0]?.shape else { return .mixed }
    let own = (0..<operands.count).map { index -> Int? in
      guard let type = operands[index] else { return nil }
      if index == 0 { return 0 }
      let rank = index == positions ? 2 : 3
      return type.rank == rank && type.shape[0] == shape[0] ? 0 : nil
    }
    return AxisMap(
      [AxisMap.Letter(.parallel, own, [0])]
        + shape.indices.dropFirst().map { AxisMap.Letter(.aligned, [$0], [$0]) }, broadcasts: true)
  }

  init(attributes: inout AttributeReader) throws(VitError) {
    heads = try attributes.int("num_heads", default: 0)
    width = try attributes.int("rotary_embedding_dim", default: 0)
    isInterleaved = try attributes.bool("interleaved", default: false)
    guard heads >= 0, width >= 0, width % 2 == 0 else {
      throw VitError(
        "attributes 'num_heads' and 'rotary_embedding_dim' are \(heads) and \(width), expected none below 0 "
          + "and an even width")
    }
  }

  var attributes: Attributes {
    Attributes([
      ("num_heads", .int(heads)), ("rotary_embedding_dim", .int(width)),
      ("interleaved", .bool(isInterleaved)),
    ])
  }
}
