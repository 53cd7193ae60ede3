public import VitIR
internal import VitOps
internal import VitRuntime

/// Takes quantised weights and activations for the floats that they stand for.
///
/// Weights keep the values that the file holds; activations are no longer rounded, and saturate only where zero is an end
/// of their range, as quantisers write a rectifier. The result has a gradient and linear maps like any float model, and
/// differs from the file by that rounding.
public struct Dequantise: GraphPass {
  /// `dequantise`.
  public static let name = "dequantise"
  /// See `Pass`.
  public static let summary = "Takes quantised weights and activations as the floats that they stand for"

  /// The pass; it has no options.
  public init() {}
  /// The pass; it takes no options.
  public init(options: inout OptionReader) throws(VitError) {}
  /// None.
  public var options: [(name: String, value: String)] { [] }

  /// Builds the graph anew in floats; what it does not know there stays as it is.
  public func run(on graph: inout Graph, context: PassContext) throws -> PassResult {
    var kept: Set<ValueID> = []
    while true {
      var dequantiser = Dequantiser(
        graph, registry: context.registry, pool: context.pool, keeping: kept)
      try dequantiser.run()
      let remaining = dequantiser.remaining
      guard remaining.isEmpty else {
        kept.formUnion(remaining)
        continue
      }
      guard dequantiser.changes > 0 else { return PassResult() }
      graph = dequantiser.graph
      _ = try Fold().run(on: &graph, context: context)
      try graph.absorbScales(into: dequantiser.products, registry: context.registry)
      graph.annotations["dequantised"] = .string(dequantiser.text)
      return PassResult(changes: dequantiser.changes, notes: [dequantiser.text])
    }
  }
}

extension Graph {
  /// Whether some operation works on quantised numbers.
  package var isQuantised: Bool { !quantisedNodes.isEmpty }

  /// The nodes that work on quantised numbers.
  package var quantisedNodes: [Node] { nodes.filter { $0.operation is any QuantisedOperation } }

  /// Multiplies constant factors of `products`, one number or one for each column or filter, into their weights.
  fileprivate mutating func absorbScales(into products: Set<ValueID>, registry: Registry) throws(VitError) {
    var rewriter = Rewriter(self, registry: registry)
    /// Weights that several products share stay shared.
    var scaled: [[ValueID]: ValueID] = [:]
    for node in rewriter.nodes where node.isAny(Onnx.mul) {
      guard let a = node.operands[0], let b = node.operands[1], let result = node.results.first else {
        continue
      }
      for (product, factor) in [(a, b), (b, a)] {
        guard products.contains(product), rewriter.isUsedOnce(product), let scale = rewriter.constant(factor),
          let (_, source) = rewriter.producer(of: product), let id = source.operands[1],
          let weight = rewriter.constant(id), weight.shape.count >= 2
        else { continue }
        let isConvolution = source.operation is any ConvolutionOperation
        let axis = isConvolution ? 0 : weight.shape.count - 1
        let (rank, place) = (rewriter.type(product).rank, isConvolution ? 1 : rewriter.type(product).rank - 1)
        // One factor, or one along the axis of columns or filters.
        let shape = Array(repeating: 1, count: max(0, rank - scale.shape.count)) + scale.shape
        guard scale.shape.count <= rank,
          scale.count == 1 || shape[place] == scale.count && scale.count == weight.shape[axis],
          source.operands.count < 3 || source.operands[2] == nil
        else { continue }
        rewriter.tryReplace(result, at: source) { builder throws(VitError) in
          let matrix: ValueID
          if let known = scaled[[id, factor]] {
            matrix = known
          } else {
            let tensor = try weight.scaled(by: scale, axis: axis)
            matrix = builder.graph.addConstant(tensor, name: builder.graph[id].name)
          }
          scaled[[id, factor]] = matrix
          return try builder.add(source.operation, [source.operands[0], matrix])[0]
        }
        break
      }
    }
    self = try rewriter.finish()
  }
}

extension Tensor {
  /// The elements times the one factor, or times one for each entry of an axis.
  func scaled(by factors: Tensor, axis: Int) throws(VitError) -> Tensor {
    try rethrowing {
      let factors = try factors.floats()
      let inner = shape[(axis + 1)...].reduce(1, *)
      var numbers = try floats()
      for index in numbers.indices {
        numbers[index] *= factors.count == 1 ? factors[0] : factors[index / inner % factors.count]
      }
      return Tensor(shape: shape, floats: numbers)
    }
  }
}
