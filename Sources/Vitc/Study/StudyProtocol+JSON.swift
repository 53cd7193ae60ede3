internal import VitData
internal import VitFormats
internal import VitIR
public import VitPasses

extension StudyProtocol {
  /// The name of the form.
  static let schema = "vitc.study.protocol/1"

  /// The protocol in a file; throws for one that is missing, none, or of numbers that are out of range.
  public init(contentsOf path: String) throws {
    let document = try JSONValue.read(path)
    do throws(VitError) {
      try self.init(JSON(document))
      try check()
    } catch { throw error.at(Location(file: path)) }
  }

  /// The protocol of a document.
  init(_ json: JSON) throws(VitError) {
    let reader = JSONReader(json, of: .studyProtocol)
    let schema = try reader.text("schema")
    guard schema == StudyProtocol.schema else {
      throw VitError(
        "expected a protocol ('\(StudyProtocol.schema)'), found '\(schema)'", code: "study-protocol",
        help: JSONReader.Subject.studyProtocol.help)
    }
    self.init()
    name = try reader.text("name")
    seed = try reader.whole("seed")
    batch = try reader.whole("batch")
    distilRate = try reader.number("distil_rate")
    fineTuneRate = reader.has("fine_tune_rate") ? try reader.number("fine_tune_rate") : nil
    let images = try reader.member("images")
    (fitted, scored) = (try images.whole("fitted"), try images.whole("scored"))
    (measured, heldOut) = (try images.whole("measured"), try images.whole("held_out"))
    let groups = try reader.member("replacement")
    replacement.mixers = try groups.texts("mixers")
    replacement.controls = try groups.texts("controls")
    replacement.groups = try groups.texts("groups")
    replacement.part = try groups.number("part")
    replacement.seeds = try groups.whole("seeds")
    replacement.distilSteps = try groups.whole("distil_steps")
    replacement.fineTuneSteps = try groups.whole("fine_tune_steps")
    let tokens = try reader.member("retention")
    retention.keep = try tokens.numbers("keep")
    (retention.mixer, retention.part) = (try tokens.text("mixer"), try tokens.number("part"))
    retention.distilSteps = try tokens.whole("distil_steps")
    retention.fineTuneSteps = try tokens.whole("fine_tune_steps")
    let depth = try reader.member("position")
    position.factors = try depth.numbers("factors")
    (position.squares, position.noises) = (try depth.whole("squares"), try depth.whole("noises"))
    (position.recoverySteps, position.gate) = (try depth.whole("recovery_steps"), try depth.number("gate"))
    position.forms = try depth.list("forms").map { entry throws(VitError) in try entry.form() }
    let sets = try reader.member("subsets")
    (subsets.form, subsets.part) = (try sets.member("form").form(), try sets.number("part"))
    (subsets.most, subsets.pairs) = (try sets.whole("most"), try sets.whole("pairs"))
    subsets.fineTuneSteps = try sets.whole("fine_tune_steps")
  }

  /// The protocol as a document.
  public var json: JSON {
    func texts(_ values: [String]) -> JSON { .array(values.map(JSON.string)) }
    func numbers(_ values: [Double]) -> JSON { .array(values.map(JSON.number)) }
    return .object([
      ("schema", .string(StudyProtocol.schema)), ("name", .string(name)), ("seed", .int(seed)),
      ("batch", .int(batch)), ("distil_rate", .number(distilRate)),
      ("fine_tune_rate", .optional(fineTuneRate)),
      (
        "images",
        .object([
          ("fitted", .int(fitted)), ("scored", .int(scored)), ("measured", .int(measured)),
          ("held_out", .int(heldOut)),
        ])
      ),
      (
        "replacement",
        .object([
          ("mixers", texts(replacement.mixers)), ("controls", texts(replacement.controls)),
          ("groups", texts(replacement.groups)), ("part", .number(replacement.part)),
          ("seeds", .int(replacement.seeds)), ("distil_steps", .int(replacement.distilSteps)),
          ("fine_tune_steps", .int(replacement.fineTuneSteps)),
        ])
      ),
      (
        "retention",
        .object([
          ("keep", numbers(retention.keep)), ("mixer", .string(retention.mixer)),
          ("part", .number(retention.part)),
          ("distil_steps", .int(retention.distilSteps)), ("fine_tune_steps", .int(retention.fineTuneSteps)),
        ])
      ),
      (
        "position",
        .object([
          ("factors", numbers(position.factors)), ("squares", .int(position.squares)),
          ("recovery_steps", .int(position.recoverySteps)), ("gate", .number(position.gate)),
          ("forms", .array(position.forms.map(\.json))), ("noises", .int(position.noises)),
        ])
      ),
      (
        "subsets",
        .object([
          ("form", subsets.form.json), ("part", .number(subsets.part)), ("most", .int(subsets.most)),
          ("pairs", .int(subsets.pairs)), ("fine_tune_steps", .int(subsets.fineTuneSteps)),
        ])
      ),
    ])
  }

  /// What names it: the digest of its document.
  public var digest: String { Digest(of: Array(json.line.utf8)).description }
}

extension StudyProtocol.Form {
  fileprivate var json: JSON {
    .object([
      ("mixer", .string(mixer)), ("prefix", .string(prefix)), ("steps", .int(steps)), ("seeds", .int(seeds)),
    ])
  }
}

extension JSONReader.Subject {
  /// A study's protocol.
  fileprivate static let studyProtocol = JSONReader.Subject(
    name: "protocol", code: "study-protocol", help: "'vitc study --print-protocol' prints one to begin with")
}

extension JSONReader {
  func texts(_ name: String) throws(VitError) -> [String] {
    try list(name).map { element throws(VitError) in try element.text() }
  }

  fileprivate func form() throws(VitError) -> StudyProtocol.Form {
    StudyProtocol.Form(
      try text("mixer"), prefix: try text("prefix"), steps: try whole("steps"), seeds: try whole("seeds"))
  }
}
