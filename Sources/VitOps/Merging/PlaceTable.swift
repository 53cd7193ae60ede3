internal import VitIR
internal import VitRuntime

/// Where the patches of an image are after some have been merged: for each place of the grid the token that now stands for it.
///
/// A table is `[images, places]` of whole numbers. Tokens are counted with those before the patches, which are never merged;
/// without a table every place still has its own. A number that names no token of the patches is taken for none.
struct PlaceTable {
  /// The places of an image.
  let places: Int
  /// The tokens before the patches, and all tokens.
  let prefix, tokens: Int
  private let entries: UnsafeMutablePointer<Int64>?

  /// The table that `view` holds, of so many `tokens`.
  init(_ view: View?, places: Int, prefix: Int, tokens: Int) {
    entries = view?.i64
    self.places = places
    self.prefix = prefix
    self.tokens = tokens
  }

  /// The token of a place.
  func token(_ image: Int, _ place: Int) -> Int? {
    guard let entries else { return prefix + place }
    let entry = Int(clamping: entries[image &* places &+ place])
    return entry >= prefix && entry < tokens ? entry : nil
  }
}

extension PlaceTable {
  /// `y ← ` for each place the row of `x`, `[images, tokens, width]`, that stands for it, behind the first `prefix` rows; where none
  /// does that of `base`, else zero.
  func spread(_ x: View, base: View? = nil, into y: View, pool: any WorkPool) {
    let width = y.shape[2]
    pool.run(tasks: y.shape[0]) { image, _ in
      let (from, to) = (x.image(image), y.image(image))
      to.part(0, of: prefix * width).copy(from: from.part(0, of: prefix * width))
      for place in 0..<places {
        let row = to.part((prefix + place) * width, of: width)
        if let token = token(image, place) {
          row.copy(from: from.part(token * width, of: width))
        } else if let base {
          row.copy(from: base.image(image).part((prefix + place) * width, of: width))
        } else {
          row.zero()
        }
      }
    }
  }

  /// Adds to the gradient of each row of `x` those of its places.
  func addSpread(_ dy: View, to dx: View, pool: any WorkPool) {
    let width = dy.shape[2]
    pool.run(tasks: dy.shape[0]) { image, _ in
      let (from, to) = (dy.image(image), dx.image(image))
      func add(_ row: Int, to token: Int) {
        let target = to.part(token * width, of: width)
        Kernel.accumulate(from.part(row * width, of: width), into: target, pool: pool)
      }
      for token in 0..<prefix { add(token, to: token) }
      for place in 0..<places {
        if let token = token(image, place) { add(prefix + place, to: token) }
      }
    }
  }
}

extension PlaceTable {
  /// Adds to the gradient of what stands where no token does.
  func addGaps(_ dy: View, to base: View, pool: any WorkPool) {
    let width = dy.shape[2]
    pool.run(tasks: dy.shape[0]) { image, _ in
      for place in 0..<places where token(image, place) == nil {
        let start = (prefix + place) * width
        Kernel.accumulate(
          dy.image(image).part(start, of: width), into: base.image(image).part(start, of: width), pool: pool)
      }
    }
  }
}

extension View {
  /// What the first axis has at `index`, as a run of elements.
  func image(_ index: Int) -> View {
    let length = count / max(1, shape[0])
    return part(index * length, of: length)
  }
}

extension Operands {
  /// The type of a table of places, `[images, places]`, for images as `images` counts them.
  func places(_ index: Int, _ role: String, images: Dimension?) throws(VitError) -> TensorType {
    let type = try type(index, role)
    guard type.element == .i64, type.rank == 2, images.map({ $0 == type.shape[0] }) ?? true,
      let places = type.shape[1].fixedValue, places <= ScanOrder.maximumTokens
    else {
      throw VitError(
        "'\(role)' is \(type), expected i64[\(images.map { "\($0)" } ?? "images"), places]",
        code: "operand-shape")
    }
    return type
  }
}

extension AttributeReader {
  /// A number of tokens, from `least` on.
  mutating func tokens(_ name: String, default fallback: Int? = nil, from least: Int = 0) throws(VitError)
    -> Int
  {
    let value = try int(name, default: fallback)
    guard value >= least, value <= ScanOrder.maximumTokens else {
      throw VitError(
        "attribute '\(name)' is \(value), expected \(least) to \(ScanOrder.maximumTokens)",
        code: "attribute-value")
    }
    return value
  }
}

/// Tables of places as ONNX operators.
enum PlaceLowering {
  /// For each of the tokens `range` how many places it stands for, `[images, tokens]`.
  static func sizes(
    _ table: ValueID, of range: Range<Int>, _ element: ElementType, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let column = try builder.add("onnx.Unsqueeze", [table, builder.integers([2])])
    let numbers = builder.integers(Array(range), shape: [1, 1, range.count])
    let isThere = try builder.add("onnx.Equal", [column, numbers])
    let one = builder.constant([1], shape: [], element: element)
    let zero = builder.constant([0], shape: [], element: element)
    let ones = try builder.add("onnx.Where", [isThere, one, zero])
    return try builder.add("onnx.ReduceSum", [ones, builder.integers([1])], [("keepdims", .bool(false))])
  }

  /// The rows of `x` that a table names, `[images, places, channels]`; with `gaps` zero where it names the one behind the last.
  static func rows(_ x: ValueID, _ table: ValueID, gaps: Bool, into builder: inout GraphBuilder)
    throws(VitError) -> ValueID
  {
    let column = try builder.add("onnx.Unsqueeze", [table, builder.integers([2])])
    let rows = gaps ? try withZeros(behind: x, into: &builder) : x
    return try builder.add("onnx.GatherND", [rows, column], [("batch_dims", .int(1))])
  }

  /// `x` with a row of zeros behind those of each image.
  static func withZeros(behind x: ValueID, into builder: inout GraphBuilder) throws(VitError)
    -> ValueID
  {
    let type = builder.graph.type(x)
    guard let width = type.shape[2].fixedValue else {
      throw VitError("the number of channels is not known", code: "dynamic-shape")
    }
    let images = try builder.add(
      "onnx.Slice", [try builder.add("onnx.Shape", [x]), builder.integers([0]), builder.integers([1])])
    let shape = try builder.add(
      "onnx.Concat", [images, builder.integers([1, width])], [("axis", .int(0))])
    let zero = builder.constant([0], shape: [], element: type.element)
    return try ScanLowering.join(
      [x, try builder.add("onnx.Expand", [zero, shape])], axis: 1, into: &builder)
  }
}
