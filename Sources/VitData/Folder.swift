internal import Glibc
internal import VitFormats
package import VitIR

/// What lies in a folder, hidden things left out, sorted by the bytes of the names.
package struct Folder {
  let path: String
  /// The names of regular files.
  package private(set) var files: [String] = []
  /// The names of folders; links are followed.
  var folders: [String] = []

  /// What lies at `path`; throws where that is no folder, or cannot be read.
  package init(_ path: String) throws(VitError) {
    self.path = path
    guard let stream = FileName.withBytes(of: path, { opendir($0) }) else {
      let reason = String(cString: strerror(errno))
      throw VitError("cannot be opened: \(reason)", code: "unreadable-file", location: Location(file: path))
    }
    defer { closedir(stream) }
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        FileName.text(of: $0.prefix { $0 != 0 })
      }
      if name.hasPrefix(".") { continue }
      switch Folder.kind(path + "/" + name) {
      case .file: files.append(name)
      case .folder: folders.append(name)
      case nil: break
      }
    }
    files.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    folders.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  enum Kind { case file, folder }

  /// What `path` leads to; `nil` where there is nothing, or neither of the two.
  static func kind(_ path: String) -> Kind? {
    var status = stat()
    guard FileName.withBytes(of: path, { stat($0, &status) }) == 0 else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .folder
    default: return nil
    }
  }

  /// The path of `name`.
  func path(of name: String) -> String { path.hasSuffix("/") ? path + name : path + "/" + name }

  /// The paths of all files with an image's extension here and below, at most 16 folders deep.
  func images(depth: Int = 0) throws(VitError) -> [String] {
    var result = files.filter(Folder.isImage).map(path(of:))
    guard depth < 16 else { return result }
    for name in folders { result += try Folder(path(of: name)).images(depth: depth + 1) }
    return result
  }

  /// The paths of all images in what lies at `path`: those of a folder and of all below, sorted; else `path` itself.
  static func images(at path: String) throws(VitError) -> [String] {
    kind(path) == .folder ? try Folder(path).images() : [path]
  }

  /// The paths of this folder and of all below, as deep as `images` looks.
  func tree(depth: Int = 0) throws(VitError) -> [String] {
    var result = [path]
    guard depth < 16 else { return result }
    for name in folders { result += try Folder(self.path(of: name)).tree(depth: depth + 1) }
    return result
  }

  /// Whether a name ends as those of images do, of the formats that vitc reads and of others.
  static func isImage(_ name: String) -> Bool {
    guard let dot = name.lastIndex(of: ".") else { return false }
    return [
      "jpg", "jpeg", "jpe", "jfif", "png", "gif", "bmp", "webp", "tif", "tiff", "ppm", "pgm", "heic", "avif",
    ].contains(name[name.index(after: dot)...].lowercased())
  }
}
