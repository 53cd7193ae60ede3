internal import VitIR
internal import VitRuntime

/// `onnx.LSTM(X, W, R, B?, sequence_lens?, initial_h?, initial_c?, P?)`: a long short-term memory in one
/// direction or two. Gates in the order input, output, forget, cell.
struct OnnxLSTM: RecurrentOperation {
  static let name = "onnx.LSTM"
  static let summary = "A long short-term memory over a sequence"
  static let example =
    "(f32[5, 1, 3], f32[1, 8, 3], f32[1, 8, 2], f32[1, 16], _, f32[1, 1, 2], f32[1, 1, 2], f32[1, "
    + "6]) {hidden_size = 2} -> 3"
  static let gates = 4
  static let states = 2
  static let peepholes = 3

  /// Its functions are those of gates, cell input and cell.
  let settings: RecurrentSettings
  let couplesForget: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    settings = try RecurrentSettings(attributes: &attributes, standard: ["Sigmoid", "Tanh", "Tanh"])
    couplesForget = try attributes.bool("input_forget", default: false)
  }

  var attributes: Attributes {
    settings.attributes.merging(Attributes([("input_forget", .int(couplesForget ? 1 : 0))]))
  }

  func step<Real: BinaryFloatingPoint>(_ run: RecurrentRun<Real>) {
    run.multiply(0..<4)
    let hidden = run.hidden
    let peepholes = run.part(7, of: 3 * hidden)
    let (gate, squash, output) = (run.function(0), run.function(1), run.function(2))
    for item in 0..<run.batch where run.isActive(item) {
      let (input, recurrent) = (run.input(item), run.recurrent(item))
      let (state, cell) = (run.state(item), run.state(item, 1))
      for channel in 0..<hidden {
        func sum(_ part: Int, _ peephole: Int?, _ cell: Double) -> Double {
          let place = part * hidden + channel
          let seen =
            peephole.flatMap { place in peepholes.map { Double($0[place * hidden + channel]) * cell } } ?? 0
          return settings.limited(Double(input[place]) + Double(recurrent[place]) + seen)
        }
        let before = Double(cell[channel])
        let take = gate.apply(sum(0, 0, before))
        let keep = couplesForget ? 1 - take : gate.apply(sum(2, 2, before))
        let after = keep * before + take * squash.apply(sum(3, nil, 0))
        cell[channel] = Real(after)
        state[channel] = Real(gate.apply(sum(1, 1, after)) * output.apply(after))
      }
    }
  }
}
