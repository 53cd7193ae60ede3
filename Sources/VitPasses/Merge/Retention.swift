public import VitIR
internal import VitOps
internal import VitRuntime

/// What a model says when patches are dropped behind a quarter, a half and three quarters of its layers, by `Retain` and without
/// training.
public struct Retention: Sendable {
  /// A model that keeps a part of its patches each time.
  public struct Point: Sendable {
    /// That part; 1 where none is dropped.
    public let keep: Double
    /// How near it is to the teacher.
    public let fidelity: Fidelity
  }

  /// Which patches of some samples are left behind a layer.
  public struct Patches: Hashable, Sendable {
    /// The layer's number.
    public let layer: Int
    /// The grid of all patches.
    public let rows, columns: Int
    /// For each sample, row by row, whether a patch is left.
    public let isLeft: [[Bool]]
  }

  /// The models, from the one that keeps most on.
  public let points: [Point]
  /// The samples that are drawn, and for each layer that drops patches which are left when seven in ten are kept each time.
  public let samples: [Int]
  /// Those patches.
  public let patches: [Patches]

  /// The parts that are kept.
  private static let parts = [1, 0.9, 0.8, 0.7, 0.6, 0.5]
  /// The part at which patches are drawn.
  static let drawn = 0.7

  /// Measures a model on `images` samples against a teacher, and looks at what it keeps of `pictures` of them; `nil` where patches cannot
  /// be dropped, as where some are merged already.
  public init?(
    of hybrid: Hybrid, against teacher: Graph, images: Int, pictures: Int, context: PassContext
  ) throws {
    func retained(_ keep: Double) throws -> Hybrid {
      var model = hybrid
      if keep < 1 { _ = try Retain(keep: [keep]).run(on: &model, context: context) }
      return model
    }
    guard hybrid.graph.mergedTokens == nil else { return nil }
    let drawn: Hybrid
    do { drawn = try retained(Retention.drawn) } catch is VitError { return nil }
    let data = try context.samples(for: "report")
    let meter = try FidelityMeter(
      teacher: teacher, data: data, samples: data.spread(images), context: context, screening: false)
    points = try Retention.parts.map { Point(keep: $0, fidelity: try meter.measure(retained($0).graph)) }
    samples = data.spread(pictures)
    patches = try Retention.patches(of: drawn, from: hybrid, samples: samples, data, context)
  }

  /// What the tables of a model say.
  private static func patches(
    of model: Hybrid, from whole: Hybrid, samples: [Int], _ data: any SampleSource, _ context: PassContext
  ) throws -> [Patches] {
    let nodes = model.graph.nodes.filter { $0.operation is TokenKeep }
    let batch = BatchForm(model.graph, sample: data.shape).count ?? samples.count
    guard
      let tokens = whole.layers.first?.input.flatMap({
        whole.graph.type($0).shape.dropFirst().first?.fixedValue
      }),
      !nodes.isEmpty, batch == samples.count
    else { return [] }
    let geometry = TokenGeometry(whole.graph, tokens: tokens)
    let tap = try TeacherTap(
      model.graph, weights: context.weights(of: model.graph), values: nodes.compactMap(\.results.first),
      batch: batch, data: data, context: context)
    try tap.run(samples.map { (index: $0, variant: nil) })
    let places = Set([1, 2, 3].map { whole.layers[whole.layers.count * $0 / 4].index }).sorted()
    guard places.count == nodes.count else { return [] }
    return zip(zip(nodes, places), tap.executor.outputs).compactMap { pair, view -> Patches? in
      guard let keep = pair.0.operation as? TokenKeep, view.shape == [batch, geometry.grid.count] else {
        return nil
      }
      let last = Int64(keep.prefix + keep.count)
      return Patches(
        layer: pair.1, rows: geometry.grid.rows, columns: geometry.grid.columns,
        isLeft: (0..<batch).map { sample in
          (0..<geometry.grid.count).map { view.i64[sample * geometry.grid.count + $0] < last }
        })
    }
  }
}
