internal import VitIR
internal import VitRuntime

/// The values of a mixer that is being fitted: a linear map of the tokens, whose channels stand for those of the attention.
struct FittedValues {
  /// The number of channels.
  let width: Int
  private let dim: Int
  private let weight: [Double]
  private let bias: [Double]

  /// The map of a mixer whose first parameters are its weight, `[width, dim]`, and bias.
  init(_ parameters: [Tensor]) throws {
    guard parameters.count > 1, parameters[0].shape.count == 2,
      parameters[1].shape == [parameters[0].shape[0]]
    else {
      throw VitError(
        "the values to fit have the shapes \(parameters.map(\.shape)), expected a weight and its bias",
        code: "mixer-fit")
    }
    (width, dim) = (parameters[0].shape[0], parameters[0].shape[1])
    weight = try parameters[0].doubles()
    bias = try parameters[1].doubles()
  }

  /// Calls `body` with the values of a batch, `[batch, tokens, width]`, and zeroed memory of `extra`; not at all where the
  /// attention has other channels.
  ///
  /// Throws where the tokens are not those of the map, or memory does not suffice.
  func with(_ batch: FitBatch, extra: TensorType, _ body: (_ v: View, _ extra: View) -> Void) throws {
    let (x, context) = (batch.x, batch.context)
    guard x.rank == 3, x.element == .f32, x.shape[2] == dim, context.rank == 3, context.element == .f32,
      context.shape[0] == x.shape[0], context.shape[1] == x.shape[1]
    else {
      throw VitError(
        "tokens \(x.shape) and attended values \(context.shape) do not fit a mixer of \(dim) channels",
        code: "mixer-fit")
    }
    guard context.shape[2] == width else { return }
    let types = [
      TensorType(.f32, fixed: [x.shape[0], x.shape[1], width]), TensorType(.f32, fixed: [width, dim]),
      TensorType(.f32, fixed: [width]), extra,
    ]
    var offsets: [Int] = []
    var bytes = 0
    for type in types {
      offsets.append(bytes)
      bytes += (type.count * type.element.size + Arena.alignment) / Arena.alignment * Arena.alignment
    }
    let arena = try Arena(byteCount: bytes, for: "fitting a mixer")
    let views = zip(types, offsets).map { arena.view($0, at: $1) }
    for (index, value) in weight.enumerated() { views[1].f32[index] = Float(value) }
    for (index, value) in bias.enumerated() { views[2].f32[index] = Float(value) }
    Kernel.linear(x, weight: views[1], bias: views[2], into: views[0], pool: batch.pool)
    withExtendedLifetime(arena) { body(views[0], views[3]) }
  }
}

/// The mean of the attention's maps over images, for heads that may be parts of the attention's.
struct MeanMaps {
  /// The sum, `[heads, rows, tokens]`: of the first `rows` tokens.
  private var sum: [Double]
  private let heads, rows, tokens: Int
  private var images = 0

  init(heads: Int, rows: Int, tokens: Int) {
    (self.heads, self.rows, self.tokens) = (heads, rows, tokens)
    sum = [Double](repeating: 0, count: heads * rows * tokens)
  }

  /// Takes maps `[batch, heads, tokens, tokens]` into account; throws where they are of another size, or missing.
  mutating func add(_ maps: View?) throws(VitError) {
    guard let maps, maps.rank == 4, maps.element == .f32, maps.shape[2] == tokens, maps.shape[3] == tokens
    else {
      throw VitError(
        "the attention maps are \(maps?.shape ?? []), expected \(tokens) tokens", code: "mixer-fit")
    }
    let own = maps.shape[1]
    for image in 0..<maps.shape[0] {
      for head in 0..<heads {
        let from = (image * own + head * own / heads) * tokens * tokens
        let to = head * rows * tokens
        for index in 0..<rows * tokens { sum[to + index] += Double(maps.f32[from + index]) }
      }
    }
    images += maps.shape[0]
  }

  /// The mean, row by row; zero without images.
  var mean: [Double] { sum.map { images > 0 ? $0 / Double(images) : 0 } }
}
