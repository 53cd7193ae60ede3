internal import VitIR
public import VitPasses
internal import VitRuntime

extension Pipeline {
  /// Runs the passes on a model; returns what they make of it.
  ///
  /// `heldOut` are samples that nothing is trained on; without them the samples judge themselves. A model in which layers
  /// are replaced already needs its `teacher` for what goes on from there: the steps then give what one compile with all of
  /// them gives. Throws what a pass throws, and where the teacher is not the one that the model was made from.
  public func run(
    on model: Model, _ data: Samples? = nil, heldOut: Samples? = nil, teacher: Model? = nil,
    seed: UInt64 = 0, threads: Int? = nil, progress: Progress = Progress(),
    observers: [any PassObserver] = []
  ) throws -> Model {
    try checkHead()
    let context = PassContext(
      pool: ThreadPool.shared(threads: threads), registry: .vitc, seed: seed, progress: progress)
    context.data = data
    context.heldOut = heldOut
    var result = model
    if let teacher {
      let floats = try teacher.inFloats(threads: threads) ?? teacher
      result.hybrid.teacher = try floats.asTeacher(of: model, context)
    }
    try run(on: &result.hybrid, context: context, observers: observers)
    result.card = model.card(preparedAs: data)
    if givesHead, let data, let classes = OutputKind.width(of: result.graph) {
      // Numbers, too, are names: those of other classes may lie beside the file.
      result.card.labels = (0..<classes).map { data.className($0) ?? "\($0)" }
    }
    if try result.graph.computes(otherwise: model.graph) {
      // What was measured on another graph, and what that one gave, says nothing of this one.
      result.origin = Model.Origin(
        lineage: try Lineage.entries(continuing: model, data: data, pipeline: self, seed: seed))
    }
    return result
  }
}

extension Pipeline {
  /// Whether what it makes has another head, and so is another teacher.
  var givesHead: Bool { passes.contains { $0 is Head } }

  /// Throws a usage error where a pass behind `head` makes something of which that model is the teacher: it would be in no file.
  fileprivate func checkHead() throws(VitError) {
    guard let place = passes.lastIndex(where: { $0 is Head }),
      let later = passes[place...].first(where: { $0.isLossy || $0 is Swap })
    else { return }
    throw VitError(
      "head makes another teacher, which '\(type(of: later).name)' would change before it is in a file",
      kind: .usage, code: "head-order",
      help: "write it with -o, and run the passes behind 'head' on that")
  }

  /// Whether passes that are written so leave something out.
  fileprivate static func isLossy(_ text: String) -> Bool {
    guard let pipeline = try? Pipeline(text) else { return false }
    return pipeline.passes.contains { $0.isLossy }
  }
}

extension Model {
  /// This model as the teacher of `model`, for images of its size; throws where it is another than the one that is
  /// recorded in the model.
  fileprivate func asTeacher(of model: Model, _ context: PassContext) throws -> Teacher {
    if let recorded = model.lineage.first(where: { $0.key == "teacher" })?.value, !files.isEmpty {
      let own = try Lineage.digest(of: self)
      // A copy of the teacher in another form says what it was made from.
      let isCopy =
        hybrid.replaced.isEmpty && lineage.contains { $0.key == "teacher" && $0.value == recorded }
        && !lineage.contains { $0.key == "pipeline" && Pipeline.isLossy($0.value) }
      guard own == recorded || isCopy else {
        throw VitError(
          "this is not the teacher that the model was made from: its digest is \(own), recorded is \(recorded)",
          code: "teacher-digest", location: Location(file: path),
          help: "give the file that the layers were replaced in")
      }
    }
    var hybrid = hybrid
    if let input = model.graph.inputs.first {
      let extents = model.graph.type(input).shape.dropFirst().map(\.fixedValue)
      let sample = extents.compactMap { $0 }
      if !sample.isEmpty, sample.count == extents.count {
        _ = try FixSize(sample: sample).run(on: &hybrid, context: context)
      }
    }
    return Teacher(hybrid)
  }

  /// What the model says of its images, or what lies beside it does, where `data` were prepared by that or their size is
  /// known: a file of another name or place must not lose it.
  fileprivate func card(preparedAs data: Samples?) -> Card {
    guard card.preprocessing.isEmpty else { return card }
    if let data { return Card(preprocessing: data.settings, labels: labels ?? []) }
    guard let input = try? ImageInput(self), !input.isGuessed,
      graph.inputs.allSatisfy({ graph.type($0).shape.dropFirst().allSatisfy(\.isFixed) })
    else { return card }
    return Card(preprocessing: input.preprocess?.settings ?? [], labels: labels ?? [])
  }
}

extension Graph {
  /// Whether anything but notes and origins tells this graph from `other`.
  fileprivate func computes(otherwise other: Graph) throws -> Bool {
    func bare(_ graph: Graph) -> Graph {
      var graph = graph
      graph.annotations = Attributes()
      for index in graph.nodes.indices { graph.nodes[index].location = Location() }
      return graph
    }
    return try bare(self).firstDifference(from: bare(other)) != nil
  }
}
