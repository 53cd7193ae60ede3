internal import Glibc
internal import VitIR

/// The files beside a model that hold tensors, mapped when first needed.
///
/// Only files within the model's folder are opened, links followed: a model may not make vitc read what lies elsewhere.
final class ExternalData {
  private let folder: String
  private let root: String?
  private var files: [String: MappedFile] = [:]
  /// The files used, in the order of first use, as paths beside the model's.
  private(set) var paths: [String] = []

  /// The files beside the model at `path`; none where it lies in memory.
  init(besideModel path: String?) {
    guard let path else {
      (folder, root) = ("", nil)
      return
    }
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    folder = slash.map { String(path[...$0]) } ?? ""
    root = FileName.real(folder.isEmpty ? "." : folder)
  }

  /// The `needed` bytes that the entries of a tensor's `external_data` describe.
  func storage(_ entries: [(key: String, value: String)], needed: Int) throws(VitError) -> any TensorStorage {
    var location: String?
    var (offset, length): (Int?, Int?) = (nil, nil)
    for (key, value) in entries {
      switch key {
      case "location": location = value
      case "offset": offset = try number(key, value)
      case "length": length = try number(key, value)
      default: break
      }
    }
    guard let location, !location.isEmpty else {
      throw VitError("external data without a location", code: "external-data")
    }
    if let length, length != needed {
      throw VitError(
        "external data in '\(location)' have \(length) bytes, but the shape needs \(needed)",
        code: "external-data")
    }
    let file = try file(location)
    let start = offset ?? 0
    guard start <= file.count, needed <= file.count - start else {
      throw VitError(
        "external data in '\(location)': expected \(needed) bytes from offset \(start), "
          + "found a file of \(file.count) bytes", code: "external-data")
    }
    return try file.storage(start..<start + needed)
  }

  private func number(_ key: String, _ text: String) throws(VitError) -> Int {
    guard let value = Int(text), value >= 0 else {
      throw VitError(
        "external data with the \(key) '\(text)', expected a number from 0", code: "external-data")
    }
    return value
  }

  private func file(_ location: String) throws(VitError) -> MappedFile {
    if let file = files[location] { return file }
    let help = "external data are read from the model's own folder only"
    let steps = location.split(separator: "/", omittingEmptySubsequences: false)
    guard !location.hasPrefix("/"), !steps.contains(".."), !location.utf8.contains(0) else {
      throw VitError(
        "external data at '\(location)', outside the model's folder", code: "external-data", help: help)
    }
    let path = folder + location
    guard let root else {
      throw VitError(
        "external data at '\(location)', and the model lies in memory, with no files beside it",
        code: "external-data", help: "open the model by its path, or save it as one file")
    }
    guard let real = FileName.real(path) else {
      let reason = String(cString: strerror(errno))
      throw VitError("external data file '\(location)' cannot be opened: \(reason)", code: "missing-file")
    }
    guard real.hasPrefix(root.hasSuffix("/") ? root : root + "/") else {
      throw VitError(
        "external data file '\(location)' is a symbolic link out of the model's folder",
        code: "external-data",
        help: help)
    }
    let file: MappedFile
    do { file = try MappedFile(path: real) } catch {
      throw VitError(
        "external data file '\(location)': \(error.diagnostic.message)", code: error.diagnostic.code)
    }
    files[location] = file
    paths.append(path)
    return file
  }
}
