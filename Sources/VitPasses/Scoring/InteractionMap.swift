public import VitIR
internal import VitRuntime

/// How much each token of what a layer gives depends on each token of what it reads, over some samples.
public struct InteractionMap: Hashable, Sendable {
  /// The layer's number.
  public let layer: Int
  /// What stands there.
  public let kind: String
  /// Tokens of what it gives, and of what it reads.
  public let rows, columns: Int
  /// Row by row, each with the sum 1. Of attention: the mean of its maps over samples and heads. Of anything else: the norm of
  /// the gradient of output token i with respect to input token j, ‖∂y_i/∂x_j‖, the root of its mean square over samples.
  public let weights: [Float]
  /// Of attention each head's own, else none.
  public let heads: [[Float]]

  /// The most input tokens whose gradients are found: of more, as many spread evenly.
  private static let mostColumns = 128
  /// The part of a channel's size by which tokens are moved to find gradients.
  private static let shift: Float = 1e-2

  /// The maps of all layers of a model, on so many samples; of layers that cannot be run alone none.
  public static func all(of hybrid: Hybrid, images: Int, context: PassContext) throws -> [InteractionMap] {
    let others = hybrid.layers.filter { !$0.isAttention && !$0.isShared && !$0.isRemoved }
    let inputs = try tokens(others.compactMap(\.input), of: hybrid.graph, images: min(images, 4), context)
    return try hybrid.layers.compactMap { layer in
      if layer.isAttention || layer.isShared {
        // One layer after the other: all maps of a model may be larger than it.
        let means = try MeanMaps(hybrid, of: [layer], images: images, context: context)
        guard let heads = means.heads(of: layer.index), let columns = heads.first?.columns, columns > 0 else {
          return nil
        }
        return InteractionMap(
          attention: heads.map(\.map), columns: columns, layer: layer.index, kind: layer.kind)
      }
      guard let input = layer.input, let output = layer.output, let x = inputs[input] else { return nil }
      return try gradients(layer, of: hybrid.graph, from: input, to: output, x, context)
    }
  }

  /// The mean of the maps of heads, each `columns` wide.
  private init(attention heads: [[Double]], columns: Int, layer: Int, kind: String) {
    var sum = heads[0]
    for head in heads.dropFirst() {
      for place in sum.indices { sum[place] += head[place] }
    }
    self.init(
      layer: layer, kind: kind, rows: sum.count / columns, columns: columns,
      weights: InteractionMap.normalised(sum, columns),
      heads: heads.map { InteractionMap.normalised($0, columns) })
  }

  private init(layer: Int, kind: String, rows: Int, columns: Int, weights: [Float], heads: [[Float]]) {
    (self.layer, self.kind, self.rows, self.columns) = (layer, kind, rows, columns)
    (self.weights, self.heads) = (weights, heads)
  }

  /// Values of a model for samples, copied.
  private static func tokens(
    _ values: [ValueID], of graph: Graph, images: Int, _ context: PassContext
  ) throws -> [ValueID: Tensor] {
    guard !values.isEmpty else { return [:] }
    var found: [ValueID: Tensor] = [:]
    try TeacherTap.each(graph, values: values, images: images, for: "report", context: context) { views in
      for (value, view) in zip(values, views) where found[value] == nil && view.element == .f32 {
        found[value] = Tensor(
          shape: view.shape, floats: Array(UnsafeBufferPointer(start: view.f32, count: view.count)))
      }
    }
    return found
  }

  /// Moves each input token a little, in a random direction: ‖∂y_i/∂x_j·v‖² is on average ‖∂y_i/∂x_j‖² for a normal `v`.
  private static func gradients(
    _ layer: Layer, of graph: Graph, from input: ValueID, to output: ValueID, _ x: Tensor,
    _ context: PassContext
  ) throws -> InteractionMap? {
    var whole = graph
    whole.outputs = [(graph[output].name, output)]
    guard x.shape.count == 3, x.shape[1] > 0, let part = whole.part(from: input) else { return nil }
    let (samples, tokens, width) = (x.shape[0], x.shape[1], x.shape[2])
    let executor = try Executor(
      part, weights: context.weights(of: part), inputShapes: [x.shape], packing: false, pool: context.pool)
    let floats = try x.floats()
    var random = context.random("interactions \(layer.index)")
    let columns = Array(0..<tokens).spread(mostColumns)
    guard executor.outputs[0].rank == 3, executor.outputs[0].shape[0] == samples,
      executor.outputs[0].element == .f32
    else { return nil }
    let rows = executor.outputs[0].shape[1]
    var squares = [Double](repeating: 0, count: rows * columns.count)
    for (place, token) in columns.enumerated() {
      try context.checkCancelled()
      var moves = [Float](repeating: 0, count: samples * width)
      var steps = [Float](repeating: 1, count: samples)
      for sample in 0..<samples {
        let start = (sample * tokens + token) * width
        let size = floats[start..<start + width].reduce(Float(0)) { $0 + $1 * $1 } / Float(width)
        steps[sample] = shift * max(size.squareRoot(), 1e-6)
        for channel in 0..<width {
          moves[sample * width + channel] = steps[sample] * Float(random.normal())
        }
      }
      var before: [Float] = []
      for sign in [Float(1), -1] {
        try x.copy(to: executor.inputs[0])
        let target = executor.inputs[0].f32
        for sample in 0..<samples {
          for channel in 0..<width {
            target[(sample * tokens + token) * width + channel] += sign * moves[sample * width + channel]
          }
        }
        executor.run()
        let y = UnsafeBufferPointer(start: executor.outputs[0].f32, count: executor.outputs[0].count)
        if sign > 0 {
          before = Array(y)
          continue
        }
        let outputs = y.count / max(1, samples * rows)
        for (index, (a, b)) in zip(before, y).enumerated() {
          let row = index / outputs % rows
          let slope = (a - b) / (2 * steps[index / outputs / rows])
          squares[row * columns.count + place] += Double(slope * slope)
        }
      }
    }
    return InteractionMap(
      layer: layer.index, kind: layer.kind, rows: rows, columns: columns.count,
      weights: normalised(squares.map { $0.squareRoot() }, columns.count), heads: [])
  }

  /// Rows with the sum 1; those that are all zero stay so.
  private static func normalised(_ map: [Double], _ columns: Int) -> [Float] {
    stride(from: 0, to: map.count, by: columns).flatMap { start -> [Float] in
      let row = map[start..<start + columns]
      let sum = row.reduce(0, +)
      return row.map { sum > 0 && sum.isFinite ? Float($0 / sum) : 0 }
    }
  }
}

extension [Int] {
  /// At most so many of the elements, spread evenly.
  fileprivate func spread(_ most: Int) -> [Int] {
    count <= most ? self : (0..<most).map { self[$0 * count / most] }
  }
}
