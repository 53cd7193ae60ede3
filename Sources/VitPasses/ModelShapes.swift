package import VitIR
internal import VitOps
internal import VitRuntime

/// Numbers for the symbols of a model's inputs.
package struct ModelShapes {
  private let graph: Graph
  /// The first axis of the first input, where that is a symbol.
  package let batchSymbol: String?

  /// The shapes of this graph's inputs.
  package init(_ graph: Graph) {
    self.graph = graph
    batchSymbol = graph.inputs.first.flatMap { id in
      graph.type(id).shape.first.flatMap { first in
        first.symbols.first.flatMap { first == .symbol($0) ? $0 : nil }
      }
    }
  }

  /// Sizes of images that are tried in order.
  private static let sizes = [224, 256, 112, 64, 32, 28, 16, 518, 8, 4, 1]

  /// The most tokens among which there may be attention where another size will do: what attends to all pixels of a large image
  /// is tried on a small one.
  private static let tokens = 1024

  /// The extents of the inputs for a batch: symbols other than the batch get the first of some usual sizes that the type
  /// rules accept, one at which attention is not among very many tokens where there is one. Throws where none is accepted.
  package func shapes(batch: Int) throws -> [[Int]] {
    let symbols = Set(graph.inputs.flatMap { graph.type($0).shape.flatMap(\.symbols) })
    if symbols.subtracting(batchSymbol.map { [$0] } ?? []).isEmpty {
      return try shapes(batch: batch, size: 1)
    }
    var failure: (any Error)?
    var first: [[Int]]?
    let folder = ConstantFolder(pool: SerialPool())
    for size in ModelShapes.sizes {
      do {
        let shapes = try shapes(batch: batch, size: size)
        let types = zip(graph.inputs, shapes).map { TensorType(graph.type($0).element, fixed: $1) }
        let found = try GraphBuilder.infer(graph, inputTypes: types, fold: folder.fold).types
        first = first ?? shapes
        if attended(found) <= ModelShapes.tokens { return shapes }
      } catch let error as VitError where error.kind == .environment {
        // Memory or a library that is missing says nothing about the size.
        throw error
      } catch { failure = error }
    }
    if let first { return first }
    throw failure ?? VitError("the model has no inputs")
  }

  /// The most tokens among which there is attention.
  private func attended(_ types: [TensorType]) -> Int {
    graph.nodes.reduce(0) { most, node in
      guard
        node.operation is VitAttention || node.operation is VitSDPA || node.operation.role(of: 0) == .scores,
        let id = node.operands.first ?? nil, let tokens = types[id.index].shape.suffix(2).first?.fixedValue
      else { return most }
      return max(most, tokens)
    }
  }

  private func shapes(batch: Int, size: Int) throws -> [[Int]] {
    try graph.inputs.map { id in
      try graph.type(id).shape.map { dimension in
        let value = dimension.substituting { .fixed($0 == batchSymbol ? batch : size) }
        guard let extent = value.fixedValue, extent >= 0 else {
          throw VitError("input '\(graph[id].name)' has the shape \(graph.type(id).shape)")
        }
        return extent
      }
    }
  }

  /// The graph for images of one size: every symbol but the batch gets the number that a sample of the shape `sample` gives
  /// it. `nil` where there is no such symbol.
  func fixed(to sample: [Int], context: PassContext) throws -> Graph? {
    guard let input = graph.inputs.first, [0, 1].contains(graph.type(input).rank - sample.count) else {
      return nil
    }
    var numbers: [String: Int] = [:]
    for (dimension, extent) in zip(graph.type(input).shape.suffix(sample.count), sample) {
      if let symbol = dimension.symbols.first, dimension == .symbol(symbol) { numbers[symbol] = extent }
    }
    if let batchSymbol { numbers[batchSymbol] = nil }
    guard !numbers.isEmpty else { return nil }
    let inputs = graph.inputs.map { id in
      let type = graph.type(id)
      return TensorType(type.element, type.shape.map { $0.substituting { numbers[$0].map(Dimension.fixed) } })
    }
    var result = graph
    try result.inferTypes(of: inputs, pool: context.pool)
    _ = try Fold().run(on: &result, context: context)
    return result
  }
}

extension Graph {
  /// Gives all values the types that follow from those of the inputs and constants; throws where an operation does not take them.
  mutating func inferTypes(of inputs: [TensorType]? = nil, pool: any WorkPool) throws(VitError) {
    let types = try GraphBuilder.infer(
      self, inputTypes: inputs ?? self.inputs.map(type), fold: ConstantFolder(pool: pool).fold
    ).types
    for (index, type) in types.enumerated() { setType(type, of: valueID(index)) }
  }
}
