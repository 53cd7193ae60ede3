internal import VitIR
internal import Vitc

extension StepPlan {
  /// The plan for `vitc plan --format json` (`schemas/plan.schema.json`).
  var json: JSON {
    .object([
      ("schema", "vitc.plan/1"),
      (
        "steps",
        .array(
          steps.map { step in
            .object([
              ("name", .string(step.name)), ("words", .array(step.words.map(JSON.string))),
              ("inputs", .array(step.inputs.map(JSON.string))), ("output", .string(step.output)),
              ("depfile", .string(step.depfile)),
            ])
          })
      ),
    ])
  }

  /// A file for ninja. What runs is its variable `vitc`.
  ///
  /// Throws a usage error for a name that it cannot hold.
  func ninja() throws(VitError) -> String {
    var text = """
      # vitc plan --format ninja
      ninja_required_version = 1.7
      vitc = vitc

      rule vitc
        command = $vitc $words
        depfile = $depfile
        description = vitc $out
      """
    // What kept its bytes kept its time, and asks for nothing.
    text += steps.contains { $0.words.contains("--restat") } ? "\n  restat = 1\n" : "\n"
    for step in steps {
      let inputs = try step.inputs.map(StepPlan.ninjaPath).joined(separator: " ")
      text += """

        build \(try StepPlan.ninjaPath(step.output)): vitc \(inputs)
          words = \(try StepPlan.ninjaValue(step.words.map(\.asShellWord).joined(separator: " ")))
          depfile = \(try StepPlan.ninjaValue(step.depfile))

        """
    }
    return text + "\ndefault \(try StepPlan.ninjaPath(last.output))\n"
  }

  private static func ninjaValue(_ text: String) throws(VitError) -> String {
    guard !text.contains(where: \.isNewline), FileName.isText(text) else {
      throw usage(
        "ninja cannot read a word with a line break, or that is no UTF-8: '\(text.escapedForDisplay)'",
        code: "plan-name")
    }
    return text.replacing("$", with: "$$")
  }

  private static func ninjaPath(_ path: String) throws(VitError) -> String {
    guard !path.contains("|") else {
      throw usage("ninja cannot read a file's name with '|': '\(path.escapedForDisplay)'", code: "plan-name")
    }
    return try ninjaValue(path).replacing(" ", with: "$ ").replacing(":", with: "$:")
  }

  /// A script for Slurm: an array of jobs for each stage, and the last step without a number.
  var slurm: String {
    var (runs, after, first) = ("", "", 0)
    for (number, stage) in stages.enumerated() where !stage.isEmpty {
      runs +=
        "#   stage\(number)=$(sbatch --parsable\(after) --array=\(first)-\(first + stage.count - 1) SCRIPT) &&\n"
      after = " --dependency=afterok:$stage\(number)"
      first += stage.count
    }
    var text = """
      #!/usr/bin/env bash
      #SBATCH --job-name=vitc
      # vitc plan --format slurm: the steps of an array may run side by side, and what follows needs all of them.
      #
      \(runs)#   sbatch\(after) SCRIPT
      set -euo pipefail
      vitc=${VITC:-vitc}
      case ${SLURM_ARRAY_TASK_ID:-last} in

      """
    func command(_ step: Step) -> String {
      "exec \"$vitc\" \(step.words.map(\.asShellWord).joined(separator: " ")) ;;\n"
    }
    for (number, step) in stages.flatMap(\.self).enumerated() { text += "  \(number)) \(command(step))" }
    text += "  last) \(command(last))"
    return text + """
        *)
          echo "no step ${SLURM_ARRAY_TASK_ID}" >&2
          exit 2
          ;;
      esac

      """
  }
}

extension String {
  /// The word as a shell reads it back.
  var asShellWord: String {
    let plain =
      !isEmpty
      && utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: "_@%+=:,./-".utf8.contains(byte)
        }
      }
    return plain ? self : "'" + replacing("'", with: "'\\''") + "'"
  }
}
