internal import VitIR
internal import VitPasses
internal import Vitc

extension Command {
  /// `vitc plan`.
  static let plan = Command(
    "plan", "cuts a compile or a study into steps for what schedules commands by their files",
    operands: [
      ("COMMAND", "compile or study"),
      ("WORDS…", "what stands behind it; -- before COMMAND keeps its options apart"),
    ],
    options: [
      Option(
        "--format", "FORMAT", "ninja, json (schemas/plan.schema.json) or slurm, a script for an array of jobs"
      ),
      Option("-o", "FILE", "where the plan goes (default: standard output)"), Option.memoryLimit,
    ],
    notes: [
      "As in 'vitc plan --format ninja -o build.ninja -- compile teacher.onnx --data images -o hybrid.vmod': each layer is distilled in a step of "
        + "its own (vitc compile --part), what else may stand in its place is made in one, each job of a study is one (vitc study --job), and a last step takes up what they wrote. The result is what the command itself makes, to the byte.",
      "Steps write whole files or none, so that what was stopped or killed is done again and nothing else is.",
    ],
    operandCount: 2...Int.max
  ) { arguments, terminal in
    guard let format = try arguments.choice("--format", of: ["ninja", "json", "slurm"]) else {
      throw usage("plan needs --format", code: "option-missing", help: "one of ninja, json, slurm")
    }
    var files = FileUse()
    if let out = arguments.text("-o") {
      if format == "json" { try FileFormat.check(out, is: .json, as: "-o") }
      try files.writes(out, as: "-o")
    }
    let plan = try steps(arguments.operands, terminal, &files)
    let text =
      switch format {
      case "json": plan.json.text
      case "ninja": try plan.ninja()
      default: plan.slurm
      }
    if let out = arguments.text("-o") { try TextFile.write(text, to: out) } else { terminal.write(text) }
    return .done
  }

  private static func steps(
    _ words: [String], _ terminal: Terminal, _ files: inout FileUse
  ) throws -> StepPlan {
    let planned = [Command.compile, Command.study]
    guard let command = planned.first(where: { $0.name == words[0] }) else {
      throw Arguments.unknown(words[0], among: planned.map(\.name), what: "command", help: "plan")
    }
    let arguments = try Arguments(Array(words.dropFirst()), of: command)
    guard !arguments.flag("--help") else {
      throw usage(
        "there is no plan of help", code: "option-conflict", help: "see 'vitc help \(command.name)'")
    }
    let out = try command.checkPlanned(arguments)
    let teacher = try terminal.load(
      arguments.operands[0], inputShapes: arguments.texts("--input-shape"), &files)
    guard command.name == "compile" else {
      return StepPlan(
        study: arguments, out: out, jobs: try Study.jobs(of: studyProtocol(arguments), on: teacher))
    }
    var options = try compilerOptions(arguments, out: out)
    guard options.deadline == nil else {
      throw usage(
        "what a deadline stops differs from run to run: it cannot be cut into steps", code: "option-conflict",
        help: "a time budget decides steps in the same way everywhere")
    }
    if arguments.text("--data") == nil { options = try options.withoutData() }
    let compiler = try Compiler(options)
    return StepPlan(
      compile: arguments, out: out, layers: try compiler.parts(of: teacher), chooses: compiler.choosesParts)
  }

  /// Where a command that is planned writes; throws a usage error where it would throw one.
  private func checkPlanned(_ arguments: Arguments) throws(VitError) -> String {
    for option in ["--part", "--parts", "--job", "--dry-run", "--print-protocol"]
    where arguments.takes(option) && arguments.flag(option) {
      throw usage("\(option) is for one step, and a plan has all", code: "option-conflict")
    }
    guard let out = arguments.text("-o") else {
      throw usage("\(name) needs -o", code: "option-missing", help: "see 'vitc help \(name)'")
    }
    return out
  }
}
