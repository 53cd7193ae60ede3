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

  case batchNormalization = "onnx.BatchNormalization"
  case cast = "onnx.Cast"
  case castLike = "onnx.CastLike"
  case concat = "onnx.Concat"
  case constantOfShape = "onnx.ConstantOfShape"
  case identity = "onnx.Identity"
  case instanceNormalization = "onnx.InstanceNormalization"
  case microsoftQuantizeLinear = "com.microsoft.QuantizeLinear"
  case quantizeLinear = "onnx.QuantizeLinear"
  case split = "onnx.Split"
  case squeeze = "onnx.Squeeze"
  case unsqueeze = "onnx.Unsqueeze"

  /// Whether the decoder deals with it in place of the registry.
  var isStructural: Bool {
    switch self {
    case .constant, .branch, .splitToSequence, .concatFromSequence, .sequenceEmpty, .sequenceConstruct,
      .sequenceAt, .sequenceInsert, .sequenceErase, .sequenceLength:
      true
    default: false
    }
  }

  /// The name without its domain, as it stands in a file.
  var type: String { rawValue.split(separator: ".").last.map(String.init) ?? rawValue }
}
