public import VitIR
internal import VitOps

/// Takes whole blocks out of a model, attention or mixer with the perceptron behind it: the residual stream goes on past each,
/// or through one linear map of each token.
///
/// The maps are solved from the first to the last, each on the stream that the model itself gives there, by ridge regression of
/// the stream that the teacher has behind the block, drawn towards the identity; rows that a head reads weigh as much as all patches
/// together. With a `count` the blocks are those whose removal does least damage, measured one by one, and anew with those that are
/// gone already. Nothing is trained.
public struct Depth: Pass {
  /// `depth`.
  public static let name = "depth"
  /// See `Pass`.
  public static let summary = "Takes whole blocks out, or puts one linear map in the place of each"
  /// See `Pass`.
  public static let example = "depth{layers=[1],map=linear,images=16}"

  /// Blocks are gone.
  public var isLossy: Bool { true }

  /// What is left of a block.
  public enum Map: String, CaseIterable, Sendable {
    /// Nothing.
    case identity
    /// A linear map of each token.
    case linear
  }

  /// The numbers of the layers whose blocks go; `nil` where they are looked for.
  public var layers: [Int]?
  /// How many are looked for.
  public var count: Int
  /// What is left of each.
  public var map: Map
  /// The samples that maps are solved on, and as many held-out ones by which blocks are chosen.
  public var images: Int

  /// Takes the blocks of these layers.
  public init(layers: [Int], map: Map = .identity, images: Int = 512) {
    self.layers = layers
    self.count = layers.count
    self.map = map
    self.images = images
  }

  /// Looks for so many blocks.
  public init(count: Int = 1, map: Map = .identity, images: Int = 512) {
    self.count = count
    self.map = map
    self.images = images
  }

  /// Takes `layers`, whose blocks go, or `count` (1), how many are looked for; `map` (identity, or linear), what is left of each;
  /// and `images` (512), on which maps are solved and damage is measured.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    layers = try options.integers("layers")
    let wanted: Int? = try options.optional("count")
    guard layers == nil || wanted == nil else {
      throw VitError("depth: expected layers or a count, found both", kind: .usage, code: "option-value")
    }
    count = wanted ?? layers?.count ?? count
    map = try options.choice("map", default: map)
    images = try options.value("images", default: images)
  }

  /// Throws where a number makes no sense.
  public func check() throws(VitError) {
    guard count > 0, images > 0 else {
      throw VitError("depth: expected a count and images of at least 1", kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    let amount = layers.map { ("layers", "[\($0.map(String.init).joined(separator: ","))]") }
    return [amount ?? ("count", "\(count)"), ("map", map.rawValue), ("images", "\(images)")]
  }

  /// Takes the blocks out; throws where a listed one is none, or there are not as many as looked for.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    var result = PassResult()
    var chosen = Array(Set(layers ?? [])).sorted()
    if layers == nil {
      (chosen, result.notes) = try search(hybrid, context)
      result.found = [Depth(layers: chosen, map: map, images: images)]
    }
    try remove(chosen, from: &hybrid, context)
    result.changes = chosen.count
    result.notes.append("blocks \(chosen): \(map.rawValue)")
    return result
  }

  /// Takes the blocks of these layers out, and solves what is left of them.
  private func remove(_ chosen: [Int], from hybrid: inout Hybrid, _ context: PassContext) throws {
    let removal = BlockRemoval(registry: context.registry)
    for index in chosen {
      let block = try block(index, of: hybrid)
      try removal.replace(block, of: index, with: replacement(block, hybrid.graph), in: &hybrid)
    }
    guard map == .linear else { return }
    let teacher = try hybrid.teacher(for: Depth.name)
    let sites = LinearBlock.all(in: hybrid, teacher: teacher).filter { chosen.contains($0.layer) }
    guard sites.count == chosen.count else {
      throw VitError("depth: the teacher has other blocks", code: "teacher-mismatch")
    }
    let data = try context.samples(for: Depth.name)
    guard data.count > 0 else { throw VitError("there are no samples to solve on", code: "data-empty") }
    let sweep = SolveSweep(
      teacher, data: data, samples: data.spread(images), target: .stream, fit: false, context: context)
    for (done, site) in sites.enumerated() {
      hybrid.graph.setTensors(try sweep.solve(.block(site), in: hybrid.graph))
      context.progress(Depth.name, done + 1, sites.count, "layer \(site.layer)")
    }
  }

  /// What stands in the place of a block before anything is solved.
  private func replacement(_ block: ResidualBlock, _ graph: Graph) throws -> BlockRemoval.Replacement {
    guard map == .linear else { return .identity }
    guard let width = graph.type(block.before).shape[2].fixedValue else {
      throw VitError("the width of the residual stream is not known", code: "dynamic-shape")
    }
    return .linear(weight: try .identity(width), bias: try Tensor(.f32, shape: [width]) { _ in })
  }

  /// The block of a layer; throws a usage error that says why there is none.
  private func block(_ index: Int, of hybrid: Hybrid) throws(VitError) -> ResidualBlock {
    guard let place = hybrid.place(of: index) else {
      throw VitError(
        "depth: there is no layer \(index): the model has \(hybrid.layers.count)", kind: .usage,
        code: "layer-unknown", help: "vitc inspect lists the layers")
    }
    let layer = hybrid.layers[place]
    do { return try ResidualBlock(layer, in: hybrid.graph, hybrid.layers) } catch {
      throw VitError(
        "depth: the block of layer \(index) cannot be taken out: \(error.reason)", kind: .usage,
        code: "layer-not-removable", location: Location(node: layer.node))
    }
  }

  /// The blocks that do least, found one after the other, and what each step came to.
  private func search(
    _ hybrid: Hybrid, _ context: PassContext
  ) throws -> (chosen: [Int], notes: [String]) {
    let candidates = hybrid.layers.map(\.index).filter { (try? block($0, of: hybrid)) != nil }
    guard count <= candidates.count else {
      throw VitError(
        "depth: \(count) blocks are to go, but only \(candidates.count) can", kind: .usage,
        code: "count-too-large")
    }
    let heldOut = try context.heldOut ?? context.samples(for: Depth.name)
    let meter = try FidelityMeter(
      teacher: hybrid.teacher(for: Depth.name).graph, data: heldOut, samples: heldOut.spread(images),
      context: context)
    var (chosen, notes): ([Int], [String]) = ([], [])
    let total = (0..<count).reduce(0) { $0 + candidates.count - $1 }
    var done = 0
    for _ in 0..<count {
      var best: (damage: Double, index: Int)?
      for index in candidates where !chosen.contains(index) {
        var trial = hybrid
        try remove((chosen + [index]).sorted(), from: &trial, context)
        let damage = try meter.measure(trial.graph).damage
        // Of equal ones the later.
        if damage <= best?.damage ?? .infinity { best = (damage, index) }
        done += 1
        context.progress(Depth.name, done, total, "measuring")
      }
      guard let best else {
        throw VitError("depth: without any block the outputs are no numbers", code: "non-finite")
      }
      chosen.append(best.index)
      notes.append("layer \(best.index): damage \(best.damage)")
    }
    return (chosen.sorted(), notes)
  }
}
