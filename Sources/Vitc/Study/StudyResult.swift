internal import VitData
internal import VitFormats
internal import VitIR
public import VitPasses
internal import VitRuntime

/// What a study found.
public struct StudyResult: Sendable {
  /// The name of the form.
  static let schema = "vitc.study/1"

  /// What was done.
  public let plan: StudyProtocol
  /// Protocol, teacher and data.
  public let identity: StudyIdentity
  /// The teacher's name, and its layers that can be replaced.
  public let name: String, layers: [Int]
  /// The teacher's parameters and operations for a sample.
  public let parameters: Double, flops: Double
  /// What each job found.
  public let records: [StudyRecord]
  /// What follows from that.
  package let analysis: StudyAnalysis
  /// The instruction set and the kernels of OpenBLAS that it was computed with.
  let isa: String, blas: String

  init(
    _ plan: StudyProtocol, _ identity: StudyIdentity, name: String, layers: [Int],
    cost: Cost, _ records: [StudyRecord]
  ) {
    (self.plan, self.identity, self.name, self.layers, self.records) = (plan, identity, name, layers, records)
    (parameters, flops) = (Double(cost.parameters), Double(cost.flops))
    analysis = StudyAnalysis(records, layers: layers)
    (isa, blas) = (Machine.level, Machine.blas)
  }

  /// The result in a file, as `vitc study` writes it; throws for one that is missing, or of another form.
  public init(contentsOf path: String) throws {
    let json = JSON(try JSONValue.read(path))
    do throws(VitError) { try self.init(json) } catch { throw error.at(Location(file: path)) }
  }

  init(_ json: JSON) throws(VitError) {
    let reader = JSONReader(json, of: .study)
    let schema = try reader.text("schema")
    guard schema == StudyResult.schema else {
      throw VitError(
        "expected a study ('\(StudyResult.schema)'), found '\(schema)'", code: "study-file",
        help: JSONReader.Subject.study.help)
    }
    guard let document = json["protocol"] else { throw reader.bad("study") }
    plan = try StudyProtocol(document)
    identity = StudyIdentity(
      plan: try reader.text("protocol_digest"), teacher: try reader.text("teacher_digest"),
      data: try reader.text("data_digest"))
    name = try reader.text("teacher")
    layers = try reader.wholes("layers")
    (parameters, flops) = (try reader.number("parameters"), try reader.number("flops"))
    (isa, blas) = (try reader.text("isa"), try reader.text("blas"))
    guard case .array(let entries)? = json["records"] else { throw reader.bad("study") }
    records = try entries.map { entry throws(VitError) in try StudyRecord(entry) }
    analysis = StudyAnalysis(records, layers: layers)
  }

  /// The study as a document: the same for the same teacher, data and protocol.
  public var json: JSON {
    .object(
      [
        ("schema", .string(StudyResult.schema)), ("version", .string(Version.current)),
        ("protocol", plan.json),
        ("teacher", .string(name)), ("layers", .array(layers.map(JSON.int))),
        ("parameters", .number(parameters)),
        ("flops", .number(flops)), ("isa", .string(isa)), ("blas", .string(blas)),
        ("records", .array(records.map(\.json))),
        ("analysis", analysis.json),
      ] + identity.members)
  }

  /// Writes it into the folder at `path` as JSON, as a table of comma-separated values, and as a page; `beside` are studies of other
  /// teachers that the page shows, too.
  public func write(to path: String, beside: [StudyResult] = []) throws {
    let files = StudyFolder.files(in: path)
    try TextFile.write(json.review, to: files[0])
    try TextFile.write(StudyRecord.table(records), to: files[1])
    try TextFile.write(StudyPage([self] + beside).html, to: files[2])
  }
}

extension StudyIdentity {
  fileprivate init(plan: String, teacher: String, data: String) {
    (self.plan, self.teacher, self.data) = (plan, teacher, data)
  }
}

extension JSONReader.Subject {
  /// A study.
  static let study = JSONReader.Subject(
    name: "study", code: "study-file", help: "expected study.json of a folder that 'vitc study' wrote")
}

extension StudyAnalysis {
  /// The analysis as an object.
  var json: JSON {
    .object([
      ("verdict", .string(verdict.rawValue)), ("bound", .number(StudyAnalysis.bound)),
      ("primary", primary?.json ?? .null), ("beside_dependence", beside?.json ?? .null),
      ("sham", sham?.json ?? .null), ("secondary", .array(secondary.map(\.json))),
      (
        "subsets",
        .array(subsets.map { .object([("predictor", .string($0.name))] + $0.estimate.members) })
      ),
    ])
  }
}

extension StudyAnalysis.Slope {
  fileprivate var json: JSON {
    .object(
      [
        ("endpoint", .string(endpoint)), ("predictor", .string(predictor)), ("sign_flip", .number(signFlip)),
        ("sign_flip_together", .optional(together)),
      ] + estimate.members)
  }
}

extension StudyStatistics.Estimate {
  fileprivate var json: JSON { .object(members) }

  fileprivate var members: [(String, JSON)] {
    [
      ("slope", .number(mean)), ("error", .number(error)), ("units", .int(units)),
      ("low95", .number(mean - half95)), ("high95", .number(mean + half95)),
      ("low90", .number(mean - half90)),
      ("high90", .number(mean + half90)),
    ]
  }
}
