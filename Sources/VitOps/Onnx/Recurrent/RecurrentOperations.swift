internal import VitIR

extension Registry {
  /// The operations of this family.
  static let onnxRecurrent: [any Operation.Type] = [
    OnnxGRU.self, OnnxLSTM.self, OnnxRNN.self,
  ]
}
