internal import VitIR

/// How a command ended that did not fail.
enum Outcome: Sendable {
  /// Done.
  case done
  /// A check found what it looks for: a difference, a wrong output.
  case checkFailed
}

/// One thing that vitc does.
struct Command: Sendable {
  /// The word behind `vitc`.
  let name: String
  /// One line of what it does.
  let summary: String
  /// What stands beside the options, with what each is; one that ends in `…` takes several.
  let operands: [(name: String, summary: String)]
  /// The options, those of every command left out.
  let options: [Option]
  /// More to know, one paragraph an element.
  let notes: [String]
  /// How many operands there may be.
  let operandCount: ClosedRange<Int>
  /// Does it.
  let run: @Sendable (Arguments, Terminal) throws -> Outcome

  init(
    _ name: String, _ summary: String, operands: [(name: String, summary: String)], options: [Option] = [],
    notes: [String] = [], operandCount: ClosedRange<Int>? = nil,
    run: @escaping @Sendable (Arguments, Terminal) throws -> Outcome
  ) {
    self.name = name
    self.summary = summary
    self.operands = operands
    self.options = options
    self.notes = notes
    self.operandCount = operandCount ?? operands.count...operands.count
    self.run = run
  }

  /// The options that it takes, those of every command at the end.
  var allOptions: [Option] { options + Option.common }

  /// All commands, in the order of the help.
  static let all: [Command] = [
    .compile, .inspect, .score, .run, .eval, .bench, .verify, .rebuild, .diff, .check, .golden, .report,
    .study, .plan, .opt,
    .export, .explain, .completions, .manual,
    .help,
  ]

  /// Throws where there are too few or too many operands.
  func checkOperands(_ found: [String]) throws(VitError) {
    if found.count < operandCount.lowerBound {
      let missing = operands[min(found.count, operands.count - 1)].name
      throw usage("\(name) needs \(missing)", code: "operand-missing", help: "see 'vitc help \(name)'")
    }
    if found.count > operandCount.upperBound {
      throw usage(
        "unexpected operand '\(found[operandCount.upperBound])'", code: "operand-unexpected",
        help: "see 'vitc help \(name)'")
    }
  }
}
