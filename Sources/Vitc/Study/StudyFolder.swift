internal import Glibc
internal import VitData
internal import VitFormats
internal import VitIR
internal import VitPasses

/// The folder that a study's results go to: `jobs/NAME.json` for each job that is done, and in the end `study.json`, `study.csv` and
/// `study.html`.
///
/// A job's file appears whole or not at all, so that a study that was killed goes on with the jobs that have none.
public struct StudyFolder: Sendable {
  /// The folder's path.
  public let path: String
  /// What a file of results belongs to: protocol, teacher and data.
  let identity: StudyIdentity

  static let help = "give another folder, or remove this one to begin anew"

  /// The files that are written in the folder at `path`.
  public static func files(in path: String) -> [String] {
    ["study.json", "study.csv", "study.html"].map { "\(trimmed(path))/\($0)" }
  }

  /// The file of what the job of that name found, in the folder at `path`.
  public static func file(of job: String, in path: String) -> String { "\(trimmed(path))/jobs/\(job).json" }

  private static func trimmed(_ path: String) -> String {
    path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
  }

  init(_ path: String, _ identity: StudyIdentity) {
    (self.path, self.identity) = (StudyFolder.trimmed(path), identity)
  }

  /// Makes what is missing of it; throws where that cannot be.
  func make() throws(VitError) {
    for folder in [path, jobs] {
      guard FileName.withBytes(of: folder, { mkdir($0, 0o777) }) == 0 || errno == EEXIST else {
        throw VitError(
          "the folder cannot be made: \(String(cString: strerror(errno)))", kind: .environment,
          code: "not-writable", location: Location(file: folder))
      }
    }
  }

  private var jobs: String { path + "/jobs" }

  private func file(of job: StudyJob) -> String { StudyFolder.file(of: job.name, in: path) }

  /// What a job found; `nil` where it is not done. Throws for a file of another study.
  func records(of job: StudyJob) throws -> [StudyRecord]? {
    let file = file(of: job)
    guard !FileIdentity.isMissing(file) else { return nil }
    let json = JSON(try JSONValue.read(file))
    do throws(VitError) {
      try identity.check(json, schema: StudyFolder.schema)
      guard case .array(let entries)? = json["records"] else {
        throw VitError("it has no 'records'", code: "study-file", help: StudyFolder.help)
      }
      return try entries.map { entry throws(VitError) in try StudyRecord(entry) }
    } catch { throw error.at(Location(file: file)) }
  }

  private static let schema = "vitc.study.job/1"

  /// Keeps what a job found.
  func keep(_ records: [StudyRecord], of job: StudyJob) throws {
    let json = JSON.object(
      [("schema", .string(StudyFolder.schema)), ("records", .array(records.map(\.json)))] + identity.members)
    try TextFile.write(json.review, to: file(of: job))
  }
}

/// What two results must share to belong to one study: digests of the protocol, the teacher and the data.
public struct StudyIdentity: Hashable, Sendable {
  /// The digests.
  public let plan, teacher, data: String

  init(_ plan: StudyProtocol, teacher: Model, data: [Samples?]) throws {
    self.plan = plan.digest
    self.teacher = try Lineage.digest(of: teacher)
    let digests = try data.map { try $0.map { try Lineage.digest(of: $0) } ?? "" }
    self.data = digests.filter { !$0.isEmpty }.joined(separator: " ")
  }

  var members: [(String, JSON)] {
    [
      ("protocol_digest", .string(plan)), ("teacher_digest", .string(teacher)),
      ("data_digest", .string(data)),
    ]
  }

  /// Throws where a document belongs to another study.
  func check(_ json: JSON, schema: String) throws(VitError) {
    guard json["schema"] == .string(schema) else {
      throw VitError("expected a file of a study ('\(schema)')", code: "study-file", help: StudyFolder.help)
    }
    for (name, value) in members where json[name] != value {
      let what = name.split(separator: "_").first.map(String.init) ?? name
      throw VitError(
        "it belongs to a study of another \(what)", kind: .usage, code: "study-other", help: StudyFolder.help)
    }
  }
}
