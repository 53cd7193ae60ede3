internal import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

extension KernelBenchmarks.Kernel {
  /// What an operand holds.
  enum Operand {
    case normal([Int])
    /// A weight: a constant, packed where that is done.
    case weight([Int])
    case bytes([Int])
    case number(Double, ElementType)
    case integers([Int])
  }

  /// The forward or, where `backward`, the gradient kernel of an operation.
  static func operation(
    _ kernel: String, _ name: String, _ operands: [Operand], _ attributes: [(String, Attribute)] = [],
    memory: Bool, backward: Bool = false, double: Bool = true, results: Int = 1
  ) -> Self {
    let shapes = operands.compactMap { operand -> String? in
      switch operand {
      case .normal(let shape), .weight(let shape), .bytes(let shape):
        shape.map(String.init).joined(separator: "x")
      case .number, .integers: nil
      }
    }
    let short = name.split(separator: ".").last.map(String.init) ?? name
    return Self(
      name: kernel, problem: "\(short) \(shapes.joined(separator: ", "))", isBoundByMemory: memory,
      isInDouble: double
    ) { element in
      var random = SplitMix(seed: 1)
      var builder = GraphBuilder(Graph(name: name), registry: .standard)
      var ids: [ValueID] = []
      for operand in operands {
        switch operand {
        case .normal(let shape):
          ids.append(builder.graph.addInput(TensorType(element, fixed: shape), name: "x"))
        case .weight(let shape):
          let values = (0..<shape.reduce(1, *)).map { _ in random.normal() }
          ids.append(builder.graph.addConstant(Tensor(element, shape: shape, values: values), name: "w"))
        case .bytes(let shape):
          ids.append(builder.graph.addInput(TensorType(.u8, fixed: shape), name: "x"))
        case .number(let value, let type):
          let type = type.isFloat ? element : type
          ids.append(builder.graph.addConstant(Tensor(type, shape: [], values: [value]), name: "c"))
        case .integers(let values): ids.append(builder.integers(values))
        }
      }
      let operation = try Registry.standard.make(name, Attributes(attributes))
      let outputs = try builder.add(operation, ids, resultCount: results)
      builder.graph.outputs = outputs.enumerated().map { ("y\($0.offset)", $0.element) }
      let executor = try Executor(
        builder.graph, weights: WeightStore(builder.graph),
        inputShapes: builder.graph.inputs.compactMap { builder.graph.type($0).fixedShape },
        training: backward,
        pool: SerialPool())
      for view in executor.inputs {
        let memory = UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount)
        for index in 0..<view.count {
          memory.store(
            view.element == .u8 ? Double(index % 256) : random.normal(), at: index, as: view.element)
        }
      }
      let cost = operation.cost(
        Operands(ids.map { builder.graph.type($0) }, resultCount: results),
        outputs.map { builder.graph.type($0) })
      guard backward else { return (executor.run, cost) }
      let tape = try Tape(executor, parameters: [], inputs: executor.graph.inputs)
      executor.run()
      // Gradients pile up from run to run, as they do over micro-batches.
      for case let gradient? in tape.outputGradients { gradient.zero() }
      return (tape.backward, cost)
    }
  }
}

extension KernelBenchmarks {
  /// The kernels, at the sizes of a small vision transformer on eight images.
  static var all: [Kernel] {
    [
      .operation(
        "vk_gemm", "vit.linear", [.normal([1576, 384]), .weight([1536, 384])], memory: false),
      .operation(
        "vk_gemm (unpacked)", "onnx.MatMul", [.normal([512, 512]), .normal([512, 512])], memory: false),
      .operation(
        "vk_gemm (one row)", "vit.linear", [.normal([1, 384]), .weight([1536, 384])], memory: true),
      .operation(
        "vk_gemm_bytes", "onnx.MatMulInteger",
        [.bytes([512, 512]), .bytes([512, 512]), .number(120, .u8), .number(3, .u8)], memory: false,
        double: false),
      .operation(
        "vk_attend", "vit.sdpa", Array(repeating: .normal([8, 6, 197, 64]), count: 3), memory: false),
      .operation(
        "vk_attend_gradient", "vit.sdpa", Array(repeating: .normal([8, 6, 197, 64]), count: 3), memory: false,
        backward: true),
      .operation(
        "vk_softmax", "onnx.Softmax", [.normal([48, 197, 197])], [("axis", .int(-1))], memory: true),
      .operation(
        "vk_softmax_gradient", "onnx.Softmax", [.normal([48, 197, 197])], [("axis", .int(-1))], memory: true,
        backward: true),
      .operation("vk_normalise", "vit.layer_norm", [.normal([1576, 384]), .weight([384])], memory: true),
      .operation(
        "vk_normalise_gradient", "vit.layer_norm", [.normal([1576, 384]), .weight([384])], memory: true,
        backward: true),
      .operation("vk_unary (gelu)", "onnx.Gelu", [.normal([1576, 1536])], memory: true),
      .operation("vk_unary (exp)", "onnx.Exp", [.normal([1576, 1536])], memory: true),
      .operation("vk_unary (tanh)", "onnx.Tanh", [.normal([1576, 1536])], memory: true),
      .operation("vk_unary (relu)", "onnx.Relu", [.normal([1576, 1536])], memory: true),
      .operation(
        "vk_unary_gradient (gelu)", "onnx.Gelu", [.normal([1576, 1536])], memory: true, backward: true),
      .operation("vk_binary", "onnx.Add", [.normal([1576, 384]), .normal([1576, 384])], memory: true),
      .operation("vk_binary (repeated)", "onnx.Mul", [.normal([1576, 384]), .normal([384])], memory: true),
      .operation(
        "vk_binary (a column)", "onnx.Sub", [.normal([1576, 384]), .normal([1576, 1])], memory: true),
      .operation(
        "vk_binary_gradient", "onnx.Mul", [.normal([1576, 384]), .normal([1576, 384])], memory: true,
        backward: true),
      .operation(
        "vk_reduce (rows)", "onnx.ReduceSum", [.normal([1576, 384]), .integers([1])], memory: true),
      .operation(
        "vk_reduce (columns)", "onnx.ReduceMean", [.normal([1576, 384]), .integers([0])], memory: true),
      .operation(
        "vk_copy", "onnx.Transpose", [.normal([8, 197, 6, 64])], [("perm", .ints([0, 2, 1, 3]))], memory: true
      ),
      .operation(
        "vk_copy (a matrix turned)", "onnx.Transpose", [.normal([8, 197, 384])],
        [("perm", .ints([0, 2, 1]))],
        memory: true),
      .operation(
        "vk_quantise", "onnx.QuantizeLinear",
        [.normal([1576, 384]), .number(0.02, .f32), .number(128, .u8)],
        memory: true, double: false),
      .operation(
        "vk_dequantise", "onnx.DequantizeLinear",
        [.bytes([1576, 384]), .number(0.02, .f32), .number(128, .u8)],
        memory: true, double: false),
      scan("vk_glr") { table, view, pool in
        let (v, r, q, s) = (view(384), view(384), view(384), view(384))
        return { VitRuntime.Kernel.gatedScan(table, v: v, r: r, q: q, keeping: nil, into: s, pool: pool) }
      },
      scan("vk_glr_gradient") { table, view, pool in
        let (v, r, q, h, ds) = (view(384), view(384), view(384), view(384), view(384))
        let (dv, dr, dq) = (view(384), view(384), view(384))
        return {
          VitRuntime.Kernel.gatedScanGradient(
            table, v: v, r: r, q: q, h: h, ds: ds, into: dv, dr, dq, pool: pool)
        }
      },
      scan("vk_lstm") { table, view, pool in
        let (gates, h) = (view(4 * 384), view(384))
        let packed = packedRecurrence(view, transposed: false, pool)
        return {
          VitRuntime.Kernel.lstmScan(
            table, recurrence: packed, gates: gates, keeping: nil, into: h, pool: pool)
        }
      },
      scan("vk_lstm_gradient") { table, view, pool in
        let (gates, cells, h, dh) = (view(4 * 384), view(384), view(384), view(384))
        let (dgates, before) = (view(4 * 384), view(384))
        let packed = packedRecurrence(view, transposed: true, pool)
        return {
          VitRuntime.Kernel.lstmScanGradient(
            table, recurrence: packed, gates: gates, cells: cells, h: h, dh: dh, into: dgates,
            before: before, pool: pool)
        }
      },
      scan("vk_taps") { _, view, pool in
        let (grid, taps) = tapProblem(view)
        let (v, c) = (view(384), view(384))
        return {
          VitRuntime.Kernel.taps(
            grid, v: v, taps: taps.taps, mean: taps.mean, before: taps.before, into: c, pool: pool)
        }
      },
      scan("vk_taps_gradient") { _, view, pool in
        let (grid, taps) = tapProblem(view)
        let (v, dc, dv) = (view(384), view(384), view(384))
        let sums = view(22).part(0, of: 8 * 11 * 384)
        return {
          VitRuntime.Kernel.tapsGradient(
            grid, v: v, taps: taps.taps, mean: taps.mean, before: taps.before, dc: dc, into: dv, sums: sums,
            pool: pool)
        }
      },
      scan("vk_accumulate") { _, view, pool in
        let (x, y) = (view(384), view(384))
        return { VitRuntime.Kernel.accumulate(y, scale: 0.5, into: x, pool: pool) }
      },
    ]
  }

  /// Taps of 3 by 3 on 14 by 14 patches and one token before them, in the memory of a view.
  private static func tapProblem(_ view: (Int) -> View) -> (
    grid: TapGrid, taps: (taps: View, mean: View, before: View)
  ) {
    let memory = view(3)
    let grid = TapGrid(rows: 14, columns: 14, prefix: 1, kernelRows: 3, kernelColumns: 3, border: .zero)
    let rows = (0..<11).map { memory.part($0 * 384, of: 384) }
    return (grid, (memory.part(0, of: 9 * 384), rows[9], rows[10]))
  }

  /// The recurrence of six heads of 64 channels, in the memory of a view.
  private static func packedRecurrence(_ view: (Int) -> View, transposed: Bool, _ pool: any WorkPool) -> View
  {
    let (from, to) = (view(384), view(384))
    let recurrence = View(base: from.base, element: from.element, shape: [6, 256, 64])
    let type = VitRuntime.Kernel.packedType(recurrence: TensorType(from.element, fixed: [6, 256, 64]))
    precondition(recurrence.count <= from.count && type.count <= to.count)
    let packed = View(base: to.base, element: to.element, shape: type.extents)
    VitRuntime.Kernel.pack(recurrence: recurrence, transposed: transposed, into: packed, pool: pool)
    return packed
  }

  /// A pass over eight sequences of 197 tokens and 384 channels in two directions; memory is counted by its operands.
  private static func scan(
    _ name: String,
    _ make: @escaping (ScanTable, (Int) -> View, any WorkPool) -> () -> Void
  ) -> Kernel {
    Kernel(name: name, problem: "8x197x384", isBoundByMemory: true) { element in
      let order = Array(0..<197)
      var random = SplitMix(seed: 1)
      var blocks: [Block] = []
      func view(_ channels: Int) -> View {
        let shape = [8, 197, channels]
        let block = Block(byteCount: shape.reduce(1, *) * element.size)
        blocks.append(block)
        for index in 0..<shape.reduce(1, *) { block.bytes.store(random.normal(), at: index, as: element) }
        return View(base: block.base, element: element, shape: shape)
      }
      let run = make(ScanTable([order, order.reversed()]), view, SerialPool())
      let kept = blocks
      let bytes = kept.reduce(0) { $0 + $1.bytes.count }
      return ({ withExtendedLifetime(kept, run) }, Cost(flops: 0, bytes: bytes))
    }
  }
}

/// Memory of a kernel's operand, for as long as the block lives.
private final class Block {
  let base: UnsafeMutableRawPointer
  let bytes: UnsafeMutableRawBufferPointer

  init(byteCount: Int) {
    base = .allocate(byteCount: byteCount, alignment: 64)
    bytes = UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }

  deinit { base.deallocate() }
}
