public import VitIR
internal import VitRuntime

/// `vit.match(x, wv?, bv?, table?)`: which patches stand for one another from here on: the table of places in which the `count`
/// patches that are most like another one have been given to it.
///
/// `x` is `[batch, tokens, dim]`, `table` and the result are i64 `[batch, places]`: for each place the token that stands for it.
/// Patches are alike by the cosine of the means over `heads` of `x·wvᵀ + bv`, or of `x` itself, as in token merging (Bolya et
/// al., ICLR 2023). Those at even places may be given to one at an odd place; the others keep their order, so that the
/// sequence stays one of rows of the grid. The first `prefix` tokens take no part.
///
/// Cosines are rounded to multiples of 2⁻²⁰, half to even; of equal ones the first place counts. So the choice depends
/// neither on the number of threads nor on how many images run at once. No more than half of the patches can go. There is no
/// gradient: a small change of the tokens changes no choice.
public struct TokenMatch: Operation {
  /// The operation's name.
  public static let name = "vit.match"
  /// What it computes.
  public static let summary = "Which patches are most like another one, and what stands for each place then"
  /// A use of it.
  public static let example =
    "(f32[1, 6, 4], f32[4, 4], f32[4], i64[1, 8]) {count = 1, heads = 2, prefix = 1}"

  /// How many patches are given to others.
  public let count: Int
  /// The tokens before the patches.
  public let prefix: Int
  /// The heads of the map that are averaged.
  public let heads: Int

  private static let map = LinearMap(weight: 1, bias: 2)

  /// A matching of `count` patches behind `prefix` tokens.
  public init(count: Int, prefix: Int, heads: Int = 1) {
    self.count = count
    self.prefix = prefix
    self.heads = heads
  }

  /// Takes `count`, `prefix` (0) and `heads` (1).
  public init(attributes: inout AttributeReader) throws(VitError) {
    count = try attributes.tokens("count")
    prefix = try attributes.tokens("prefix", default: 0)
    heads = try attributes.tokens("heads", default: 1, from: 1)
  }

  /// All of them.
  public var attributes: Attributes {
    Attributes([("count", .int(count)), ("prefix", .int(prefix)), ("heads", .int(heads))])
  }

  /// The most patches of `patches` that can be given to others at once.
  public static func most(of patches: Int) -> Int { max(0, min(patches / 2, patches - 1)) }

  /// `[batch, places]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(1...4)
    try operands.expectOneResult()
    let x = try operands.float(0, "x", rank: 3...3)
    guard let tokens = x.shape[1].fixedValue, tokens >= prefix, tokens <= ScanOrder.maximumTokens,
      x.shape[2].fixedValue != nil
    else {
      throw VitError(
        "'x' is \(x), expected a known number of channels, and of tokens from \(prefix)",
        code: "operand-shape")
    }
    operands.note(1, "wv")
    operands.note(2, "bv")
    if operands.has(1) {
      let metric = try Self.map.resultType(x, operands, weightRole: "wv", biasRole: "bv")
      guard let channels = metric.shape[2].fixedValue, channels % heads == 0 else {
        throw VitError(
          "\(metric.shape[2]) channels do not make \(heads) heads", code: "operand-shape")
      }
    } else if operands.has(2) {
      throw VitError("'bv' is there without 'wv'", code: "operand-shape")
    }
    operands.note(3, "table")
    let places =
      operands.has(3)
      ? try operands.places(3, "table", images: x.shape[0]).shape[1] : .fixed(tokens - prefix)
    return [TensorType(.i64, [x.shape[0], places])]
  }

  /// Images.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap([AxisMap.Letter(.parallel, operands.has(3) ? [0, nil, nil, 0] : [0], [0])])
  }

  /// The map of values; where the places are now.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .weight
    case 2: .bias
    case 3: .index
    default: .data
    }
  }

  private struct Sizes {
    let batch, tokens, dim, prefix, count, places: Int
    /// The channels that are compared.
    let width: Int

    var patches: Int { tokens - prefix }
    /// Patches at even and at odd places.
    var even: Int { (patches + 1) / 2 }
    var odd: Int { patches / 2 }
  }

  private func sizes(x: [Int], channels: Int?, places: Int) -> Sizes {
    Sizes(
      batch: x[0], tokens: x[1], dim: x[2], prefix: prefix,
      count: min(count, TokenMatch.most(of: x[1] - prefix)), places: places,
      width: channels.map { $0 / heads } ?? x[2])
  }

  private func sizes(_ context: KernelContext) -> Sizes {
    sizes(
      x: context.input(0).shape, channels: context.optionalInput(1)?.shape[0],
      places: context.output.shape[1])
  }

  /// What is compared of each token, cosines, the best of each row with its column, the new number of each token; the means of
  /// map and bias over heads.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], x.rank == 3 else { return [] }
    let s = sizes(x: x.extents, channels: operands[1]?.extents[0], places: 0)
    func type(_ shape: [Int], _ element: ElementType? = nil) -> TensorType {
      TensorType(element ?? x.element, fixed: shape)
    }
    return [
      type([s.batch, s.tokens, s.width]), type([s.batch, s.even, s.odd]), type([s.batch, s.even]),
      type([s.batch, s.even], .i64), type([s.batch, s.tokens], .i64),
    ] + (operands.has(1) ? [type([s.width, s.dim]), type([s.width])] : [])
  }

  /// The products, and the norms.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0] else { return Cost() }
    let s = sizes(x: x.extents, channels: operands[1]?.extents[0], places: 0)
    let maps = operands.has(1) ? s.width * s.dim * (heads + 2 * s.batch * s.tokens) : 0
    let compared = s.batch * s.width * (3 * s.patches + 2 * s.even * s.odd)
    return Cost(flops: maps + compared, bytes: operands.bytes(results))
  }

  /// The mean over heads of the map.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    guard operands.has(1), stored[1] != nil, let x = operands[0], let weight = operands[1] else { return [] }
    let (channels, dim) = (weight.extents[0], weight.extents[1])
    return [Packing.headMean(1, x.element, heads: heads, rows: channels / heads, columns: dim)]
  }

  /// Computes the table.
  public func forward(_ context: KernelContext) {
    let s = sizes(context)
    if let weight = context.optionalInput(1) {
      let pool = context.pool
      if context.prepared.isEmpty {
        Kernel.reduce(
          .mean, weight.reshaped([heads, s.width, s.dim]), axes: [0], into: context.scratch[5], pool: pool)
      }
      if let bias = context.optionalInput(2) {
        Kernel.reduce(
          .mean, bias.reshaped([heads, s.width]), axes: [0], into: context.scratch[6], pool: pool)
      }
    }
    func image(_ index: Int) {
      if context.input(0).element == .f64 {
        match(index, s, context, Double.self)
      } else {
        match(index, s, context, Float.self)
      }
    }
    // A single image has all threads for itself; else each thread has images. Either way a product is cut as one image is.
    if s.batch == 1 { return image(0) }
    context.pool.run(tasks: s.batch) { index, _ in image(index) }
  }

  /// What is compared of each token: its channels, or their means over heads.
  private func map(_ image: Int, _ s: Sizes, _ context: KernelContext, into compared: View) {
    let x = context.input(0).image(image)
    guard context.optionalInput(1) != nil else { return compared.copy(from: x) }
    let bias = context.optionalInput(2) == nil ? nil : context.scratch[6]
    if let packed = context.prepared.first {
      Kernel.linear(
        x, rows: s.width, columns: s.dim, packed: packed, bias: bias, into: compared, pool: context.pool)
    } else {
      Kernel.gemm(
        transB: true, m: s.tokens, n: s.width, k: s.dim, a: x, b: context.scratch[5], c: compared, bias: bias,
        pool: context.pool)
    }
  }

  private func match<T: Real>(_ image: Int, _ s: Sizes, _ context: KernelContext, _ type: T.Type) {
    let compared = context.scratch[0].image(image)
    let cosines = context.scratch[1].image(image)
    map(image, s, context, into: compared)
    let rows = compared.part(prefix * s.width, of: s.patches * s.width)
    let vectors = rows.pointer(as: T.self)
    forRows(s.patches, width: s.width, pool: context.pool) { patch in
      let row = vectors + patch &* s.width
      var sum = 0.0
      for channel in 0..<s.width { sum += Double(row[channel]) * Double(row[channel]) }
      let factor = T(1 / max(sum.squareRoot(), 1e-12))
      for channel in 0..<s.width { row[channel] *= factor }
    }
    if s.odd > 0 {
      Kernel.gemm(
        transB: true, m: s.even, n: s.odd, k: s.width, a: rows, lda: 2 * s.width,
        b: rows.part(s.width, of: rows.count - s.width), ldb: 2 * s.width, c: cosines, pool: context.pool)
    }
    let best = context.scratch[2].image(image).pointer(as: T.self)
    let partner = context.scratch[3].image(image).i64
    let scores = cosines.pointer(as: T.self)
    forRows(s.even, width: s.odd, pool: context.pool) { row in
      var (top, place) = (-T.infinity, 0)
      for column in 0..<s.odd {
        let score = (scores[row &* s.odd &+ column] * 0x1p20).rounded(.toNearestOrEven)
        if score > top { (top, place) = (score, column) }
      }
      best[row] = top
      partner[row] = Int64(place)
    }
    let moved = context.scratch[4].image(image).i64
    number(s, best, partner, into: moved)
    let table = PlaceTable(
      context.optionalInput(3), places: s.places, prefix: prefix, tokens: s.tokens)
    let result = context.output.i64 + image &* s.places
    for place in 0..<s.places { result[place] = table.token(image, place).map { moved[$0] } ?? -1 }
  }

  /// Runs `body` on each row, some thousands of elements to a task.
  private func forRows(_ rows: Int, width: Int, pool: any WorkPool, _ body: (Int) -> Void) {
    let most = max(1, 4096 / max(1, width))
    let tasks = (rows + most - 1) / most
    pool.run(tasks: tasks) { task, _ in
      for row in rows * task / tasks..<rows * (task + 1) / tasks { body(row) }
    }
  }

  /// The number that each token has when the best have been given away: that of the patch that stands for it.
  private func number<T: Real>(
    _ s: Sizes, _ best: UnsafeMutablePointer<T>, _ partner: UnsafeMutablePointer<Int64>,
    into moved: UnsafeMutablePointer<Int64>
  ) {
    for token in 0..<s.tokens { moved[token] = 0 }
    for _ in 0..<s.count {
      var chosen: Int?
      for row in 0..<s.even where moved[prefix &+ 2 &* row] == 0 {
        if let other = chosen, !(best[row] > best[other]) { continue }
        chosen = row
      }
      if let chosen { moved[prefix + 2 * chosen] = -1 }
    }
    var next: Int64 = 0
    for token in 0..<s.tokens where moved[token] == 0 {
      moved[token] = next
      next += 1
    }
    for row in 0..<s.even where moved[prefix &+ 2 &* row] < 0 {
      moved[prefix + 2 * row] = moved[prefix + 2 * Int(partner[row]) + 1]
    }
  }

  /// Products, the greatest of each row, the greatest of those, and running sums for the numbers of what is left.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    let types = builder.operands(operands)
    let type = try types.type(0, "x")
    guard let x = operands[0], let tokens = type.shape[1].fixedValue, let dim = type.shape[2].fixedValue
    else { throw VitError("'x' is \(type), expected a known number of tokens", code: "dynamic-shape") }
    let s = sizes(
      x: [0, tokens, dim], channels: types[1]?.shape[0].fixedValue, places: 0)
    let moved = try TokenMatchLowering(
      even: s.even, odd: s.odd, count: s.count, prefix: prefix, heads: heads, element: type.element
    ).moved(x, operands, width: s.width, dim: dim, into: &builder)
    guard operands.count > 3, let table = operands[3] else { return [moved] }
    let places = try builder.add("onnx.Sub", [table, builder.integers([prefix], shape: [])])
    return [try builder.add("onnx.GatherElements", [moved, places], [("axis", .int(1))])]
  }
}
