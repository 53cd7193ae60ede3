internal import Glibc
internal import VitFormats
internal import VitIR

/// Which file a path leads to: two paths to one file have the same identity, whatever their spelling, through links of either
/// kind.
public struct FileIdentity: Hashable, Sendable {
  private enum Place: Hashable {
    case existing(device: UInt64, inode: UInt64)
    /// A file that is not there yet, in a folder that is or is not.
    case planned(device: UInt64, inode: UInt64, name: String)
  }

  private let place: Place
  /// Whether it is a folder.
  public let isFolder: Bool

  /// The identity of a regular file, of a folder, or of a file that is not there yet; `nil` for a device or a pipe.
  public init?(_ path: String) {
    var status = stat()
    if FileName.withBytes(of: path, { stat($0, &status) }) == 0 {
      let kind = status.st_mode & S_IFMT
      guard kind == S_IFREG || kind == S_IFDIR else { return nil }
      isFolder = kind == S_IFDIR
      place = .existing(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
      return
    }
    let target = AtomicFile.target(of: path)
    let (folder, name) = FileIdentity.cut(target)
    isFolder = false
    place =
      FileName.withBytes(of: folder) { stat($0, &status) } == 0
      ? .planned(device: UInt64(status.st_dev), inode: UInt64(status.st_ino), name: name)
      : .planned(device: 0, inode: 0, name: target)
  }

  /// Whether nothing is at `path`.
  public static func isMissing(_ path: String) -> Bool {
    FileName.withBytes(of: path) { access($0, F_OK) } != 0
  }

  /// The identity of the folder that holds, or will hold, the file at `path`.
  public static func folder(of path: String) -> FileIdentity? {
    FileIdentity(cut(AtomicFile.target(of: path)).folder)
  }

  private static func cut(_ path: String) -> (folder: String, name: String) {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
    let folder = String(path[..<slash])
    return (folder.isEmpty ? "/" : folder, String(path[path.utf8.index(after: slash)...]))
  }
}
