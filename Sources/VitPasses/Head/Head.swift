public import VitIR
internal import VitOps

/// Gives a classifier another last linear map, for the classes of the data: what makes a teacher for them of one for others.
///
/// The map is solved in closed form: ridge regression of classes, 1 for a sample's own and 0 for the others, on what the model gives
/// in front of its last map, with a free bias. Each sample counts once, as it does in an accuracy; every fourth of each class is
/// held out, and decides the ridge and one factor for all scores, with which their softmax says how likely classes are. Then all are
/// solved on. Nothing is trained, and the rest of the model stays as it is.
///
/// What it makes is another teacher, so it runs on a model that is its own: before anything is replaced or left out.
public struct Head: Pass {
  /// `head`.
  public static let name = "head"
  /// See `Pass`.
  public static let summary =
    "Gives a classifier a new last linear map for the classes of the data, solved in closed form"
  /// See `Pass`.
  public static let example = "head{images=20,ridge=0.1}"

  /// How many classes there are; `nil` for those that the data have.
  public var classes: Int?
  /// On how many samples the map is solved, spread over the data; `nil` for all.
  public var images: Int?
  /// How much the map is drawn towards 0, as a part of the mean variance of what it reads; `nil` where held-out samples decide.
  public var ridge: Double?

  /// The most classes.
  public static let maximumClasses = 1 << 16

  /// The pass.
  public init(classes: Int? = nil, images: Int? = nil, ridge: Double? = nil) {
    self.classes = classes
    self.images = images
    self.ridge = ridge
  }

  /// Takes `classes` (auto), how many there are: as many as the data have, or more; `images` (all), on how many samples the map is
  /// solved; and `ridge` (auto), how much it is drawn towards 0.
  public init(options: inout OptionReader) throws(VitError) {
    if options.word("classes", of: ["auto"]) == nil {
      classes = try options.optional("classes", or: "auto")
    }
    if options.word("images", of: ["all"]) == nil { images = try options.optional("images", or: "all") }
    if options.word("ridge", of: ["auto"]) == nil { ridge = try options.optional("ridge", or: "auto") }
  }

  /// Throws where a number makes no sense.
  public func check() throws(VitError) {
    guard (2...Head.maximumClasses).contains(classes ?? 2), images ?? 1 > 0 else {
      throw VitError(
        "head: expected 2 to \(Head.maximumClasses) classes and images of at least 1", kind: .usage,
        code: "option-value")
    }
    if let ridge, !(ridge > 0 && ridge <= 1e6) {
      throw VitError(
        "head: expected a ridge above 0 and at most 1000000, found \(ridge)", kind: .usage,
        code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    [
      ("classes", classes.map(String.init) ?? "auto"), ("images", images.map(String.init) ?? "all"),
      ("ridge", ridge.map { "\($0)" } ?? "auto"),
    ]
  }

  /// Solves for the map and puts it in; throws where the model is no longer its own teacher, where what stands at its end is no
  /// linear map, and where the data have no classes.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    try hybrid.checkOwnTeacher(for: Head.name)
    let labelled = try labelled(context)
    let map = try ClassifierMap(of: hybrid.graph)
    var regression = try ClassRegression(
      inputs: map.width, classes: labelled.classes, heldOut: labelled.isHeldOut.count { $0 },
      pool: context.pool)
    try collect(labelled, map, hybrid.graph, context, into: &regression)
    let solution = try regression.solve(ridge: ridge)
    map.replace(
      weight: Tensor(shape: [labelled.classes, map.width], floats: solution.weight),
      bias: Tensor(shape: [labelled.classes], floats: solution.bias), in: &hybrid.graph)
    if !hybrid.layers.isEmpty, (try? hybrid.checkInvariants()) == nil { hybrid.findLayers() }
    // What it was is the teacher of nothing any more.
    hybrid.teacher = Teacher(hybrid)
    context.outputs = .classes
    let text = labelled.text + ", " + Head.text(solution)
    context.report(Diagnostic(.note, "head: \(text)", code: "head"))
    return PassResult(changes: 1, notes: [text])
  }

  private static func text(_ solution: ClassRegression.Solution) -> String {
    func short(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
    let chosen = "ridge \(solution.ridge), scores times \(short(solution.scale))"
    guard solution.judged.count > 0 else { return chosen + "; no class has a sample to hold out" }
    let rate = Double(solution.judged.right) / Double(solution.judged.count)
    return chosen + "; of \(solution.judged.count) held-out samples \(short(100 * rate)) % are right"
  }

  // MARK: Samples

  /// The samples that have a class.
  private struct Labelled {
    let classes: Int
    /// Their places in the data, ascending.
    let places: [Int]
    let labels: [Int]
    /// For each whether it judges: the second, sixth, … of its class.
    let isHeldOut: [Bool]

    var text: String { "\(classes) classes solved on \(places.count) samples" }
  }

  /// Throws where the data are missing, or have not the classes that are needed: what can be said before any work.
  func checkData(_ context: PassContext) throws(VitError) { _ = try labelled(context, warns: false) }

  private func labelled(_ context: PassContext, warns: Bool = true) throws(VitError) -> Labelled {
    let data = try context.samples(for: Head.name)
    let labels = (0..<data.count).map(data.label)
    guard let largest = labels.lazy.compactMap({ $0 }).max() else {
      throw VitError(
        "head needs samples with labels, the data have none", code: "data-unlabelled",
        help: "give a folder for each class, or a list of paths and labels (.csv)")
    }
    let needed = max(data.classCount ?? 0, largest < Int.max ? largest + 1 : largest)
    let count = classes ?? needed
    guard count > largest else {
      throw VitError(
        "head: the data have labels up to \(largest), which \(count) classes do not have", kind: .usage,
        code: "head-classes", help: "give head{classes=\(needed)} or leave the number to the data")
    }
    guard count >= 2, count <= Head.maximumClasses else {
      throw VitError(
        "head: expected data of 2 to \(Head.maximumClasses) classes, found \(count)", code: "head-classes")
    }
    var (seen, places, own, isHeldOut): ([Int], [Int], [Int], [Bool]) = (
      Array(repeating: 0, count: count), [], [], []
    )
    for place in data.spread(images) {
      guard let label = labels[place], seen.indices.contains(label) else { continue }
      places.append(place)
      own.append(label)
      isHeldOut.append(seen[label] % 4 == 1)
      seen[label] += 1
    }
    guard seen.count(where: { $0 > 0 }) >= 2 else {
      throw VitError(
        "head: expected samples of at least 2 classes, found \(places.count) samples of one or none",
        code: "head-classes", help: "give data with more classes, or more images")
    }
    let missing = seen.count { $0 == 0 }
    if missing > 0, warns {
      context.report(
        Diagnostic(
          .warning, "head: \(missing) of \(count) classes have no samples, and will not be found",
          code: "head-classes"))
    }
    return Labelled(classes: count, places: places, labels: own, isHeldOut: isHeldOut)
  }

  /// Runs the model up to its last map on all samples. Those for which it gives no numbers are left out.
  private func collect(
    _ labelled: Labelled, _ map: ClassifierMap, _ graph: Graph, _ context: PassContext,
    into regression: inout ClassRegression
  ) throws {
    let data = try context.samples(for: Head.name)
    var part = graph
    part.outputs = [(graph[map.input].name, map.input)]
    part.removeDeadNodes()
    let screen = SampleScreen(data, context: context)
    let runner = SampleRunner(part, data: data, samples: labelled.places, context: context)
    try runner.run(
      part, context.weights(of: part),
      progress: { context.progress(Head.name, $0, $1, "") },
      { first, outputs, count in
        for row in 0..<count {
          let values = outputs[0].part(row * map.width, of: map.width)
          try screen.note(labelled.places[first + row], isFinite: values.isFinite)
          guard values.isFinite else { continue }
          regression.add(
            values.f32, label: labelled.labels[first + row], isHeldOut: labelled.isHeldOut[first + row])
        }
      })
    try screen.finish()
  }
}
