internal import VitIR

/// Calls `read` with every proper prefix of `bytes` and with each byte changed in four ways, `step` bytes
/// apart.
///
/// Returns what went wrong: every error that is no `VitError`, with the damage that led to it. A trap ends
/// the test by itself.
public func damaged(_ bytes: [UInt8], step: Int = 1, _ read: ([UInt8]) throws -> Void) -> [String] {
  var failures: [String] = []
  func attempt(_ bytes: [UInt8], _ what: String) {
    do { try read(bytes) } catch {
      if !(error is VitError) { failures.append("\(what): \(error)") }
    }
  }
  for length in stride(from: 0, to: bytes.count, by: step) {
    attempt(Array(bytes[..<length]), "cut at \(length)")
  }
  for index in stride(from: 0, to: bytes.count, by: step) {
    for mask: UInt8 in [0xff, 0x01, 0x80, 0x10] {
      var copy = bytes
      copy[index] ^= mask
      attempt(copy, "byte \(index) changed by \(mask)")
    }
  }
  return failures
}
