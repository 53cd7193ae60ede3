internal import VitIR
internal import VitRuntime

/// `onnx.GRU(X, W, R, B?, sequence_lens?, initial_h?)`: gated recurrent units in one direction or two. Gates in the order
/// update, reset, hidden.
struct OnnxGRU: RecurrentOperation {
  static let name = "onnx.GRU"
  static let summary = "Gated recurrent units over a sequence"
  static let example =
    "(f32[5, 1, 3], f32[1, 6, 3], f32[1, 6, 2], f32[1, 12], _, f32[1, 1, 2]) {hidden_size = 2} -> 2"
  static let gates = 3
  static let states = 1
  static let extraRows = 1

  /// Its functions are those of gates and of the hidden state.
  let settings: RecurrentSettings
  /// Whether the reset gate comes after the product with the state, else before it.
  let resetsLate: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    settings = try RecurrentSettings(attributes: &attributes, standard: ["Sigmoid", "Tanh"])
    resetsLate = try attributes.int("linear_before_reset", default: 0) != 0
  }

  var attributes: Attributes {
    settings.attributes.merging(Attributes([("linear_before_reset", .int(resetsLate ? 1 : 0))]))
  }

  /// A late reset works on the product with its bias.
  var jointBiases: Int { resetsLate ? 2 : 3 }

  func step<Real: BinaryFloatingPoint>(_ run: RecurrentRun<Real>) {
    let hidden = run.hidden
    let (gate, squash) = (run.function(0), run.function(1))
    /// A gate's value of one channel.
    func value(_ item: Int, _ part: Int, _ channel: Int) -> Double {
      let place = part * hidden + channel
      return gate.apply(settings.limited(Double(run.input(item)[place]) + Double(run.recurrent(item)[place])))
    }
    run.multiply(0..<(resetsLate ? 3 : 2))
    if !resetsLate {
      for item in 0..<run.batch where run.isActive(item) {
        for channel in 0..<hidden {
          run.state(item, 1)[channel] = Real(value(item, 1, channel)) * run.state(item)[channel]
        }
      }
      run.multiply(2..<3, state: 1)
    }
    let biases = resetsLate ? run.part(3, of: 6 * hidden).map { $0 + 5 * hidden } : nil
    for item in 0..<run.batch where run.isActive(item) {
      let state = run.state(item)
      for channel in 0..<hidden {
        let update = value(item, 0, channel)
        var share = Double(run.recurrent(item)[2 * hidden + channel])
        if resetsLate { share = value(item, 1, channel) * (share + Double(biases?[channel] ?? 0)) }
        let fresh = squash.apply(settings.limited(Double(run.input(item)[2 * hidden + channel]) + share))
        state[channel] = Real((1 - update) * fresh + update * Double(state[channel]))
      }
    }
  }
}
