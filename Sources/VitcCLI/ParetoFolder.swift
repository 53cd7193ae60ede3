internal import Glibc
internal import VitIR
internal import VitPasses
internal import Vitc

/// The folder that models of other points of a search go to, `point-1.vmod` the largest, with `pareto.json`, which says what each
/// reaches.
struct ParetoFolder {
  private let path: String
  private var models: [(file: String, report: Report)] = []

  /// The files that may be written in the folder at `path`.
  static func files(in path: String) -> [String] {
    (1...OtherPoints.most).map { "\(path)/point-\($0).vmod" } + ["\(path)/pareto.json"]
  }

  /// The folder at `path`, which is made where it is missing; throws where that cannot be.
  init(_ path: String) throws {
    self.path = path.hasSuffix("/") ? String(path.dropLast()) : path
    guard FileName.withBytes(of: path, { mkdir($0, 0o777) }) == 0 || errno == EEXIST else {
      throw VitError(
        "the folder cannot be made: \(String(cString: strerror(errno)))", kind: .environment,
        code: "not-writable", location: Location(file: path))
    }
    try Model.checkWritable(index)
  }

  private var index: String { path + "/pareto.json" }

  /// Writes a model.
  mutating func add(_ result: Compiler.Compilation) throws {
    let file = "point-\(models.count + 1).vmod"
    try result.model.write(to: "\(path)/\(file)", as: .vmod)
    var report = result.report
    report.hybrid.bytes = TextFile.byteCount(of: "\(path)/\(file)")
    models.append((file, report))
  }

  /// Writes the index.
  func finish(withTimes: Bool) throws {
    let entries = models.map { file, report in
      JSON.object([("file", .string(file)), ("report", report.json(withTimes: withTimes))])
    }
    let json = JSON.object([("schema", "vitc.pareto/1"), ("models", .array(entries))])
    try TextFile.write(json.text, to: index)
  }

  /// The models, a row each, and last the one that was chosen.
  func text(chosen: Report) -> String {
    var table = Table(["model", "points", "agreement", "KL", "parameters", "flops", "ms"])
    for (name, report) in models + [("chosen", chosen)] {
      let fidelity = report.fidelity
      let drop = fidelity.teacherAccuracy.flatMap { teacher in fidelity.accuracy.map { ($0 - teacher) * 100 }
      }
      let times = report.timing.map {
        "\((100 * ($0.hybrid.median / $0.teacher.median - 1)).fixed(1)) %"
      }
      table.add([
        name, drop?.fixed(2) ?? "", fidelity.agreement?.percent ?? "",
        fidelity.divergence?.short ?? fidelity.relativeError.short,
        CompileText.change(report.teacher.parameters, report.hybrid.parameters),
        CompileText.change(report.teacher.flops, report.hybrid.flops), times ?? "",
      ])
    }
    return "points on the way, solved and not trained, in \(path)\n\(table.text)\n"
  }
}
