internal import Glibc
internal import VitIR

extension FileName {
  /// The path with every link followed, or `nil` where there is no such file.
  static func real(_ path: String) -> String? {
    guard let resolved = withBytes(of: path, { realpath($0, nil) }) else { return nil }
    defer { free(resolved) }
    return text(
      of: UnsafeBufferPointer(start: resolved, count: strlen(resolved)).map(UInt8.init(bitPattern:)))
  }
}
