internal import VitIR

/// What lets shells complete the words behind `vitc`, made from the tables that the parser uses.
enum Completions {
  /// The shells.
  enum Shell: String, CaseIterable { case bash, zsh, fish }

  /// The script for a shell, which its page of the manual says where to put.
  static func script(for shell: Shell) -> String {
    switch shell {
    case .bash: bash
    case .zsh: zsh
    case .fish: fish
    }
  }

  /// The words that may be the first operand of a command, where no file is wanted.
  private static func topics(_ command: Command) -> [String] {
    switch command.name {
    case Command.help.name: Command.all.map(\.name) + ["op", "pass", "mixer"]
    case Command.manual.name: Command.all.map(\.name)
    case Command.explain.name: CodeGuide.all.map(\.code)
    case Command.completions.name: Shell.allCases.map(\.rawValue)
    default: []
    }
  }

  private static var bash: String {
    let cases = Command.all.map { command in
      let words = command.allOptions.map(\.name).joined(separator: " ")
      let topics = topics(command).joined(separator: " ")
      return "    \(command.name)) options='\(words)' topics='\(topics)' ;;\n"
    }.joined()
    return """
      # bash completion of vitc.
      _vitc() {
        local current=${COMP_WORDS[COMP_CWORD]} options='--help --version' topics=
        COMPREPLY=()
        if [ "$COMP_CWORD" -eq 1 ]; then
          COMPREPLY=($(compgen -W '\(Command.all.map(\.name).joined(separator: " ")) --help --version' -- "$current"))
          return
        fi
        case ${COMP_WORDS[1]} in
      \(cases)  esac
        if [[ $current == -* ]]; then
          COMPREPLY=($(compgen -W "$options" -- "$current"))
        elif [ -n "$topics" ]; then
          COMPREPLY=($(compgen -W "$topics" -- "$current"))
        else
          local IFS=$'\\n'
          COMPREPLY=($(compgen -f -- "${current#@}"))
        fi
      }
      complete -o filenames -F _vitc vitc

      """
  }

  private static var zsh: String {
    func quoted(_ text: String) -> String {
      text.replacing("'", with: "'\\''").replacing("[", with: "\\[").replacing("]", with: "\\]")
        .replacing(":", with: "\\:")
    }
    let commands = Command.all.map { "    '\($0.name):\(quoted($0.summary))'\n" }.joined()
    let cases = Command.all.map { command in
      let options = command.allOptions.map { option in
        let times = option.isRepeatable ? "*" : ""
        let value = option.value.map { ":\(quoted($0)):_files" } ?? ""
        return "        '\(times)\(option.name)[\(quoted(option.summary))]\(value)' \\\n"
      }.joined()
      let topics = topics(command)
      let operand = topics.isEmpty ? "_files" : "(\(topics.joined(separator: " ")))"
      return "    \(command.name))\n      _arguments \\\n\(options)        '*:operand:\(operand)' ;;\n"
    }.joined()
    return """
      #compdef vitc
      # zsh completion of vitc.
      _vitc() {
        local -a commands
        commands=(
      \(commands)  )
        if (( CURRENT == 2 )); then
          _describe command commands
          return
        fi
        local command=$words[2]
        shift words
        (( CURRENT-- ))
        case $command in
      \(cases)  esac
      }
      _vitc "$@"

      """
  }

  private static var fish: String {
    func quoted(_ text: String) -> String {
      "'\(text.replacing("\\", with: "\\\\").replacing("'", with: "\\'"))'"
    }
    var lines = ["# fish completion of vitc."]
    let names = Command.all.map(\.name).joined(separator: " ")
    let none = "not __fish_seen_subcommand_from \(names)"
    for command in Command.all {
      lines.append("complete -c vitc -f -n \(quoted(none)) -a \(command.name) -d \(quoted(command.summary))")
    }
    for command in Command.all {
      let here = quoted("__fish_seen_subcommand_from \(command.name)")
      let topics = topics(command)
      if !topics.isEmpty {
        lines.append("complete -c vitc -f -n \(here) -a \(quoted(topics.joined(separator: " ")))")
      }
      for option in command.allOptions {
        // Of one dash and several letters: what fish calls an old option.
        let name =
          option.name.hasPrefix("--")
          ? "-l \(option.name.dropFirst(2))"
          : option.name.count == 2 ? "-s \(option.name.dropFirst())" : "-o \(option.name.dropFirst())"
        let value = option.value == nil ? "" : " -r"
        lines.append("complete -c vitc -n \(here) \(name)\(value) -d \(quoted(option.summary))")
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }
}

extension Command {
  /// `vitc completions`.
  static let completions = Command(
    "completions", "prints what lets a shell complete vitc's words",
    operands: [("SHELL", Completions.Shell.allCases.map(\.rawValue).joined(separator: ", "))],
    notes: [
      "'source <(vitc completions bash)' does it for a bash that runs; tools/install puts the scripts where shells look for them."
    ]
  ) { arguments, terminal in
    let word = arguments.operands[0]
    guard let shell = Completions.Shell(rawValue: word) else {
      throw Arguments.unknown(
        word, among: Completions.Shell.allCases.map(\.rawValue), what: "shell", help: nil)
    }
    terminal.write(Completions.script(for: shell))
    return .done
  }
}
