import Foundation
import Testing
import VitTestSupport

@Suite("completions and pages of the manual")
struct ShellTests {
  /// The commands that the overview lists, and the options that each says it has.
  private static let commands: [(name: String, options: [String])] = {
    let overview = (try? Tool.run("help").output) ?? ""
    return overview.matches(of: /(?m)^  ([a-z]+) +\S/).map { String($0.1) }.filter { $0 != "vitc" }.map {
      name in
      let text = (try? Tool.run("help", name).output) ?? ""
      return (name, text.matches(of: /(?m)^  (-{1,2}[A-Za-z-]+)/).map { String($0.1) })
    }
  }()

  /// Runs a program that may be missing; `nil` where it is.
  private func run(_ program: String, _ words: [String], input: String? = nil) throws -> String? {
    let places = ["/usr/bin/", "/bin/", "/usr/local/bin/"].map { $0 + program }
    guard let path = places.first(where: FileManager.default.isExecutableFile) else { return nil }
    let scratch = try Scratch()
    let (process, output) = (Process(), Pipe())
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = words
    (process.standardOutput, process.standardError) = (output, output)
    process.standardInput = FileHandle.nullDevice
    if let input {
      let file = try scratch.write(Array(input.utf8), to: "input")
      process.standardInput = try FileHandle(forReadingFrom: URL(fileURLWithPath: file))
    }
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(program): \(text)")
    return text
  }

  @Test("every command and each of its options is in every script", arguments: ["bash", "zsh", "fish"])
  func complete(shell: String) throws {
    let script = try Tool.run("completions", shell)
    #expect(script.status == 0 && Self.commands.count > 12)
    for (name, options) in Self.commands {
      #expect(script.output.contains(name) && !options.isEmpty)
      for option in options {
        let written = shell == "fish" ? option.drop { $0 == "-" } : Substring(option)
        #expect(script.output.contains(written), "\(shell): \(name) \(option)")
      }
    }
    let scratch = try Scratch()
    let file = try scratch.write(Array(script.output.utf8), to: "script")
    if try run(shell, ["-n", file]) == nil { print("no '\(shell)' here: its script is not read by one") }
    #expect(try Tool.run("completions", "csh").status == 2)
  }

  @Test("bash completes commands, options, topics and files")
  func bash() throws {
    let scratch = try Scratch()
    let file = try scratch.write(Array(try Tool.run("completions", "bash").output.utf8), to: "script")
    try scratch.write([], to: "a teacher.onnx")
    func completed(_ words: String...) throws -> [String]? {
      let set = words.map { "'\($0)'" }.joined(separator: " ")
      let text =
        "source '\(file)'; COMP_WORDS=(vitc \(set)); COMP_CWORD=\(words.count); _vitc; printf '%s\\n' \"${COMPREPLY[@]}\""
      return try run("bash", ["-c", text])?.split(separator: "\n").map(String.init)
    }
    guard let commands = try completed("comp") else { return print("no 'bash' here") }
    #expect(commands == ["compile", "completions"])
    #expect(try completed("compile", "--min-") == ["--min-agreement"])
    #expect(try completed("completions", "f") == ["fish"])
    #expect(try completed("compile", scratch.file("a t")) == [scratch.file("a teacher.onnx")])
  }

  @Test("there is a page for every command, which names its options, and which man formats without a warning")
  func manual() throws {
    let overview = try Tool.run("manual").output
    for (name, options) in Self.commands {
      let page = try Tool.run("manual", name)
      #expect(page.status == 0 && overview.contains(".B vitc\\-\(name)(1)\n"))
      for option in options {
        #expect(page.output.contains(".B \(option.replacing("-", with: "\\-"))"), "\(name) \(option)")
      }
      #expect(page.output.utf8.allSatisfy { $0 < 128 })
      if let warnings = try run("groff", ["-ww", "-man", "-Tascii", "-z"], input: page.output) {
        #expect(warnings.isEmpty, "\(name): \(warnings)")
      }
    }
    #expect(try Tool.run("manual", "compil").status == 2)
  }
}
