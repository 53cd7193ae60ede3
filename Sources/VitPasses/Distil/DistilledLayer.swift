internal import VitIR
internal import VitTrain

/// A layer as distillation leaves it: what one step of a compile that is done in several keeps for the last one.
///
/// Layers are distilled each towards its own attention, on the same samples in the same order, so that what comes of one does
/// not depend on which others are distilled beside it.
struct DistilledLayer {
  /// The layer's number.
  let layer: Int
  /// How far the mixer is from the layer, as a candidate says it; `nil` where nothing was measured.
  let errors: Errors?
  /// The weights by the names of their constants.
  let tensors: [(name: String, tensor: Tensor)]
  /// The loss, where there were steps.
  let curve: LossCurve?
  /// Where training went astray, if it did.
  let divergence: Layer.Divergence?

  /// The numbers of `LayerError`.
  struct Errors {
    let relative, determination: Double
    let prefix, patches: Double?
  }

  /// What a note says of it, where something was measured.
  var note: String? { errors.map { "layer \(layer): error \(($0.relative * 1e4).rounded() / 1e4)" } }

  /// Writes the weights into the graph and the errors into the layer.
  func apply(to hybrid: inout Hybrid) {
    for (name, tensor) in tensors {
      if let id = hybrid.graph.value(named: name) { hybrid.graph.setTensor(tensor, of: id) }
    }
    guard let errors, let index = hybrid.place(of: layer) else { return }
    let last = hybrid.layers[index].candidates.count - 1
    guard last >= 0 else { return }
    hybrid.layers[index].candidates[last].error = errors.relative
    hybrid.layers[index].candidates[last].prefixError = errors.prefix
    hybrid.layers[index].candidates[last].patchError = errors.patches
    hybrid.layers[index].candidates[last].determination = errors.determination
    hybrid.layers[index].candidates[last].divergence = divergence
  }
}

// MARK: In a file

extension DistilledLayer {
  /// Keeps the layer in `store`, with the names of samples that were left out.
  func save(in store: any CheckpointStore, _ key: String, leftOut: [String]) throws {
    var bytes: [UInt8] = []
    func put(_ value: UInt64) { withUnsafeBytes(of: value.littleEndian) { bytes += $0 } }
    func put(_ value: Int) { put(UInt64(bitPattern: Int64(value))) }
    func put(_ text: String) {
      put(text.utf8.count)
      bytes += Array(text.utf8)
    }
    func put(_ value: Double?) {
      put(value == nil ? 0 : 1)
      put((value ?? 0).bitPattern)
    }
    put(leftOut.count)
    for name in leftOut { put(name) }
    for error in [errors?.relative, errors?.determination, errors?.prefix, errors?.patches] { put(error) }
    put(divergence?.step ?? -1)
    put((divergence?.rate ?? 0).bitPattern)
    put(curve?.steps ?? 0)
    try curve?.write { bytes += $0 }
    put(tensors.count)
    for (name, tensor) in tensors {
      put(name)
      put(4 * tensor.shape.reduce(1, *))
      try tensor.storage.withBytes { bytes += $0 }
    }
    try store.save(bytes.count, key) { write in try bytes.withUnsafeBytes(write) }
  }

  /// What was kept of the layer that `mixer` stands in, and the names of samples that were left out; `nil` where nothing was. Throws
  /// unless there is each of the mixer's weights, as it is, once.
  static func load(
    _ mixer: MixerNode, from store: any CheckpointStore, _ key: String
  ) throws -> (layer: DistilledLayer, leftOut: [String])? {
    try store.load(key) { reader in
      func text(_ what: String) throws -> String {
        var bytes = [UInt8](
          repeating: 0, count: try reader.integer(in: 0...reader.remaining, "the length of \(what)"))
        try bytes.withUnsafeMutableBytes { try reader.read(into: $0) }
        guard let text = String(validating: bytes, as: UTF8.self) else {
          throw StateReader.failure("the checkpoint's \(what) is no UTF-8")
        }
        return text
      }
      func optional() throws -> Double? {
        let isThere = try reader.integer(in: 0...1, "whether there is an error") == 1
        let value = Double(bitPattern: try reader.bits())
        return isThere ? value : nil
      }
      let leftOut = try (0..<reader.integer(in: 0...reader.remaining, "the number of samples")).map { _ in
        try text("a sample's name")
      }
      let errors = try (0..<4).map { _ in try optional() }
      let diverged = try reader.integer(
        in: -1...Effort.steps.upperBound, "the step at which a layer diverged")
      let rate = try reader.number("the rate at which it did")
      let steps = try reader.integer(in: 0...Effort.steps.upperBound, "the steps")
      var curve: LossCurve?
      if steps > 0 {
        var read = LossCurve(pass: Distil.name, layer: mixer.layer.index, steps: steps)
        try read.restore(from: &reader)
        curve = read
      }
      let wanted = mixer.region.constants
      _ = try reader.integer(in: wanted.count...wanted.count, "the number of weights")
      let tensors = try wanted.map { constant -> (name: String, tensor: Tensor) in
        guard try text("a weight's name") == constant.name else {
          throw StateReader.failure("the checkpoint has other weights than '\(constant.name)'")
        }
        let shape = constant.tensor.shape
        let size = 4 * shape.reduce(1, *)
        _ = try reader.integer(in: size...size, "the bytes of '\(constant.name)'")
        return (constant.name, try Tensor(.f32, shape: shape) { try reader.read(into: $0) })
      }
      let found = errors[0].flatMap { relative in
        errors[1].map { Errors(relative: relative, determination: $0, prefix: errors[2], patches: errors[3]) }
      }
      return (
        DistilledLayer(
          layer: mixer.layer.index, errors: found, tensors: tensors, curve: curve,
          divergence: diverged < 0 ? nil : Layer.Divergence(step: diverged, rate: rate)), leftOut
      )
    }
  }
}
