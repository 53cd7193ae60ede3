internal import VitIR

/// Since when operators and their attributes are in the standard, as far as that is behind version 13.
enum OnnxVersions {
  /// The operators that are not in version 13, with the first that has them.
  static let operators: [String: Int] = [
    "AffineGrid": 20, "Attention": 23, "BitwiseAnd": 18, "BitwiseNot": 18, "BitwiseOr": 18, "BitwiseXor": 18,
    "CastLike": 15, "CenterCropPad": 18, "Col2Im": 18, "Gelu": 20, "GridSample": 16, "GroupNormalization": 21,
    "HardSwish": 14, "LayerNormalization": 17, "Mish": 18, "RMSNormalization": 23, "RotaryEmbedding": 23,
    "Swish": 24, "Trilu": 14,
  ]

  /// Operators that no version has.
  static let unknown: Set<String> = ["SimplifiedLayerNormalization"]

  /// The attributes that are not in version 13, with the first that has them, and the value that says nothing new.
  static let attributes: [String: [String: (since: Int, neutral: Attribute?)]] = [
    "AveragePool": ["dilations": (19, nil)],
    "BatchNormalization": ["training_mode": (14, .bool(false))],
    "Cast": ["saturate": (19, .bool(true)), "round_mode": (24, .string("up"))],
    "CastLike": ["saturate": (19, .bool(true)), "round_mode": (24, .string("up"))],
    "DequantizeLinear": ["block_size": (21, .int(0)), "output_dtype": (23, .int(0))],
    "GRU": ["layout": (14, .int(0))],
    "LSTM": ["layout": (14, .int(0))],
    "LpPool": ["ceil_mode": (18, .bool(false)), "dilations": (18, nil)],
    "QuantizeLinear": [
      "saturate": (19, .bool(true)), "output_dtype": (21, .int(0)), "block_size": (21, .int(0)),
      "precision": (23, .int(0)),
    ],
    "RNN": ["layout": (14, .int(0))],
    "Reshape": ["allowzero": (14, .bool(false))],
    "Resize": [
      "keep_aspect_ratio_policy": (18, .string("stretch")), "axes": (18, nil),
      "antialias": (18, .bool(false)),
    ],
    "ScatterElements": ["reduction": (16, .string("none"))],
    "ScatterND": ["reduction": (16, .string("none"))],
    "Shape": ["start": (15, .int(0)), "end": (15, nil)],
    "Split": ["num_outputs": (18, nil)],
  ]

  /// The operators whose axes are an operand, with the version since which they are.
  static func axesAreOperand(_ type: String, opset: Int) -> Bool? {
    switch type {
    case "ReduceSum", "Squeeze", "Unsqueeze": true
    case _ where type.hasPrefix("Reduce"): opset >= 18
    default: nil
    }
  }
}
