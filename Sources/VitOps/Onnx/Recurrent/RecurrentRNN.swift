internal import VitIR
internal import VitRuntime

/// `onnx.RNN(X, W, R, B?, sequence_lens?, initial_h?)`: a function of input and state, in one direction or two.
struct OnnxRNN: RecurrentOperation {
  static let name = "onnx.RNN"
  static let summary = "A function of input and state, over a sequence"
  static let example =
    "(f32[5, 1, 3], f32[1, 2, 3], f32[1, 2, 2], f32[1, 4], _, f32[1, 1, 2]) {hidden_size = 2} -> 2"
  static let gates = 1
  static let states = 1

  let settings: RecurrentSettings

  init(attributes: inout AttributeReader) throws(VitError) {
    settings = try RecurrentSettings(attributes: &attributes, standard: ["Tanh"])
  }

  var attributes: Attributes { settings.attributes }

  func step<Real: BinaryFloatingPoint>(_ run: RecurrentRun<Real>) {
    run.multiply(0..<1)
    let squash = run.function(0)
    for item in 0..<run.batch where run.isActive(item) {
      let (input, recurrent, state) = (run.input(item), run.recurrent(item), run.state(item))
      for channel in 0..<run.hidden {
        state[channel] = Real(
          squash.apply(settings.limited(Double(input[channel]) + Double(recurrent[channel]))))
      }
    }
  }
}
