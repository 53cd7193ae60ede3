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
      guard hybrid.mayHave(b, in: a) else { throw mismatch("layer \(layer.index) reads other tokens") }
    }
  }
}

extension Hybrid {
  /// Whether a value of the type `own` can be what the teacher has as `other`; where tokens are merged there are fewer.
  func mayHave(_ own: TensorType?, in other: TensorType?) -> Bool {
    guard let own, let other, own.rank == 3, other.rank == 3, graph.mergedTokens != nil else {
      return own == other
    }
    return own.element == other.element && own.shape[0] == other.shape[0] && own.shape[2] == other.shape[2]
  }

  /// Throws where the model is another than its teacher: what a pass makes of it would be the teacher of a model that nobody has.
  func checkOwnTeacher(for pass: String) throws {
    let help =
      "run '\(pass)' on the teacher, before what replaces or leaves out, and compile what it gives"
    guard replaced.isEmpty else {
      throw VitError(
        "\(pass) makes another teacher, but layers \(replaced.map(\.index)) of the model are replaced",
        kind: .usage, code: "\(pass)-order", help: help)
    }
    guard let teacher, try graph.firstDifference(from: teacher.graph) != nil else { return }
    throw VitError(
      "\(pass) makes another teacher, but the model is no longer its own", kind: .usage,
      code: "\(pass)-order", help: help)
  }

  /// The teacher; throws a usage error where there is none.
  func teacher(for pass: String) throws(VitError) -> Teacher {
    if let teacher { return teacher }
    throw VitError(
      "\(pass) needs the model that the layers were replaced in", kind: .usage, code: "teacher-missing",
      help: "give it with --teacher")
  }
}
