internal import VitIR
internal import Vitc

extension Command {
  /// `vitc report`.
  static let report = Command(
    "report", "shows a compile's report as one HTML page",
    operands: [("REPORT", "a .json file that 'vitc compile --report' wrote")],
    options: [
      Option("-o", "OUT", "where the page goes: NAME.html"),
      Option("--hybrid", "MODEL", "the hybrid, whose layers are to be drawn: a .vmod or textual IR file"),
      Option("--teacher", "TEACHER", "the teacher beside it"), Option.data, Option.preprocess, Option.threads,
      Option.memoryLimit,
    ] + Option.dependencies,
    notes: [
      "The page needs no network, no script and no file beside it; 'vitc compile --report NAME.html' writes it at once.",
      "With --hybrid, --teacher and --data it also shows which tokens the layers of both look at.",
    ]
  ) { arguments, terminal in
    guard let out = arguments.text("-o") else {
      throw usage("report needs -o", code: "option-missing", help: "the name of the page: -o OUT.html")
    }
    var files = FileUse()
    try FileFormat.check(out, is: .html, as: "-o")
    try files.writes(out, as: "-o")
    let depfile = try arguments.depfile(for: out, &files)
    let threads = try arguments.threads()
    let drawn = ["--hybrid", "--teacher", "--data"]
    let missing = drawn.filter { arguments.text($0) == nil }
    guard missing.isEmpty || missing.count == drawn.count else {
      throw usage(
        "what layers look at is drawn of a hybrid and its teacher on images: \(missing.joined(separator: " and ")) is missing",
        code: "option-missing")
    }
    try files.reads([arguments.operands[0]])
    // What is no report is refused before any work.
    var page = try ReportPage(contentsOf: arguments.operands[0])
    if let hybrid = arguments.text("--hybrid"), let teacher = arguments.text("--teacher") {
      let model = try terminal.fitted(terminal.load(hybrid, threads: threads, &files), arguments)
      let original = try terminal.fitted(terminal.load(teacher, threads: threads, &files), arguments)
      if let data = try arguments.samples(
        "--data", for: model, purpose: .evaluation, terminal: terminal, &files)
      {
        page.figures = try ReportFigures(
          teacher: original, hybrid: model, on: data, threads: threads, progress: terminal.progress)
      }
    }
    try page.write(to: out)
    try depfile?.write(files, terminal)
    return .done
  }
}
