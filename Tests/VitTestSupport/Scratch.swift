internal import FoundationEssentials

/// A folder of its own for a test, removed with what is in it when it is let go.
public final class Scratch {
  /// The folder.
  public let path: String

  /// A new empty folder.
  public init() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("vitc-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    path = folder.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of `name` in the folder.
  public func file(_ name: String) -> String { path + "/" + name }

  /// Writes a file, and the folders on the way to it.
  @discardableResult
  public func write(_ bytes: [UInt8], to name: String) throws -> String {
    let target = URL(fileURLWithPath: file(name))
    try FileManager.default.createDirectory(
      at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: target)
    return file(name)
  }

  /// Makes a symbolic link.
  public func link(_ name: String, to target: String) throws {
    try FileManager.default.createSymbolicLink(atPath: file(name), withDestinationPath: target)
  }

  /// The names in the folder, sorted.
  public var names: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
  }
}

/// Files that are committed for tests, under `golden/`.
public enum Fixture {
  /// The path of `golden/NAME`.
  public static func path(_ name: String, here: String = #filePath) -> String {
    let root = here.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
    return root.joined(separator: "/") + "/golden/" + name
  }

  /// The bytes of `golden/NAME`.
  public static func bytes(_ name: String) throws -> [UInt8] {
    try [UInt8](Data(contentsOf: URL(fileURLWithPath: path(name))))
  }
}
