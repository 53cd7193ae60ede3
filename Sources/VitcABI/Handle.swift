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

  convenience init(_ text: String) { self.init(Array(text.utf8CString)) }

  /// The name of a file, as the system has it.
  convenience init(name: String) {
    self.init(FileName.bytes(of: name).map(CChar.init(bitPattern:)) + [0])
  }

  private init(_ bytes: [CChar]) {
    let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
    for (place, byte) in bytes.enumerated() { (copy + place).initialize(to: byte) }
    pointer = UnsafePointer(copy)
  }

  deinit { pointer.deallocate() }
}
