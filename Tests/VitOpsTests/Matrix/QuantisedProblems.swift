import VitIR
import VitTestSupport

extension Draw {
  /// Numbers of eight bits.
  mutating func bytes(_ shape: [Int], _ element: ElementType = .u8) -> Tensor {
    whole(shape, element == .u8 ? 0...255 : -128...127, element)
  }

  /// A scale between the usual ones, and a zero point.
  mutating func grid(_ element: ElementType = .u8) -> [Tensor?] {
    [uniform([], 0.01...0.05), whole([], element == .u8 ? 100...150 : -9...9, element)]
  }
}

extension OpProblem {
  /// Eight-bit numbers in and out: levels may round to neighbouring steps.
  private static let step = 1.0 / 100

  private static func eightBit(
    _ name: String, _ draw: @escaping @Sendable (inout Draw) throws -> Problem
  ) -> OpProblem {
    OpProblem(name, precision: nil, agreement: step, draw)
  }

  private static func linear(
    _ inputs: [Tensor?], _ attributes: [(String, Attribute)] = [], results: Int = 1
  ) -> Problem { Problem(inputs: inputs, attributes: attributes, results: results) }

  /// A table of 256 results.
  private static func table(_ name: String, _ attributes: [(String, Attribute)] = []) -> OpProblem {
    eightBit("com.microsoft." + name) { draw in
      linear([draw.bytes(draw.shape)] + draw.grid() + draw.grid(), attributes)
    }
  }

  private static func twoOperands(_ name: String) -> OpProblem {
    eightBit("com.microsoft." + name) { draw in
      linear(
        [draw.bytes(draw.shape)] + draw.grid() + [draw.bytes(draw.broadcasting(to: draw.shape))]
          + draw.grid() + draw.grid())
    }
  }

  private static func quantising(_ domain: String) -> OpProblem {
    eightBit(domain + ".QuantizeLinear") { draw in
      linear([draw.normal(draw.shape)] + draw.grid(), domain == "onnx" ? [] : [("axis", .int(-1))])
    }
  }

  private static func dequantising(_ domain: String) -> OpProblem {
    eightBit(domain + ".DequantizeLinear") { draw in linear([draw.bytes(draw.shape)] + draw.grid()) }
  }

  /// Operators on quantised numbers.
  static let quantised: [OpProblem] =
    ["onnx", "com.microsoft"].map(quantising) + ["onnx", "com.microsoft"].map(dequantising)
    + [
      table("QLinearSigmoid"), table("QLinearLeakyRelu", [("alpha", .float(0.1))]),
      twoOperands("QLinearAdd"), twoOperands("QLinearMul"),
      eightBit("onnx.DynamicQuantizeLinear") { draw in .of(draw.normal(draw.shape), results: 3) },
      eightBit("onnx.MatMulInteger") { draw in
        .of(
          draw.bytes([draw.batch, draw.rows, 7]), draw.bytes([7, draw.columns], .i8), .scalar(120, .u8),
          .scalar(3, .i8))
      },
      eightBit("onnx.QLinearMatMul") { draw in
        linear(
          [draw.bytes([draw.batch, draw.rows, 7])] + draw.grid() + [draw.bytes([7, draw.columns], .i8)]
            + draw.grid(.i8) + draw.grid())
      },
      eightBit("onnx.ConvInteger") { draw in
        let window = draw.window()
        return .of(
          draw.bytes([draw.batch, 2, draw.rows, draw.columns]), draw.bytes([3, 2] + window),
          .scalar(120, .u8),
          .scalar(9, .u8), attributes: ["pads": .ints([1, 1, 1, 1])])
      },
      eightBit("onnx.QLinearConv") { draw in
        let window = draw.window()
        return linear(
          [draw.bytes([draw.batch, 2, draw.rows, draw.columns])] + draw.grid()
            + [draw.bytes([3, 2] + window, .i8)] + draw.grid(.i8) + draw.grid()
            + [draw.whole([3], -99...99, .i32)], [("pads", .ints([1, 1, 1, 1]))])
      },
      eightBit("com.microsoft.QLinearConv") { draw in
        let isLast = draw.flip()
        let image = [draw.batch] + (isLast ? [draw.rows, draw.columns, 2] : [2, draw.rows, draw.columns])
        return linear(
          [draw.bytes(image)] + draw.grid() + [draw.bytes([3, 2] + draw.window(), .i8)] + draw.grid(.i8)
            + draw.grid() + [draw.whole([3], -99...99, .i32)],
          [("pads", .ints([1, 1, 1, 1])), ("channels_last", .int(isLast ? 1 : 0))])
      },
      eightBit("com.microsoft.NhwcMaxPool") { draw in
        linear(
          [draw.bytes([draw.batch, draw.rows, draw.columns, 3])],
          [("kernel_shape", .ints([3, 2])), ("pads", .ints([1, 0, 1, 1]))])
      },
      eightBit("com.microsoft.QLinearAveragePool") { draw in
        let isLast = draw.flip()
        let image = [draw.batch] + (isLast ? [draw.rows, draw.columns, 2] : [2, draw.rows, draw.columns])
        return linear(
          [draw.bytes(image)] + draw.grid() + draw.grid(),
          [
            ("kernel_shape", .ints([3, 2])), ("pads", .ints([1, 0, 1, 1])),
            ("channels_last", .int(isLast ? 1 : 0)),
          ])
      },
      eightBit("com.microsoft.QLinearWhere") { draw in
        linear(
          [draw.bools(draw.shape), draw.bytes(draw.shape)] + draw.grid()
            + [draw.bytes(draw.broadcasting(to: draw.shape))] + draw.grid() + draw.grid())
      },
      eightBit("com.microsoft.MatMulIntegerToFloat") { draw in
        .of(
          draw.bytes([draw.batch, draw.rows, 7]), draw.bytes([7, draw.columns], .i8), .scalar(0.02),
          draw.uniform([draw.columns], 0.01...0.05), .scalar(120, .u8), nil, draw.normal([draw.columns]))
      },
      eightBit("com.microsoft.DynamicQuantizeMatMul") { draw in
        .of(
          draw.normal([draw.batch, draw.rows, 7]), draw.bytes([7, draw.columns], .i8), .scalar(0.02),
          .scalar(2, .i8))
      },
      eightBit("com.microsoft.QGemm") { draw in
        let rows = draw.extents == .emptyBatch ? 0 : draw.rows
        return linear(
          [draw.bytes([rows, 7])] + draw.grid() + [draw.bytes([7, draw.columns], .i8)] + draw.grid(.i8)
            + [draw.whole([draw.columns], -99...99, .i32)] + draw.grid())
      },
      eightBit("com.microsoft.QLinearConcat") { draw in
        linear(
          draw.grid() + [draw.bytes(draw.shape)] + draw.grid() + [draw.bytes([draw.batch, 2, draw.columns])]
            + draw.grid(), [("axis", .int(1))])
      },
      eightBit("com.microsoft.QLinearGlobalAveragePool") { draw in
        linear([draw.bytes([draw.batch, 3, draw.rows, draw.columns])] + draw.grid() + draw.grid())
      },
      eightBit("com.microsoft.QLinearSoftmax") { draw in
        linear(
          [draw.bytes(draw.shape)] + draw.grid() + [.scalar(0.01), .scalar(0, .u8)],
          [("axis", .int(-1)), ("opset", .int(13))])
      },
      eightBit("com.microsoft.QAttention") { draw in
        let dim = 2 * draw.columns
        return .of(
          draw.bytes([draw.batch, draw.rows, dim]), draw.bytes([dim, 3 * dim], .i8), draw.normal([3 * dim]),
          .scalar(0.02), .scalar(0.01), nil, .scalar(120, .u8), .scalar(1, .i8),
          attributes: ["num_heads": .int(2)])
      },
      OpProblem("com.microsoft.MatMulNBits", precision: nil) { draw in
        let blocks = draw.pick([1, 3])
        return .of(
          draw.normal([draw.batch, draw.rows, 32 * blocks]), draw.bytes([draw.columns, blocks, 16]),
          draw.uniform([draw.columns * blocks], 0.01...0.05),
          attributes: [
            "K": .int(32 * blocks), "N": .int(draw.columns), "bits": .int(4), "block_size": .int(32),
          ], known: [2])
      },
    ]
}
