public import VitIR
internal import VitRuntime

/// `vit.patch_embed(image, weight, bias?)`: cuts images into patches and maps each to a token, row by row.
///
/// `image` is `[batch, channels, height, width]`, `weight` `[dim, channels, p, q]`; the result is
/// `[batch, (height/p)·(width/q), dim]`. Pixels right of and below the last whole patch are not read.
public struct VitPatchEmbed: Operation {
  /// The operation's name.
  public static let name = "vit.patch_embed"
  /// What it computes.
  public static let summary = "Cuts images into patches and maps each linearly to a token"
  /// A use of it.
  public static let example = "(f32[1, 3, 8, 8], f32[5, 3, 4, 4], f32[5])"

  private static let map = LinearMap(weight: 1, bias: 2)

  /// A patch embedding.
  public init() {}

  /// Takes nothing.
  public init(attributes: inout AttributeReader) throws(VitError) {}

  /// None.
  public var attributes: Attributes { Attributes() }

  /// `[batch, patches, dim]`.
  public func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(2...3)
    try operands.expectOneResult()
    let image = try operands.float(0, "image", rank: 4...4)
    let weight = try operands.float(1, "weight", rank: 4...4)
    guard weight.element == image.element, weight.shape[1] == image.shape[1] else {
      throw VitError(
        "'weight' is \(weight), expected \(image.element.rawValue)[dim, \(image.shape[1]), height, width]",
        code: "operand-shape")
    }
    guard weight.shape[2].isPositive, weight.shape[3].isPositive else {
      throw VitError("'weight' is \(weight), expected patches of at least one pixel", code: "operand-shape")
    }
    try operands.expectOptional(2, "bias", weight.with([weight.shape[0]]))
    let rows = image.shape[2].floorDivided(by: weight.shape[2])
    let columns = image.shape[3].floorDivided(by: weight.shape[3])
    return [image.with([image.shape[0], rows * columns, weight.shape[0]])]
  }

  /// Images, and filters.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    AxisMap([
      AxisMap.Letter(.parallel, [0], [0]),
      AxisMap.Letter(.parallel, [nil, 0, operands.has(2) ? 0 : nil], [2]),
    ])
  }

  /// Weight and bias.
  public func role(of index: Int) -> OperandRole {
    switch index {
    case 1: .weight
    case 2: .bias
    default: .data
    }
  }

  /// The patches, one a row; in training also their gradients.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] {
    guard let image = operands[0], let weight = operands[1] else { return [] }
    let patches = Patches(image.extents, weight.extents)
    let type = TensorType(image.element, fixed: [patches.count, patches.size])
    return mode.training ? [type, type] : [type]
  }

  /// The weight, packed as a matrix.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] {
    guard stored[1] != nil, let weight = operands[1] else { return [] }
    let shape = Self.flat(weight.extents)
    return [
      .matrix(1, weight.element, transposed: true, k: shape[1], n: shape[0], row: shape[1])
    ]
  }

  private static func flat(_ weight: [Int]) -> [Int] { [weight[0], weight[1] * weight[2] * weight[3]] }

  /// The products.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let size = operands[1]?.extents.dropFirst().reduce(1, *) ?? 0
    return Cost(flops: 2 * results[0].count * size, bytes: operands.bytes(results))
  }

  /// The context with the weight and its gradient as matrices.
  private func flattened(_ context: KernelContext) -> KernelContext {
    var inputs = context.inputs
    inputs[1] = context.input(1).reshaped(Self.flat(context.input(1).shape))
    return KernelContext(
      inputs: inputs, outputs: context.outputs, scratch: context.scratch, pool: context.pool)
  }

  /// Computes the tokens.
  public func forward(_ context: KernelContext) {
    let patches = Patches(context.input(0).shape, context.input(1).shape)
    patches.gather(context.input(0), into: context.scratch[0], pool: context.pool)
    let (rows, bias) = (context.input(1).shape[0], context.optionalInput(2))
    if let packed = context.prepared.first {
      Kernel.linear(
        context.scratch[0], rows: rows, columns: patches.size, packed: packed, bias: bias,
        into: context.output, pool: context.pool)
    } else {
      Kernel.gemm(
        transB: true, m: patches.count, n: rows, k: patches.size, a: context.scratch[0], b: context.input(1),
        c: context.output, bias: bias, pool: context.pool)
    }
  }

  /// There is a gradient.
  public var isDifferentiable: Bool { true }

  /// Adds the gradients of image, weight and bias.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    guard let dy = resultGradients[0] else { return }
    let patches = Patches(context.input(0).shape, context.input(1).shape)
    if operandGradients[1] != nil {
      patches.gather(context.input(0), into: context.scratch[0], pool: context.pool)
    }
    guard let dimage = operandGradients[0] else {
      return Self.map.gradients(
        flattened(context), x: context.scratch[0], dy: dy, adding: nil, operandGradients)
    }
    let dpatches = context.scratch[1]
    Self.map.gradients(flattened(context), x: context.scratch[0], dy: dy, writing: dpatches, operandGradients)
    patches.scatter(dpatches, adding: dimage, pool: context.pool)
  }

  /// A `Conv` whose strides are its kernel's extents, then the grid as one axis, in front of the channels.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    guard let weight = operands[1], let shape = builder.graph.type(weight).fixedShape, shape.count == 4 else {
      throw VitError("the extents of the patches are not known", code: "dynamic-shape")
    }
    let map = try builder.add(
      "onnx.Conv", operands,
      [("kernel_shape", .ints([shape[2], shape[3]])), ("strides", .ints([shape[2], shape[3]]))])
    // The number of patches where it is known: an extent left open does not go with an empty batch.
    let patches = builder.graph.type(map).shape[2...].reduce(Dimension.fixed(1)) { $0 * $1 }
    let target = builder.integers([0, shape[0], patches.fixedValue ?? -1])
    let flat = try builder.add("onnx.Reshape", [map, target])
    return [try builder.add("onnx.Transpose", [flat], [("perm", .ints([0, 2, 1]))])]
  }
}

/// How images are cut: which pixels are a patch.
private struct Patches {
  let batch, channels, height, width, rows, columns, patchHeight, patchWidth: Int

  init(_ image: [Int], _ weight: [Int]) {
    (batch, channels, height, width) = (image[0], image[1], image[2], image[3])
    (patchHeight, patchWidth) = (weight[2], weight[3])
    (rows, columns) = (height / patchHeight, width / patchWidth)
  }

  /// Patches in all images.
  var count: Int { batch * rows * columns }
  /// Numbers in a patch.
  var size: Int { channels * patchHeight * patchWidth }

  /// Calls `body` for each run of pixels that is contiguous in image and patch, with its offsets there, patch by patch; a row of
  /// patches a task.
  @inline(__always)
  private func forRuns(pool: any WorkPool, _ body: (_ image: Int, _ patch: Int) -> Void) {
    pool.run(tasks: batch * rows) { task, _ in
      let (image, row) = (task / rows, task % rows)
      let corner = (image * channels * height + row * patchHeight) * width
      var patch = task * columns * size
      for column in 0..<columns {
        for channel in 0..<channels {
          var line = corner + channel * height * width + column * patchWidth
          for _ in 0..<patchHeight {
            body(line, patch)
            line += width
            patch += patchWidth
          }
        }
      }
    }
  }

  func gather(_ image: View, into patches: View, pool: any WorkPool) {
    let size = image.element.size
    let (from, to, bytes) = (image.base, patches.base, patchWidth * size)
    forRuns(pool: pool) { image, patch in
      (to + patch * size).copyMemory(from: from + image * size, byteCount: bytes)
    }
  }

  func scatter(_ patches: View, adding image: View, pool: any WorkPool) {
    func add<Real: BinaryFloatingPoint>(_: Real.Type) {
      let (from, to) = (patches.pointer(as: Real.self), image.pointer(as: Real.self))
      forRuns(pool: pool) { image, patch in
        for x in 0..<patchWidth { to[image + x] += from[patch + x] }
      }
    }
    if image.element == .f64 { add(Double.self) } else { add(Float.self) }
  }
}
