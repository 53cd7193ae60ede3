internal import VitFormats
internal import Glibc

/// Small text files that go with a model.
public enum TextFile {
  /// Writes a file, which appears whole or not at all.
  public static func write(_ text: String, to path: String) throws {
    try AtomicFile.write(Array(text.utf8), to: path)
  }

  /// The bytes of a file.
  public static func byteCount(of path: String) throws -> Int { try MappedFile(path: path).count }
}

/// The convention of reproducible builds.
public enum SourceDate {
  /// Whether `SOURCE_DATE_EPOCH` is set: then no time enters an output.
  public static var isSet: Bool { getenv("SOURCE_DATE_EPOCH") != nil }
}
