internal import VitIR
public import VitPasses
internal import VitRuntime

/// What a report's page shows of the models themselves: which tokens their layers look at.
public struct ReportFigures: Sendable {
  /// The maps of the teacher's layers, and of the hybrid's.
  public let teacher, hybrid: [InteractionMap]
  /// What stands in the hybrid's layers, by their numbers.
  private let kinds: [Int: String]

  /// What is left of both when patches are dropped; `nil` where none can be.
  public let teacherRetention, hybridRetention: Retention?
  /// Which patches are left in both, layer by layer, and how the teacher attends to them; `nil` where none can be dropped.
  public let teacherImportance, hybridImportance: PatchImportance?
  /// The samples that are drawn, in gray.
  let pictures: [GrayPicture]

  /// How many images maps are means of, on how many it is measured what dropping patches does, and how many are drawn.
  static let images = 8, retained = 200, drawn = 4

  /// The figures of a teacher and the hybrid that was made of it, on labelled or unlabelled images.
  ///
  /// Throws where a model cannot run on these images, or has no layers to look at.
  public init(
    teacher: Model, hybrid: Model, on data: Samples, threads: Int? = nil, progress: Progress = Progress()
  ) throws {
    let pool = ThreadPool.shared(threads: threads)
    func maps(_ model: Model) throws -> [InteractionMap] {
      let context = PassContext(pool: pool, registry: .vitc, seed: 0, progress: progress)
      context.data = data
      return try InteractionMap.all(of: model.hybrid, images: ReportFigures.images, context: context)
    }
    (self.teacher, self.hybrid) = (try maps(teacher), try maps(hybrid))
    kinds = Dictionary(hybrid.hybrid.layers.map { ($0.index, $0.kind) }) { first, _ in first }
    func retention(_ model: Model) throws -> Retention? {
      let context = PassContext(pool: pool, registry: .vitc, seed: 0, progress: progress)
      context.data = data
      return try Retention(
        of: model.hybrid, against: teacher.graph, images: ReportFigures.retained,
        pictures: ReportFigures.drawn, context: context)
    }
    (teacherRetention, hybridRetention) = (try retention(teacher), try retention(hybrid))
    func importance(_ model: Model) throws -> PatchImportance? {
      let context = PassContext(pool: pool, registry: .vitc, seed: 0, progress: progress)
      context.data = data
      return try PatchImportance(
        of: model.hybrid, in: teacher.hybrid, images: ReportFigures.retained, context: context)
    }
    (teacherImportance, hybridImportance) = (try importance(teacher), try importance(hybrid))
    pictures =
      try (teacherRetention ?? hybridRetention)?.samples.compactMap { try GrayPicture($0, of: data) } ?? []
  }

  /// The sections of a page; where pictures cannot be written, that is said in their place.
  var sections: [Markup] {
    do throws(VitError) { return try drawn() } catch {
      return [Markup("p", text: "There are no maps: \(error.diagnostic.message).")]
    }
  }

  private func drawn() throws(VitError) -> [Markup] {
    let own = Dictionary(hybrid.map { ($0.layer, $0) }) { first, _ in first }
    let pairs = try teacher.map { original throws(VitError) -> Markup in
      let name = "layer \(original.layer)"
      let other = own[original.layer]
      if let other, ReportFigures.isAlike(other, original) {
        return Markup(
          "div", [:], [try ReportFigures.map(original, "\(name): \(original.kind), alike in both")])
      }
      let first = try ReportFigures.map(
        original,
        "\(name), teacher: \(original.kind)"
          + (other == nil ? "; in the hybrid, \(kinds[original.layer] ?? "nothing"), without a map" : ""))
      guard let other else { return Markup("div", [:], [first]) }
      return Markup(
        "div", ["class": "pair"], [first, try ReportFigures.map(other, "\(name), hybrid: \(other.kind)")])
    }
    var heads: [Markup] = []
    for map in teacher {
      for (number, weights) in map.heads.enumerated() {
        heads.append(
          try HeatMap(
            title: "layer \(map.layer), head \(number)", rows: map.rows, columns: map.columns, values: weights
          ).markup())
      }
    }
    return [
      Markup.section(
        "Which tokens layers look at",
        [
          Markup(
            "p",
            text:
              "Each row is a token that a layer gives, each column one that it reads, class and other first tokens first; brighter counts more. Of attention it is the mean of its maps over \(ReportFigures.images) images at most and all heads; of a module in its place the norm of the gradient of one token with respect to the other."
          ), pairs.isEmpty ? nil : Markup("div", ["class": "maps"], pairs),
        ]),
      Markup.section(
        "Heads of the teacher", [heads.isEmpty ? nil : Markup("div", ["class": "maps"], heads)]),
      Markup.section("Fewer patches", [dropping, parts, importance, try drawnPatches()]),
    ].compactMap { $0 }
  }

  /// Whether maps of the same kind differ by less than a tenth of the weight of a row.
  private static func isAlike(_ own: InteractionMap, _ other: InteractionMap) -> Bool {
    guard own.kind == other.kind, own.rows == other.rows, own.columns == other.columns else { return false }
    let moved = zip(own.weights, other.weights).reduce(Float(0)) { $0 + ($1.0 - $1.1).magnitude } / 2
    return moved < 0.1 * Float(own.rows)
  }

  private static func map(_ map: InteractionMap, _ title: String) throws(VitError) -> Markup {
    try HeatMap(title: title, rows: map.rows, columns: map.columns, values: map.weights).markup()
  }
}
