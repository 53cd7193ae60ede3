package import VitIR
internal import VitRuntime

/// Compares what two graphs compute on an input that is the same on every machine.
package enum GraphProbe {
  /// Inputs of `shapes` for `graph`: normal numbers for floats, zeros for whole numbers, true for truth values.
  package static func inputs(_ graph: Graph, shapes: [[Int]], seed: UInt64 = 0) -> [Tensor] {
    zip(graph.inputs, shapes).enumerated().map { index, input in
      let type = TensorType(graph.type(input.0).element, fixed: input.1)
      var random = SplitMix(seed: seed).split("probe").split(index)
      let values: [Double]
      switch type.element {
      case let element where element.isFloat: values = (0..<type.count).map { _ in random.normal() }
      case .bool: values = Array(repeating: 1, count: type.count)
      default: values = Array(repeating: 0, count: type.count)
      }
      return Tensor(type.element, shape: input.1, values: values)
    }
  }

  /// The largest difference of an output element, relative to the largest magnitude of that output; `nil` where the
  /// graphs cannot be run.
  package static func deviation(of graph: Graph, from reference: Graph, pool: any WorkPool) throws -> Double?
  {
    guard !reference.tensors.names.contains(where: { reference.tensors[$0]?.isElided ?? false }) else {
      return nil
    }
    let inputs = inputs(reference, shapes: try ModelShapes(reference).shapes(batch: 1))
    let expected = try outputs(reference, inputs, pool)
    for name in reference.tensors.names { reference.tensors[name]?.storage.release() }
    let found = try outputs(graph, inputs, pool)
    return try zip(found, expected).map { try $0.deviation(from: $1) }.max() ?? 0
  }

  private static func outputs(_ graph: Graph, _ inputs: [Tensor], _ pool: any WorkPool) throws -> [Tensor] {
    let executor = try Executor(
      graph, weights: WeightStore(graph), inputShapes: inputs.map(\.shape), pool: pool)
    for (tensor, view) in zip(inputs, executor.inputs) { try tensor.copy(to: view) }
    executor.run()
    return try executor.outputs.map(Tensor.init(copying:))
  }
}

extension Tensor {
  /// The largest difference of an element to `reference`'s, relative to the largest finite magnitude there; infinite where
  /// one of two is no number, or shapes differ.
  package func deviation(from reference: Tensor) throws -> Double {
    guard shape == reference.shape else { return .infinity }
    let (a, b) = (try doubles(), try reference.doubles())
    let scale = b.reduce(0) { $1.isFinite ? max($0, $1.magnitude) : $0 }
    var worst = 0.0
    for (x, y) in zip(a, b) where x != y && !(x.isNaN && y.isNaN) {
      worst = max(worst, x.isFinite && y.isFinite ? (x - y).magnitude : .infinity)
    }
    return worst == 0 ? 0 : worst / max(scale, 1e-30)
  }
}
