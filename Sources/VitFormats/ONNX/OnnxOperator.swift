/// The operators that the decoder knows by name: the only names of operators outside of `VitOps`.
///
/// Structural ones have no operation of their own: they exist while the graph is built. Of the others the file's form
/// differs from the operation's, or the decoder makes them for what a structural one does.
enum OnnxOperator: String, CaseIterable {
  case constant = "onnx.Constant"
  case branch = "onnx.If"
  case splitToSequence = "onnx.SplitToSequence"
  case concatFromSequence = "onnx.ConcatFromSequence"
  case sequenceEmpty = "onnx.SequenceEmpty"
  case sequenceConstruct = "onnx.SequenceConstruct"
  case sequenceAt = "onnx.SequenceAt"
  case sequenceInsert = "onnx.SequenceInsert"
  case sequenceErase = "onnx.SequenceErase"
  case sequenceLength = "onnx.SequenceLength"

  case loop = "onnx.Loop"
  case scan = "onnx.Scan"
  case sequenceMap = "onnx.SequenceMap"

  case compress = "onnx.Compress"
  case microsoftUnique = "com.microsoft.Unique"
  case nonMaxSuppression = "onnx.NonMaxSuppression"
  case nonZero = "onnx.NonZero"
  case unique = "onnx.Unique"

  case bernoulli = "onnx.Bernoulli"
  case multinomial = "onnx.Multinomial"
  case randomNormal = "onnx.RandomNormal"
  case randomNormalLike = "onnx.RandomNormalLike"
  case randomUniform = "onnx.RandomUniform"
  case randomUniformLike = "onnx.RandomUniformLike"

  case batchNormalization = "onnx.BatchNormalization"
  case bitwiseNot = "onnx.BitwiseNot"
  case cast = "onnx.Cast"
  case castLike = "onnx.CastLike"
  case concat = "onnx.Concat"
  case constantOfShape = "onnx.ConstantOfShape"
  case identity = "onnx.Identity"
  case instanceNormalization = "onnx.InstanceNormalization"
  case microsoftQuantizeLinear = "com.microsoft.QuantizeLinear"
  case quantizeLinear = "onnx.QuantizeLinear"
  case shape = "onnx.Shape"
  case size = "onnx.Size"
  case split = "onnx.Split"
  case squeeze = "onnx.Squeeze"
  case unsqueeze = "onnx.Unsqueeze"

  /// The domain of what ONNX Runtime makes of operators for one machine.
  static let laidOutDomain = "com.microsoft.nchwc"

  /// Whether the decoder deals with it in place of the registry.
  var isStructural: Bool {
    switch self {
    case .constant, .branch, .splitToSequence, .concatFromSequence, .sequenceEmpty, .sequenceConstruct,
      .sequenceAt, .sequenceInsert, .sequenceErase, .sequenceLength:
      true
    default: false
    }
  }

  /// Whether the extents of its results depend on the elements of its operands.
  var shapeDependsOnData: Bool {
    switch self {
    case .compress, .microsoftUnique, .nonMaxSuppression, .nonZero, .unique: true
    default: false
    }
  }

  /// Whether it runs graphs of its own, a number of times that data decide.
  var isLoop: Bool { self == .loop || self == .scan || self == .sequenceMap }

  /// Whether its results are drawn by chance.
  var isRandom: Bool {
    switch self {
    case .bernoulli, .multinomial, .randomNormal, .randomNormalLike, .randomUniform, .randomUniformLike: true
    default: false
    }
  }

  /// Whether its results depend on the extents of its operands alone.
  var looksAtExtents: Bool { self == .shape || self == .size }

  /// The name without its domain, as it stands in a file.
  var type: String { rawValue.split(separator: ".").last.map(String.init) ?? rawValue }
}
