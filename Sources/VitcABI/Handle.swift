internal import VitIR

/// An object that C holds by an opaque pointer: retained when it is handed over, released when it is freed.
class Handle {
  /// The pointer for C, which owns a reference behind it.
  final func handedOver() -> OpaquePointer { OpaquePointer(Unmanaged.passRetained(self).toOpaque()) }

  /// The object behind a pointer that came from `handedOver` of the same class.
  static func at(_ pointer: OpaquePointer) -> Self {
    Unmanaged<Self>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
  }

  /// Gives back what `handedOver` retained.
  static func free(_ pointer: OpaquePointer?) {
    guard let pointer else { return }
    Unmanaged<Self>.fromOpaque(UnsafeRawPointer(pointer)).release()
  }
}

/// A copy of a text that C can read, for as long as it is held.
final class CText: @unchecked Sendable {
  /// The bytes with a 0 behind them, which nobody changes.
  let pointer: UnsafePointer<CChar>
  private let buffer: UnsafeMutableBufferPointer<CChar>

  convenience init(_ text: String) { self.init(Array(text.utf8CString)) }

  /// The name of a file, as the system has it.
  convenience init(name: String) {
    self.init(
      FileName.withBytes(of: name) { start in
        var count = 0
        while start[count] != 0 { count += 1 }
        return Array(UnsafeBufferPointer(start: start, count: count + 1))
      })
  }

  private init(_ bytes: [CChar]) {
    buffer = .allocate(capacity: bytes.count)
    _ = buffer.initialize(from: bytes)
    pointer = UnsafePointer(buffer.baseAddress ?? CText.empty)
  }

  deinit { buffer.deallocate() }

  /// Never taken: a buffer has room for the 0 at least.
  private static var empty: UnsafeMutablePointer<CChar> { .allocate(capacity: 1) }
}
