internal import VitIR
internal import VitRuntime

/// A value of a model for all of some samples, from which the rest of it can be run.
struct StoredStream {
  /// The value.
  let value: ValueID
  /// What it is in one run.
  let shape: [Int]
  private let memory: Arena

  /// Room for what `view` is, in so many runs. Throws where it does not fit into memory.
  init(_ value: ValueID, like view: View, runs: Int) throws(VitError) {
    self.value = value
    shape = view.shape
    memory = try Arena(byteCount: view.byteCount * runs, for: "a stream of samples")
  }

  /// What it is in a run.
  subscript(run: Int) -> View {
    let type = TensorType(.f32, fixed: shape)
    return memory.view(type, at: run * type.count * 4)
  }
}
