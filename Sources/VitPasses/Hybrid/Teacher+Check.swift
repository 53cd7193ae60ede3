internal import VitIR

extension Teacher {
  /// An error that the teacher is not the one of a hybrid.
  func mismatch(_ reason: String) -> VitError {
    VitError(
      "the teacher is not the model that the layers were replaced in: \(reason)", code: "teacher-mismatch",
      help: "give the model that the hybrid was made from")
  }

  /// Throws unless inputs, outputs and layers are those that a hybrid made of it has.
  func check(_ hybrid: Hybrid) throws(VitError) {
    let (own, other) = (graph.inputs.map(graph.type), hybrid.graph.inputs.map(hybrid.graph.type))
    guard own == other else { throw mismatch("its inputs are \(own), those of the hybrid \(other)") }
    guard graph.outputs.count == hybrid.graph.outputs.count else {
      throw mismatch("it has \(graph.outputs.count) outputs, the hybrid \(hybrid.graph.outputs.count)")
    }
    guard layers.map(\.index) == hybrid.layers.map(\.index) else {
      throw mismatch("it has \(layers.count) layers, the hybrid \(hybrid.layers.count)")
    }
    for (layer, same) in zip(layers, hybrid.layers) {
      let (a, b) = (layer.input.map(graph.type), same.input.map(hybrid.graph.type))
      guard a == b else { throw mismatch("layer \(layer.index) reads other tokens") }
    }
  }
}

extension Hybrid {
  /// The teacher; throws a usage error where there is none.
  func teacher(for pass: String) throws(VitError) -> Teacher {
    if let teacher { return teacher }
    throw VitError(
      "\(pass) needs the model that the layers were replaced in", kind: .usage, code: "teacher-missing",
      help: "give it with --teacher")
  }
}
