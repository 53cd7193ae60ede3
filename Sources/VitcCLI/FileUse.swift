internal import VitIR
internal import Vitc

/// The files that a command reads and writes. No output may be an input, and no two outputs the same file.
///
/// A command says what it writes before it reads anything; whatever is read, by `Terminal.load` or `Arguments.samples`, is
/// compared with that before any work is done with it. Files are told by device and number, not by their names.
struct FileUse {
  /// What has been read, files and folders, each once, in order.
  private(set) var inputs: [String] = []
  private var seen: Set<String> = []
  private var read: [FileIdentity: String] = [:]
  private var written: [(path: String, role: String, identity: FileIdentity?)] = []

  /// The command writes the file at `path`, which the option `role` names. Throws a usage error where it is read, or written as
  /// something else, too. Devices and pipes may be written as often as one likes.
  mutating func writes(_ path: String, as role: String) throws(VitError) {
    let identity = FileIdentity(path)
    if let identity {
      if let input = read[identity] { throw FileUse.overwrites(role, path, input) }
      if let other = written.first(where: { $0.identity == identity }) {
        throw usage(
          "\(other.role) '\(other.path)' and \(role) '\(path)' are the same file", code: "output-twice",
          help: "name another file for one of them")
      }
    }
    written.append((path, role, identity))
  }

  /// The command reads the files and folders at `paths`. Throws a usage error where one is written.
  mutating func reads(_ paths: [String]) throws(VitError) {
    for path in paths where seen.insert(path).inserted {
      inputs.append(path)
      guard !written.isEmpty, let identity = FileIdentity(path) else { continue }
      read[identity] = read[identity] ?? path
      if let output = written.first(where: { $0.identity == identity }) {
        throw FileUse.overwrites(output.role, output.path, path)
      }
    }
  }

  /// The data that an option names, with the split cut off where that is no part of a path.
  mutating func readsData(_ text: String?) throws(VitError) {
    guard let text, text != "synthetic", !text.hasPrefix("synthetic:") else { return }
    var path = text
    for split in [":train", ":test"] where text.hasSuffix(split) && FileIdentity.isMissing(text) {
      path = String(text.dropLast(split.count))
    }
    try reads([path])
  }

  /// An output in the folder, where there is one.
  func output(in folder: String) -> String? {
    guard let identity = FileIdentity(folder) else { return nil }
    return written.first { $0.identity != nil && FileIdentity.folder(of: $0.path) == identity }?.path
  }

  private static func overwrites(_ role: String, _ output: String, _ input: String) -> VitError {
    usage(
      "\(role) '\(output)' would overwrite "
        + (input == output ? "what the command reads" : "'\(input)', which the command reads"),
      code: "output-is-input", help: "name another file")
  }
}
