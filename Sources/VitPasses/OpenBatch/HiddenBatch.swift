internal import VitIR
internal import VitRuntime

/// A graph whose input says that it takes any number of images, while what is inside was made for one number.
///
/// So look models that were exported for one image and whose input was given a symbol afterwards: `Reshape` to 1×196×384 does
/// not hold for two images, or makes one image of both.
struct HiddenBatch {
  /// The graph for that number.
  let graph: Graph
  /// Whether the types refuse any other; else only the outputs do not hold two images when two come in.
  let isForced: Bool

  /// Looks what the types say of two images; `nil` where they are as they should be, or no number of images works.
  init?(_ graph: Graph, pool: any WorkPool) {
    let folder = ConstantFolder(pool: pool)
    func types(_ count: Int) -> [TensorType]? {
      guard let shapes = try? ModelShapes(graph).shapes(batch: count) else { return nil }
      let inputs = zip(graph.inputs, shapes).map { TensorType(graph.type($0).element, fixed: $1) }
      return try? GraphBuilder.infer(graph, inputTypes: inputs, fold: folder.fold).types
    }
    guard graph.inputs.first.flatMap({ graph.type($0).shape.first }) == .batch else { return nil }
    let two = types(2)
    let isEven = two.map { types in
      graph.outputs.allSatisfy { output in
        let type = types[output.value.index]
        return type.rank == 0 || (type.shape[0].fixedValue ?? 2) % 2 == 0
      }
    }
    guard isEven != true, let count = two != nil ? 1 : HiddenBatch.counts.first(where: { types($0) != nil })
    else { return nil }
    isForced = two == nil
    let inputs = graph.inputs.map { id in
      let type = graph.type(id)
      return TensorType(
        type.element,
        type.shape.map { $0.substituting { $0 == Dimension.batchName ? .fixed(count) : nil } })
    }
    guard let found = try? GraphBuilder.infer(graph, inputTypes: inputs, fold: folder.fold).types else {
      return nil
    }
    var closed = graph
    for (index, type) in found.enumerated() { closed.setType(type, of: closed.valueID(index)) }
    self.graph = closed
  }

  /// The numbers of images that a model is taken to be made for where two do not work.
  private static let counts = [1] + Array(3...64)
}
