import Foundation
import Testing
import VitTestSupport

/// The built executable.
struct Tool {
  /// What a run left.
  struct Result {
    let status: Int32
    let output: String
    let errors: String

    /// The result as a JSON object.
    var json: [String: Any] {
      get throws {
        let value = try JSONSerialization.jsonObject(with: Data(output.utf8))
        return try #require(value as? [String: Any])
      }
    }
  }

  /// Beside the test executable.
  static let path: String = {
    let test = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
    return test.deletingLastPathComponent().appendingPathComponent("vitc").path
  }()

  /// The bundled teacher.
  static let teacher = Fixture.path("teacher/fashion-vit.onnx")

  /// Starts vitc with these words, its output going to files in `scratch`.
  static func start(
    _ words: [String], in folder: String? = nil, environment: [String: String] = [:],
    executable: String = path, scratch: Scratch
  ) throws -> (process: Process, finish: () throws -> Result) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = words
    // After a trap a backtrace process would outlive vitc and hold its files.
    process.environment = ProcessInfo.processInfo.environment
      .merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }.merging(environment) { $1 }
    if let folder { process.currentDirectoryURL = URL(fileURLWithPath: folder) }
    let number = UUID().uuidString
    let files = ["\(number).out", "\(number).err"].map(scratch.file)
    for file in files { try Data().write(to: URL(fileURLWithPath: file)) }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: files[0]))
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: files[1]))
    try process.run()
    return (
      process,
      {
        process.waitUntilExit()
        // A signal counts as shells count it.
        let status = process.terminationStatus + (process.terminationReason == .uncaughtSignal ? 128 : 0)
        let texts = try files.map {
          String(decoding: try Data(contentsOf: URL(fileURLWithPath: $0)), as: UTF8.self)
        }
        for file in files { try FileManager.default.removeItem(atPath: file) }
        return Result(status: status, output: texts[0], errors: texts[1])
      }
    )
  }

  /// Runs vitc to its end.
  static func run(
    _ words: String..., in folder: String? = nil, environment: [String: String] = [:]
  ) throws -> Result { try run(words, in: folder, environment: environment) }

  /// Runs vitc to its end.
  static func run(
    _ words: [String], in folder: String? = nil, environment: [String: String] = [:]
  ) throws -> Result {
    let scratch = try Scratch()
    return try start(words, in: folder, environment: environment, scratch: scratch).finish()
  }
}
