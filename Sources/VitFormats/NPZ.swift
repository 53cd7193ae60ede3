public import VitIR

/// NumPy's `.npz`: a zip archive of `.npy` arrays, stored or deflated.
public struct NPZ: Sendable {
  /// The names of the arrays, in the order of the archive, without `.npy`.
  public let names: [String]
  private let archive: ZipArchive
  private let path: String

  /// Opens the archive at `path` and reads its directory.
  public init(_ path: String) throws {
    let archive = try located(path) { try ZipArchive(try MappedFile(path: path)) }
    self.archive = archive
    self.path = path
    names = archive.entries.map { entry in
      entry.name.hasSuffix(".npy") ? String(entry.name.dropLast(4)) : entry.name
    }
  }

  /// The array called `name`, which is one of `names`; stored elements stay in the file, deflated ones are unpacked.
  public func tensor(_ name: String) throws -> Tensor {
    guard let index = names.firstIndex(of: name) else {
      throw VitError(
        "expected an array named '\(name)', found \(names.joined(separator: ", "))", code: "npz-name",
        location: Location(file: path))
    }
    let entry = archive.entries[index]
    do {
      return try located(path) {
        // Before anything is unpacked on the word of the archive.
        _ = try NPY.layout(head: try archive.head(of: entry, NPY.headSize), byteCount: entry.size)
        return try NPY.decode(try archive.storage(entry))
      }
    } catch var error as VitError {
      error.diagnostic.message = "array '\(name)': " + error.diagnostic.message
      throw error
    }
  }
}
