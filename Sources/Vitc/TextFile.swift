internal import VitIR
internal import VitFormats
internal import Glibc

/// Small text files that go with a model.
public enum TextFile {
  /// The text of a file of at most a million bytes; bytes that are no UTF-8 as in names of files.
  public static func read(_ path: String) throws -> String {
    FileName.text(of: try MappedFile.contents(of: path, limit: 1 << 20))
  }

  /// Writes a file, which appears whole or not at all.
  public static func write(_ text: String, to path: String) throws {
    try AtomicFile.write(Array(text.utf8), to: path)
  }

  /// Does something, while which files of any kind that would be written with the bytes that they have stay as they are, their times, too.
  public static func keepingEqual<Result>(_ isKept: Bool, _ work: () throws -> Result) rethrows -> Result {
    try AtomicFile.$keepsEqual.withValue(isKept, operation: work)
  }

  /// The bytes of a file; `nil` for what is none, as a pipe.
  public static func byteCount(of path: String) -> Int? { try? MappedFile(path: path).count }

  /// Removes what is being written of any file, for the process is about to end. A signal handler may call it, after
  /// somebody else has once.
  public static func abandonAll() { AtomicFile.abandonAll() }
}

/// The convention of reproducible builds.
public enum SourceDate {
  /// Whether `SOURCE_DATE_EPOCH` is set: then no time enters an output.
  public static var isSet: Bool { getenv("SOURCE_DATE_EPOCH") != nil }
}
