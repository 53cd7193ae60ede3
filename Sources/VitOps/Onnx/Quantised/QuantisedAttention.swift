internal import VitIR
internal import VitRuntime

/// `com.microsoft.QAttention(x, weight, bias, x_scale, weight_scale, mask?, x_zero?, weight_zero?)`:
/// self-attention whose fused projection is a product of bytes.
struct MicrosoftQAttention: Operation {
  static let name = "com.microsoft.QAttention"
  static let summary = "Self-attention with a quantised projection"
  static let example = "(u8[1, 2, 6], i8[6, 18], f32[18], f32[], f32[], _, u8[], i8[]) {num_heads = 2}"
  let heads: Int
  let scale: Double?

  init(attributes: inout AttributeReader) throws(VitError) {
    heads = try attributes.int("num_heads")
    scale = try attributes.optionalFloat("scale")
    for name in ["unidirectional", "do_rotary", "past_present_share_buffer"] {
      guard try attributes.bool(name, default: false) == false else {
        throw VitError("attribute '\(name)' is set, which is not supported")
      }
    }
    attributes.ignore("mask_filter_value")
    guard heads > 0 else { throw VitError("attribute 'num_heads' is \(heads), expected a positive number") }
  }

  var attributes: Attributes {
    Attributes([("num_heads", .int(heads))] + (scale.map { [("scale", .float($0))] } ?? []))
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(5...9)
    try operands.expectResults()
    for (index, role) in [(5, "mask_index"), (8, "past")] where operands.has(index) {
      throw VitError("input \(index) ('\(role)') is not supported")
    }
    let (x, weight) = (try operands.bytes(0, "input"), try operands.bytes(1, "weight"))
    let bias = try operands.floats(2, "bias")
    guard x.rank == 3, weight.rank == 2, mayBeEqual(x.shape[2], weight.shape[0]),
      bias.shape == [weight.shape[1]],
      weight.shape[1].exactlyDivided(by: .fixed(3))?.exactlyDivided(by: .fixed(heads)) != nil,
      let width = weight.shape[1].exactlyDivided(by: 3)
    else {
      throw VitError(
        "input is \(x), weight \(weight), bias \(bias), expected [n, t, c], [c, 3d] and [3d] "
          + "with d a multiple of \(heads)", code: "shape-mismatch")
    }
    try operands.expectScalar(scale: 3, zero: 6, of: x.element)
    let units = try operands.floats(4, "weight_scale")
    guard units.elements == 1 || units.elements == weight.shape[1] else {
      throw VitError("input 4 ('weight_scale') is \(units), expected one number or \(weight.shape[1])")
    }
    if let zero = operands[7] {
      try operands.expectZero(7, of: weight.element, elements: zero.elements == 1 ? 1 : weight.shape[1])
    }
    return [TensorType(bias.element, [x.shape[0], x.shape[1], width])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .leading(1, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .data
    case 1: .weight
    case 2: .bias
    case 5: .mask
    default: .quantisation
    }
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let x = operands[0], let weight = operands[1], let bias = operands[2] else { return [] }
    let shape = [x.shape[0], x.shape[1], weight.shape[1]]
    let kernel = Kernel.attentionScratch(
      attention(x.extents, columns: weight.extents[1]), bias.element, workers: mode.workers)
    return [TensorType(.i32, shape), TensorType(bias.element, shape)] + (kernel.map { [$0] } ?? [])
  }

  /// The attention of tokens `x` whose queries, keys and values have so many columns in all.
  private func attention(_ x: [Int], columns: Int) -> AttentionShape {
    let width = columns / 3 / heads
    return AttentionShape(
      batch: x[0], heads: heads, queries: x[1], keys: x[1], width: width,
      scale: scale ?? 1 / Double(width).squareRoot())
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    guard let x = operands[0]?.extents, let weight = operands[1]?.extents else { return Cost() }
    let bytes = (operands.types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
    let attention = 4 * x[0] * x[1] * x[1] * (weight[1] / 3)
    return Cost(flops: 2 * x[0] * x[1] * weight[0] * weight[1] + attention, bytes: bytes)
  }

  func forward(_ context: KernelContext) {
    let (x, weight, output) = (context.input(0), context.input(1), context.output)
    let (sums, projected) = (context.scratch[0], context.scratch[1])
    let columns = weight.shape[1]
    guard output.count > 0 else { return }
    Kernel.gemmBytes(
      m: x.shape[0] * x.shape[1], n: columns, k: weight.shape[0], a: x, aZero: context.optionalInput(6),
      b: weight,
      bZero: context.optionalInput(7), c: sums, pool: context.pool)
    let left = Float(context.input(3).number(0))
    let factors = context.input(4).columnNumbers(columns).map { left * $0 }
    rescale(sums, factors, bias: context.input(2), into: projected)
    func part(_ index: Int) -> VitRuntime.Heads {
      VitRuntime.Heads(tokens: projected, heads: heads, part: index, of: 3)
    }
    Kernel.attention(
      attention(x.shape, columns: columns), q: part(0), k: part(1), v: part(2),
      into: VitRuntime.Heads(tokens: output, heads: heads),
      scratch: context.scratch.count > 2 ? context.scratch[2] : nil, pool: context.pool)
  }
}

/// `com.microsoft.MatMulNBits(a, b, scales, zeros?, groups?, bias?)`: a product with a weight `[n, k]` stored
/// in 2, 4 or 8 bits with a scale for each block along `k`.
struct MicrosoftMatMulNBits: Operation {
  static let name = "com.microsoft.MatMulNBits"
  static let summary = "Product with a weight stored in few bits"
  static let example = "(f32[2, 32], u8[3, 1, 16], f32[3] = [0.1, 0.2, 0.3]) {K = 32, N = 3, block_size = 32}"
  let k: Int
  let n: Int
  let bits: Int
  let block: Int

  init(attributes: inout AttributeReader) throws(VitError) {
    k = try attributes.int("K")
    n = try attributes.int("N")
    bits = try attributes.int("bits", default: 4)
    block = try attributes.int("block_size")
    attributes.ignore("accuracy_level", "weight_prepacked")
    guard k > 0, n > 0, k < 1 << 30, n < 1 << 30, [2, 4, 8].contains(bits), block >= 16, block < 1 << 30,
      block & (block - 1) == 0
    else {
      throw VitError(
        "K \(k), N \(n), bits \(bits), block_size \(block): expected positive extents, 2, 4 or 8 "
          + "bits and a power of two of at least 16")
    }
  }

  var attributes: Attributes {
    Attributes([("K", .int(k)), ("N", .int(n)), ("bits", .int(bits)), ("block_size", .int(block))])
  }

  private var blocks: Int { (k + block - 1) / block }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...6)
    try operands.expectResults()
    let a = try operands.floats(0, "a")
    let b = try operands.type(1, "b")
    guard let width = a.shape.last, mayBeEqual(width, .fixed(k)) else {
      throw VitError("a is \(a), expected \(k) columns", code: "shape-mismatch")
    }
    guard b.element == .u8, b.elements == .fixed(n * blocks * (block * bits / 8)) else {
      throw VitError("b is \(b), expected u8[\(n), \(blocks), \(block * bits / 8)]", code: "shape-mismatch")
    }
    let scales = try operands.floats(2, "scales")
    guard scales.element == a.element, scales.elements == .fixed(n * blocks) else {
      throw VitError("the scales are \(scales), expected \(n * blocks)", code: "shape-mismatch")
    }
    if let zeros = operands[3] {
      let packed = zeros.element == .u8 && zeros.elements == .fixed(n * ((blocks * bits + 7) / 8))
      guard packed || zeros.element == a.element && zeros.elements == .fixed(n * blocks) else {
        throw VitError(
          "the zero points are \(zeros), expected one for each of \(n * blocks) blocks",
          code: "shape-mismatch")
      }
    }
    if operands.has(4) {
      guard !operands.has(3) else {
        throw VitError("input 4 ('g_idx') together with input 3 ('zero_points') is not supported")
      }
      let places = try operands.integers(4, "g_idx")
      guard places.count >= k, places.prefix(k).allSatisfy({ 0..<blocks ~= $0 }) else {
        throw VitError("input 4 ('g_idx') does not name one of \(blocks) blocks for each of \(k) columns")
      }
    }
    try operands.expectShape(5, "bias", [.fixed(n)])
    return [TensorType(a.element, a.shape.dropLast() + [.fixed(n)])]
  }

  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .leading(results[0].rank - 1, results)
  }

  func role(of index: Int) -> OperandRole {
    switch index {
    case 0: .data
    case 1: .weight
    case 4: .index
    case 5: .bias
    default: .quantisation
    }
  }

  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    operands[0].map { [TensorType($0.element, fixed: [n, k])] } ?? []
  }

  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let bytes = (operands.types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
    return Cost(flops: 2 * results[0].count * k, bytes: bytes)
  }

  /// Number `index` of those that are packed from the lowest bits of each byte on.
  private func field(_ bytes: UnsafePointer<UInt8>, _ index: Int) -> Int {
    let perByte = 8 / bits
    return Int(bytes[index / perByte]) >> (index % perByte * bits) & (1 << bits - 1)
  }

  /// Row `row` of the weight; `scale` and `zero` give the numbers of a block, `places` the block of each entry where that
  /// is not told by its place.
  private func unpack<T: BinaryFloatingPoint>(
    row: Int, _ packed: UnsafePointer<UInt8>, into to: UnsafeMutablePointer<T>, places: [Int]?,
    scale: (Int) -> Double, zero: (Int) -> Double
  ) {
    let from = packed + row * blocks * (block * bits / 8)
    func write(_ entries: Range<Int>, _ piece: Int) {
      let (scale, zero) = (T(scale(row * blocks + piece)), T(zero(piece)))
      for entry in entries { to[row * k + entry] = (T(field(from, entry)) - zero) * scale }
    }
    if let places {
      for entry in 0..<k { write(entry..<entry + 1, places[entry]) }
    } else {
      for piece in 0..<blocks { write(piece * block..<min((piece + 1) * block, k), piece) }
    }
  }

  /// The zero point of block `piece` of row `row`.
  private func zero(_ zeros: UnsafePointer<UInt8>?, row: Int, _ piece: Int) -> Double {
    guard let zeros else { return Double(1 << (bits - 1)) }
    return Double(field(zeros + row * ((blocks * bits + 7) / 8), piece))
  }

  private func unpack(_ context: KernelContext) -> View {
    let (packed, scales, weight) = (
      UnsafePointer(context.input(1).pointer(as: UInt8.self)), context.input(2), context.scratch[0]
    )
    let zeros = context.optionalInput(3)
    let bytes = zeros?.element == .u8 ? (zeros?.pointer(as: UInt8.self)).map { UnsafePointer($0) } : nil
    let places = context.optionalInput(4).map { view in (0..<k).map { Int(view.number($0)) } }
    func run<T: BinaryFloatingPoint>(_ to: UnsafeMutablePointer<T>) {
      context.pool.run(tasks: n) { row, _ in
        unpack(row: row, packed, into: to, places: places, scale: scales.number) { piece in
          if let zeros, zeros.element != .u8 { return zeros.number(row * blocks + piece) }
          return zero(bytes, row: row, piece)
        }
      }
    }
    if weight.element == .f64 { run(weight.f64) } else { run(weight.f32) }
    return weight
  }

  /// The weight as the floats that its numbers stand for, `[k, n]`.
  func unpacked(
    _ packed: Tensor, scales: Tensor, zeros: Tensor?, places: Tensor?
  ) throws(VitError) -> Tensor {
    do {
      let (scales, blockOf) = (try scales.doubles(), try places?.integers())
      let floats = try zeros.flatMap { try $0.element.isFloat ? $0.doubles() : nil }
      let bytes = try zeros.flatMap {
        try $0.element.isFloat ? nil : $0.integers()?.map(UInt8.init(clamping:))
      }
      return try packed.storage.withBytes { buffer in
        guard let from = buffer.bindMemory(to: UInt8.self).baseAddress else {
          throw VitError("the packed weight is empty")
        }
        return try Tensor(.f32, shape: [n, k]) { target in
          guard let to = target.bindMemory(to: Float.self).baseAddress else { return }
          for row in 0..<n {
            unpack(row: row, from, into: to, places: blockOf ?? nil, scale: { scales[$0] }) { piece in
              if let floats { return floats[row * blocks + piece] }
              guard let bytes else { return zero(nil, row: row, piece) }
              return bytes.withUnsafeBufferPointer { zero($0.baseAddress, row: row, piece) }
            }
          }
        }
      }.transposed()
    } catch { throw (error as? VitError) ?? VitError("\(error)", kind: .environment, code: "internal") }
  }

  func forward(_ context: KernelContext) {
    let weight = unpack(context)
    Kernel.linear(
      context.input(0), weight: weight, bias: context.optionalInput(5),
      into: context.output,
      pool: context.pool)
  }

  var isDifferentiable: Bool { true }

  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let rows = dy.count / n
    if let da = operandGradients[0] {
      Kernel.gemm(m: rows, n: k, k: n, a: dy, b: unpack(context), beta: 1, c: da, pool: context.pool)
    }
    if context.optionalInput(5) != nil, let bias = operandGradients[5] {
      Move(shape: [rows, n], source: Move.Region(strides: [n, 1]), target: Move.Region(strides: [0, 1]))
        .add(dy, to: bias, context.pool)
    }
  }
}
