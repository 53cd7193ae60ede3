public import VitIR
internal import Glibc
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// Finds out how sparse each layer's attention is, and how much each layer matters, on calibration samples.
///
/// Streams: one micro-batch at a time, one layer's maps at a time. Writes `entropy`, `gini`, `hoyer`, `top_mass`,
/// `top_tenth`, `distance`, `prefix_mass` and `output_entropy` into each layer's scores, each also per head (`….heads`)
/// and with the standard error over images (`….error`); beside them `lag`, for each direction each head, `dependence` (of the
/// maps on the image, also per head), `cosine`, `conv` and `drop`. What could not be measured is left out. Where patches were dropped
/// all is found among those that are left, in their sequence, and `distance` and `conv` are left out. Mixers.md §1.
public struct Score: Pass {
  /// `score`.
  public static let name = "score"
  /// See `Pass`.
  public static let summary = "Measures the sparsity of each attention layer and the damage of dropping it"
  /// See `Pass`.
  public static let example = "score{images=64,drop=false}"

  /// The samples looked at.
  public var images: Int
  /// Whether each layer is also dropped on trial.
  public var drop: Bool

  /// The pass.
  public init(images: Int = 128, drop: Bool = true) {
    self.images = images
    self.drop = drop
  }

  /// Takes `images` (128): the samples looked at, of which 64 for the indices that sort; and `drop` (true):
  /// whether each layer is also dropped on trial, which runs the model once for each.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    images = try options.value("images", default: images)
    drop = try options.value("drop", default: drop)
  }

  /// Throws where there is nothing to look at.
  public func check() throws(VitError) {
    guard images > 0 else {
      throw VitError("score: expected at least one image", kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] { [("images", "\(images)"), ("drop", "\(drop)")] }

  /// The samples for which rows are sorted.
  private static let sortedImages = 64
  /// The samples on which layers are dropped: the model runs on them once for each layer.
  static let droppedImages = 64

  /// Runs the model on the samples.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let data = try context.samples(for: Score.name)
    let layers = hybrid.layers.filter(\.isAttention)
    guard !layers.isEmpty else { return PassResult(notes: ["the model has no attention layers"]) }
    guard data.count > 0 else { throw VitError("there are no samples to score on", code: "data-empty") }
    var session = try ScoreSession(hybrid, layers: layers, data: data, context: context)
    let count = min(images, data.count)
    try session.run(count: count, sorting: min(count, Score.sortedImages))
    session.note(&hybrid)
    if drop { try measureDrops(&hybrid, layers, data, count, context) }
    return PassResult(changes: layers.count, notes: ["\(layers.count) layers on \(count) images"])
  }

  /// Notes for each layer what the model loses when its branch is zero.
  private func measureDrops(
    _ hybrid: inout Hybrid, _ layers: [Layer], _ data: any SampleSource, _ count: Int,
    _ context: PassContext
  ) throws {
    let graph = hybrid.graph
    let meter = try FidelityMeter(
      teacher: graph, data: data, samples: Array(0..<min(count, Score.droppedImages)), context: context)
    for (done, layer) in layers.enumerated() {
      guard let input = layer.input, let output = layer.output, graph.type(input) == graph.type(output),
        let place = hybrid.place(of: layer.index)
      else { continue }
      var rewriter = Rewriter(graph, registry: context.registry)
      let zero = rewriter.builder.constant([0], shape: [])
      let nothing = try rewriter.builder.add(Onnx.mul, [input, zero])
      try rewriter.replace(output, with: nothing, by: "drop")
      let fidelity = try meter.measure(try rewriter.finish())
      hybrid.layers[place].scores["drop"] = .float(fidelity.damage)
      context.progress("drop", done + 1, layers.count, "layer \(layer.index)")
    }
  }
}

/// One run of scoring: the tap, and what has been gathered.
private struct ScoreSession {
  private let layers: [Layer]
  private let tap: MapTap
  private let executor: Executor
  private let readers: [MapReader?]
  private let data: any SampleSource
  private let context: PassContext
  private let batch: Int
  /// Memory for the values and the attended values of one layer.
  private let memory: Arena
  /// For each layer where nothing is known yet of how well taps do; `nil` where it cannot be measured.
  private let taps: [TapError?]
  /// For each layer whether some of the patches were dropped before it.
  private let isLeft: [Bool]
  /// What a batch shows, and what all batches show: per layer and head.
  private var gathered: Gathered
  private var sums = TreeSum<Gathered>()

  private struct HeadMoments: TreeTerm {
    var values = [Moments](repeating: Moments(), count: 8)
    var lag = [Moments](repeating: Moments(), count: 4)
    var variation = MapVariation()

    mutating func add(_ later: HeadMoments) {
      values.add(later.values)
      lag.add(later.lag)
      variation.add(later.variation)
    }
  }

  private struct Gathered: TreeTerm {
    var heads: [[HeadMoments]]
    var cosines: [Moments]
    var taps: [TapError?]

    /// Nothing yet.
    init(_ layers: [Layer], taps: [TapError?]) {
      self.taps = taps
      heads = layers.map { Array(repeating: HeadMoments(), count: max(1, $0.heads)) }
      cosines = layers.map { _ in Moments() }
    }

    mutating func add(_ later: Gathered) {
      heads.add(later.heads)
      cosines.add(later.cosines)
      for (layer, error) in later.taps.enumerated() {
        if let error { taps[layer]?.add(error) }
      }
    }
  }

  /// The names of the values of `HeadMoments`, in order.
  private static let names = [
    "entropy", "gini", "hoyer", "top_mass", "top_tenth", "distance", "prefix_mass", "output_entropy",
  ]

  init(_ hybrid: Hybrid, layers: [Layer], data: any SampleSource, context: PassContext) throws {
    let graph = hybrid.graph
    self.layers = layers
    self.data = data
    self.context = context
    tap = try MapTap(graph, layers: layers, registry: context.registry)
    batch = BatchForm(graph, sample: data.shape).samples(min(8, data.count))
    executor = try Executor(
      tap.graph, weights: context.weights(of: tap.graph, from: hybrid.teacher?.graph ?? graph),
      inputShapes: InputShapes.of(graph, batch: batch, data: data), packing: false, pool: context.pool)
    let plan = executor.plan
    readers = tap.maps.map { id in
      guard let id, let shape = plan.types[id.index].fixedShape, shape.count >= 3, let tokens = shape.last,
        shape[shape.count - 2] == tokens
      else { return nil }
      return try? MapReader(tokens: tokens, geometry: TokenGeometry(graph, tokens: tokens))
    }
    isLeft = tap.maps.map { id in
      id.flatMap { plan.types[$0.index].fixedShape?.last }.flatMap(graph.left) != nil
    }
    let products = tap.products.map { pair -> [Int]? in
      guard let shape = pair.flatMap({ plan.types[$0.result.index].fixedShape }), shape.count == 4 else {
        return nil
      }
      return shape
    }
    let batch = batch
    taps = products.map { shape in
      guard let shape, shape[0] == batch else { return nil }
      // Those that are left lie on no grid.
      guard graph.left(shape[2]) == nil else { return nil }
      let geometry = TokenGeometry(graph, tokens: shape[2])
      return TapError(grid: geometry.grid, prefix: geometry.prefix, heads: shape[1])
    }
    let most = products.compactMap { $0?.reduce(1, *) }.max() ?? 0
    memory = try Arena(byteCount: 2 * (4 * most + Arena.alignment), for: "scoring")
    gathered = Gathered(layers, taps: taps)
  }

  mutating func run(count: Int, sorting: Int) throws {
    let reader = BatchReader(data: data, pool: context.pool)
    var layerOfMap: [Int: Int] = [:]
    var layerOfSum: [Int: Int] = [:]
    var layerOfProduct: [Int: Int] = [:]
    for (place, pair) in tap.products.enumerated() {
      if let pair { layerOfProduct[pair.result.index] = place }
    }
    for (place, id) in tap.maps.enumerated() { if let id { layerOfMap[id.index] = place } }
    for (place, residual) in tap.residuals.enumerated() {
      if let residual { layerOfSum[residual.after.index] = place }
    }
    var before: Tensor?
    let screen = SampleScreen(data, context: context)
    for start in stride(from: 0, to: count, by: batch) {
      try context.checkCancelled()
      var places = Array(start..<min(start + batch, count))
      var isScreened = false
      // What a batch with a sample showed that gives no numbers is forgotten, and the rest of it runs again.
      while !isScreened, !places.isEmpty {
        let wanted = places.count
        gathered = Gathered(layers, taps: taps)
        try reader.read(
          (0..<batch).map { (index: places[$0 < wanted ? $0 : 0], variant: nil) }, into: executor.inputs)
        executor.run { step, isDone in
          guard let last = step.nodes.last, let result = tap.graph.nodes[last].results.first else { return }
          if isDone, let layer = layerOfMap[result.index], let view = executor.plan.view(result) {
            view.withFloats { addMaps(layer, $0, images: wanted, sorting: start < sorting) }
          }
          if isDone, let layer = layerOfProduct[result.index] { addTaps(layer, images: wanted) }
          if let layer = layerOfSum[result.index], let residual = tap.residuals[layer] {
            if !isDone {
              before = executor.plan.view(residual.before).flatMap { try? Tensor(copying: $0) }
            } else if let view = executor.plan.view(result), let stream = before {
              view.withFloats { addCosine(layer, stream, $0, images: wanted) }
            }
          }
        }
        places = try places.enumerated().filter { row, place in
          let isFinite = SampleScreen.isFinite(executor.outputs, row: row, of: batch)
          try screen.note(place, isFinite: isFinite)
          return isFinite
        }.map(\.element)
        isScreened = places.count == wanted
      }
      if isScreened { sums.add(gathered) }
      context.progress(Score.name, min(start + batch, count), count, "")
    }
    try screen.finish()
  }

  private mutating func addMaps(_ layer: Int, _ view: View, images: Int, sorting: Bool) {
    guard let reader = readers[layer], let tokens = view.shape.last else { return }
    let size = tokens * tokens
    let headCount = gathered.heads[layer].count
    // [batch·windows, heads, tokens, tokens], or with the heads inside the batch: either way heads vary
    // fastest.
    let own = view.count / size / batch
    let maps = own * images
    let base = view.f32
    let variations = Collector<MapVariation>(count: own)
    context.pool.run(tasks: own) { task, _ in
      variations.set(
        task, MapVariation(base + task * size, count: images, stride: own * size, size: size))
    }
    for (index, variation) in variations.values.enumerated() {
      if let variation { gathered.heads[layer][index % headCount].variation.add(variation) }
    }
    let statistics = Collector<HeadStatistics>(count: maps)
    context.pool.run(tasks: maps) { task, _ in
      statistics.set(task, reader.statistics(base + task * size, sorting: sorting))
    }
    for (index, value) in statistics.values.enumerated() {
      guard let value else { continue }
      let head = index % headCount
      let numbers = [
        value.entropy, value.gini, value.hoyer, value.topMass, value.topTenth, value.distance,
        value.prefixMass,
        value.outputEntropy,
      ]
      for (place, number) in numbers.enumerated() {
        let isSorted = place == 1 || place == 3 || place == 4
        // What is left of the patches lies on no grid: a distance is none of places.
        if (isSorted && !sorting) || number.isNaN || (place == 5 && isLeft[layer]) { continue }
        gathered.heads[layer][head].values[place].add(number)
      }
      for direction in 0..<4 { gathered.heads[layer][head].lag[direction].add(value.lag[direction]) }
    }
  }

  private mutating func addTaps(_ layer: Int, images: Int) {
    guard var error = gathered.taps[layer], let pair = tap.products[layer],
      let v = executor.plan.view(pair.values),
      let c = executor.plan.view(pair.result)
    else { return }
    let (heads, tokens, width) = (v.shape[1], v.shape[2], v.shape[3])
    let type = TensorType(.f32, fixed: [images, tokens, heads, width])
    let size = (4 * type.count + Arena.alignment - 1) / Arena.alignment * Arena.alignment
    let turned = [memory.view(type, at: 0), memory.view(type, at: size)]
    for (from, to) in zip([v, c], turned) {
      from.withFloats {
        Kernel.transpose($0.slice(0..<images), permutation: [0, 2, 1, 3], into: to, pool: context.pool)
      }
    }
    let rows = turned.map { $0.reshaped([images, tokens, heads * width]) }
    error.add(rows[0], rows[1], pool: context.pool)
    gathered.taps[layer] = error
  }

  private mutating func addCosine(_ layer: Int, _ before: Tensor, _ after: View, images: Int) {
    guard let width = after.shape.last, width > 0, let old = try? before.floats() else { return }
    let rows = after.count / width / batch
    for image in 0..<images {
      var sum = 0.0
      for row in image * rows..<(image + 1) * rows {
        var (dot, a, b) = (0.0, 0.0, 0.0)
        for column in row * width..<(row + 1) * width {
          let (x, y) = (Double(old[column]), Double(after.f32[column]))
          dot += x * y
          a += x * x
          b += y * y
        }
        sum += 1 - dot / max((a * b).squareRoot(), 1e-12)
      }
      gathered.cosines[layer].add(sum / Double(max(rows, 1)))
    }
  }

  /// Writes what was gathered into the layers.
  func note(_ hybrid: inout Hybrid) {
    let gathered = sums.total ?? Gathered(layers, taps: taps)
    let (heads, cosines) = (gathered.heads, gathered.cosines)
    for (layer, scored) in layers.enumerated() {
      guard let index = hybrid.place(of: scored.index) else { continue }
      var scores = scored.scores
      for (place, name) in Self.names.enumerated() {
        let values = heads[layer].map { $0.values[place] }
        guard values.allSatisfy({ $0.count > 0 }) else { continue }
        let mean = values.reduce(0) { $0 + $1.mean } / Double(values.count)
        let error = values.reduce(0) { $0 + $1.standardError } / Double(values.count)
        scores[name] = .float(mean)
        scores["\(name).heads"] = .floats(values.map(\.mean))
        scores["\(name).error"] = .float(error)
      }
      if heads[layer].allSatisfy({ $0.lag.allSatisfy { $0.count > 0 } }) {
        scores["lag"] = .floats(
          (0..<4).flatMap { direction in heads[layer].map { $0.lag[direction].mean } })
      }
      let dependences = heads[layer].compactMap(\.variation.dependence)
      if dependences.count == heads[layer].count {
        scores["dependence"] = .float(dependences.reduce(0, +) / Double(dependences.count))
        scores["dependence.heads"] = .floats(dependences)
      }
      if cosines[layer].count > 0 { scores["cosine"] = .float(cosines[layer].mean) }
      if let error = gathered.taps[layer]?.relative { scores["conv"] = .float(error) }
      hybrid.layers[index].scores = scores
    }
  }
}

extension View {
  /// Lends the elements as f32, converted where they are of another type.
  fileprivate func withFloats(_ body: (View) -> Void) {
    guard element != .f32 else { return body(self) }
    guard var floats = try? Tensor(copying: self).floats() else { return }
    floats.withUnsafeMutableBytes { buffer in
      if let base = buffer.baseAddress { body(View(base: base, element: .f32, shape: shape)) }
    }
  }
}

/// Results of parallel tasks, each in its own place.
private final class Collector<Element: Sendable>: @unchecked Sendable {
  // Every task writes its own element, and nobody reads before all are done.
  private let storage: UnsafeMutableBufferPointer<Element?>

  init(count: Int) {
    storage = .allocate(capacity: count)
    storage.initialize(repeating: nil)
  }

  deinit {
    storage.deinitialize()
    storage.deallocate()
  }

  func set(_ index: Int, _ value: Element) { storage[index] = value }

  var values: [Element?] { Array(storage) }
}
