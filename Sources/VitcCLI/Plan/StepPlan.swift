internal import VitIR
internal import Vitc

/// A command cut into steps that read and write files: stages of some that may run side by side, and one that needs what they made.
///
/// Whatever schedules commands by their files can run them. The last step writes what the whole command would, to the byte.
struct StepPlan {
  /// One step.
  struct Step {
    /// What it is called, of letters, digits and hyphens.
    let name: String
    /// The words behind `vitc`.
    let words: [String]
    /// Files that must be there before, those left out that `depfile` will name.
    let inputs: [String]
    /// What it writes: what others wait for.
    let output: String
    /// Where it says what it read.
    let depfile: String
  }

  /// What may run side by side, stage by stage: each needs all of those before.
  let stages: [[Step]]
  /// What needs all of them.
  let last: Step

  /// All, in an order that works.
  var steps: [Step] { stages.flatMap(\.self) + [last] }
}

extension StepPlan {
  /// Options that say what is made, or how this run goes on: each step has its own.
  private static let own: Set = ["-o", "-MD", "-MF", "-MP", "--report", "--pareto", "--resume", "--emit"]

  /// The steps of `vitc compile` with `layers` that can be distilled alone, each of which then, where it `chooses`, may have something
  /// else in its place.
  init(compile arguments: Arguments, out: String, layers: [Int], chooses: Bool) {
    let teacher = arguments.operands[0]
    let own = StepPlan.own.union(["--controls"])
    func stage(_ name: String, after files: [String]) -> [Step] {
      layers.map { layer in
        let output = "\(out).\(name)-\(layer)"
        return Step(
          name: "\(name)-\(layer)",
          words: ["compile"]
            + arguments.words(
              leavingOut: own,
              adding: files.flatMap { ["--parts", $0] }
                + ["--part", "\(layer)", "-o", output, "-MD", "-MF", output + ".d"]),
          inputs: [teacher] + files, output: output, depfile: output + ".d")
      }
    }
    let distilled = stage("part", after: [])
    stages = [distilled] + (chooses ? [stage("choices", after: distilled.map(\.output))] : [])
    let files = stages.flatMap(\.self).map(\.output)
    let depfile = arguments.text("-MF") ?? Depfile.name(for: out)
    last = Step(
      name: "compile",
      words: ["compile"]
        + arguments.words(
          leavingOut: ["-MD", "-MF", "--resume"],
          adding: files.flatMap { ["--parts", $0] } + ["-MD", "-MF", depfile]),
      inputs: [teacher] + files, output: out, depfile: depfile)
  }

  /// The steps of `vitc study` with these jobs.
  init(study arguments: Arguments, out: String, jobs: [String]) {
    let teacher = arguments.operands[0]
    let parts = jobs.map { job in
      let output = StudyFolder.file(of: job, in: out)
      return Step(
        name: job,
        words: ["study"]
          + arguments.words(
            leavingOut: ["-MD", "-MF", "--job", "--beside", "--against"],
            adding: ["--job", job, "-MD", "-MF", output + ".d"]),
        inputs: [teacher], output: output, depfile: output + ".d")
    }
    stages = [parts]
    let output = StudyFolder.files(in: out)[0]
    let depfile = arguments.text("-MF") ?? output + ".d"
    last = Step(
      name: "study",
      words: ["study"] + arguments.words(leavingOut: ["-MD", "-MF"], adding: ["-MD", "-MF", depfile]),
      inputs: [teacher] + parts.map(\.output), output: output, depfile: depfile)
  }
}
