internal import Glibc
internal import VitIR
internal import VitOps
internal import VitRuntime

/// Layers at equal depth: one teacher of a Latin square, made sparser and denser layer by layer, and what it takes to replace each of its
/// layers alone.
struct PositionJob {
  /// Which teacher.
  enum Arm: Hashable {
    /// The teacher as it is.
    case original
    /// Teacher `teacher` of a square.
    case square(Int, teacher: Int)
    /// One whose values are as far from the original's as those of the first square's first teacher, by noise at the same maps.
    case sham

    /// Its name in records.
    var name: String {
      switch self {
      case .original: "original"
      case .square(let number, let teacher): "square-\(number)-\(teacher)"
      case .sham: "sham"
      }
    }
  }

  let bench: StudyBench
  let arm: Arm

  func run() throws -> [StudyRecord] {
    let context = bench.context()
    let levels = self.levels
    var records: [StudyRecord] = []
    var teacher = bench.teacher
    if arm != .original {
      let changed = try variant(levels, context)
      let recovered = try recover(changed)
      teacher = recovered.teacher
      records.append(recovered.record)
      guard recovered.isKept else { return records }
    }
    // The weights of this teacher are others under the same names.
    let own = bench.context()
    let meter = try bench.meter(teacher.graph, own)
    records += try scores(of: teacher, levels, own)
    let squares = try meanSquares(of: teacher, own)
    for (place, form) in bench.plan.position.forms.enumerated() {
      for seed in 0..<form.seeds {
        let singles = try self.singles(of: teacher, form, seed: seed, meter)
        records += singles.map(\.record)
        guard place == 0, seed == 0 else { continue }
        for single in singles { records += try noises(teacher, single.layer, squares, meter, own) }
      }
    }
    return records
  }

  /// The level of each layer that can be replaced.
  private var levels: [Int: Int] {
    let layers = bench.teacher.layers
    let count = bench.plan.position.factors.count
    guard case .square(let number, let teacher) = arm == .sham ? .square(0, teacher: 0) : arm else {
      let same = bench.plan.position.factors.firstIndex(of: 1) ?? 0
      return Dictionary(uniqueKeysWithValues: layers.map { ($0.index, same) })
    }
    let square = LatinSquare(number, layers: layers.count, levels: count, seed: UInt64(bench.plan.seed))
    return Dictionary(
      uniqueKeysWithValues: layers.enumerated().map { place, layer in
        (layer.index, square.level(layer: place, teacher: teacher))
      })
  }

  private func factors(_ levels: [Int: Int]) -> [Int: Double] {
    levels.mapValues { bench.plan.position.factors[$0] }
  }

  /// The teacher as it is changed, before it recovers.
  private func variant(_ levels: [Int: Int], _ context: PassContext) throws -> Teacher {
    guard arm == .sham else { return try TeacherVariant.scaledQueries(bench.teacher, by: factors(levels)) }
    let random = SplitMix(seed: UInt64(bench.plan.seed)).split("sham")
    var sizes: [Int: Double] = [:]
    for layer in bench.teacher.layers where layer.isReplaceable {
      // Each layer alone, so that what comes to it is the original's.
      let scaled = try TeacherVariant.scaledQueries(
        bench.teacher, by: [layer.index: factors(levels)[layer.index] ?? 1])
      let unit = try TeacherVariant.noisyValues(bench.teacher, by: [layer.index: 1e-2], random)
      let wanted = try distance(scaled, layer)
      let found = try distance(unit, layer)
      sizes[layer.index] = found > 0 ? 1e-2 * (wanted / found).squareRoot() : 0
    }
    return try TeacherVariant.noisyValues(bench.teacher, by: sizes, random)
  }

  /// How far a layer's output is from the original's: the sum of squares.
  private func distance(_ other: Teacher, _ layer: Layer) throws -> Double {
    guard let output = layer.output else { return 0 }
    var sums: [[Float]] = []
    let images = min(32, bench.plan.scored)
    try TeacherTap.each(
      bench.teacher.graph, values: [output], images: images, for: "study", context: bench.context()
    ) { sums.append(Array(UnsafeBufferPointer(start: $0[0].f32, count: $0[0].count))) }
    var (distance, batch) = (0.0, 0)
    try TeacherTap.each(other.graph, values: [output], images: images, for: "study", context: bench.context())
    {
      for place in 0..<min($0[0].count, sums[batch].count) {
        let difference = Double($0[0].f32[place]) - Double(sums[batch][place])
        distance += difference * difference
      }
      batch += 1
    }
    return distance
  }

  /// Trains all but queries and keys towards the original, and says whether it came near enough.
  private func recover(
    _ changed: Teacher
  ) throws -> (teacher: Teacher, record: StudyRecord, isKept: Bool) {
    let context = bench.context()
    var hybrid = Hybrid(of: changed)
    hybrid.teacher = bench.teacher
    let meter = try bench.meter(bench.teacher.graph, context)
    try bench.run(
      [bench.fineTune(bench.plan.position.recoverySteps, train: .besideMaps)], on: &hybrid, context)
    let fidelity = try meter.measure(hybrid.graph)
    let short =
      fidelity.accuracy.flatMap { own in fidelity.teacherAccuracy.map { $0 - own } }
      ?? 1 - (fidelity.agreement ?? 1 - fidelity.damage)
    let isKept = short <= bench.plan.position.gate
    hybrid.teacher = nil
    return (
      Teacher(hybrid),
      StudyRecord(
        "teacher", [("arm", .text(arm.name)), ("kept", .whole(isKept ? 1 : 0))] + fidelity.fields), isKept
    )
  }

  /// What the maps of a teacher's layers are like.
  private func scores(
    of teacher: Teacher, _ levels: [Int: Int], _ context: PassContext
  ) throws -> [StudyRecord] {
    var hybrid = Hybrid(of: teacher)
    try bench.run([Score(images: bench.plan.scored, drop: false)], on: &hybrid, context)
    let names = ["entropy", "gini", "hoyer", "dependence", "distance", "cosine"]
    var given = hybrid
    if arm == .sham {
      // What it is said to be: as sparse as the one whose outputs it has the distance of.
      given = Hybrid(of: try TeacherVariant.scaledQueries(bench.teacher, by: factors(levels)))
      try bench.run([Score(images: bench.plan.scored, drop: false)], on: &given, bench.context())
    }
    return hybrid.layers.filter(\.isReplaceable).map { layer in
      StudyRecord(
        "layer",
        [
          ("arm", .text(arm.name)), ("layer", .whole(layer.index)),
          ("factor", .number(arm == .sham ? 1 : levels[layer.index].map { bench.plan.position.factors[$0] })),
          ("given", .number(given.layers.first { $0.index == layer.index }?.score("entropy"))),
        ] + names.map { ($0, .number(layer.score($0))) })
    }
  }

  /// Each layer alone replaced by a form: how near it comes to what it replaces, and what that does to the outputs.
  private func singles(
    of teacher: Teacher, _ form: StudyProtocol.Form, seed: Int, _ meter: FidelityMeter
  ) throws -> [(layer: Layer, record: StudyRecord)] {
    let context = bench.context(seed: seed)
    let hybrid = try bench.replaced(teacher, by: form, seed: seed, context)
    return try MixerNode.all(in: hybrid, teacher: teacher).compactMap { mixer in
      try context.checkCancelled()
      guard let candidate = mixer.layer.candidates.last, let layer = teacher.layer(mixer.layer.index) else {
        return nil
      }
      let alone = try MixerNode.transplant([mixer], into: teacher, registry: context.registry).graph
      var noted = layer
      noted.candidates = [candidate]
      let fidelity = try meter.measure(
        alone, differingFrom: teacher, at: teacher.graph.place(defining: layer.core))
      return (
        noted,
        StudyRecord(
          "single",
          [
            ("arm", .text(arm.name)), ("layer", .whole(layer.index)), ("mixer", .text(form.mixer)),
            ("prefix", .text(form.prefix)), ("steps", .whole(form.steps)), ("seed", .whole(seed)),
            ("error", .number(candidate.error)), ("patch_error", .number(candidate.patchError)),
            ("prefix_error", .number(candidate.prefixError)),
          ] + fidelity.fields)
      )
    }
  }

  /// The mean squares of what each layer gives, in the rows before the patches and in those of the patches.
  private func meanSquares(
    of teacher: Teacher, _ context: PassContext
  ) throws -> [Int: (prefix: Double, patches: Double)] {
    let layers = teacher.layers.filter(\.isReplaceable)
    let outputs = layers.compactMap(\.output)
    guard outputs.count == layers.count, !layers.isEmpty else { return [:] }
    var sums = [(prefix: Double, patches: Double)](repeating: (0, 0), count: layers.count)
    var counts = sums
    try TeacherTap.each(
      teacher.graph, values: outputs, images: min(64, bench.plan.scored), for: "study", context: context
    ) { views in
      for (place, view) in views.enumerated() {
        let (tokens, width) = (view.shape[1], view.shape[2])
        let prefix = TokenGeometry(teacher.graph, tokens: tokens).prefix
        for index in 0..<view.count {
          let square = Double(view.f32[index]) * Double(view.f32[index])
          if index / width % tokens < prefix {
            sums[place].prefix += square
            counts[place].prefix += 1
          } else {
            sums[place].patches += square
            counts[place].patches += 1
          }
        }
      }
    }
    return Dictionary(
      uniqueKeysWithValues: layers.enumerated().map { place, layer in
        (
          layer.index,
          (
            sums[place].prefix / max(counts[place].prefix, 1),
            sums[place].patches / max(counts[place].patches, 1)
          )
        )
      })
  }

  /// What a random error as large as the form's does to the outputs: how sensitive the model is there.
  private func noises(
    _ teacher: Teacher, _ layer: Layer, _ squares: [Int: (prefix: Double, patches: Double)],
    _ meter: FidelityMeter, _ context: PassContext
  ) throws -> [StudyRecord] {
    guard let candidate = layer.candidates.last, let square = squares[layer.index],
      let patches = candidate.patchError ?? candidate.error
    else { return [] }
    let random = SplitMix(seed: UInt64(bench.plan.seed)).split("noise").split(layer.index)
    return try (0..<bench.plan.position.noises).map { draw in
      let graph = try TeacherVariant.disturbed(
        teacher, layer, prefix: ((candidate.prefixError ?? 0) * square.prefix).squareRoot(),
        patches: (patches * square.patches).squareRoot(), random.split(draw), context.registry)
      return StudyRecord(
        "noise",
        [("arm", .text(arm.name)), ("layer", .whole(layer.index)), ("draw", .whole(draw))]
          + (try meter.measure(graph).fields))
    }
  }
}
