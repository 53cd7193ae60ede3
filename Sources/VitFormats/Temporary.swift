internal import Glibc
internal import Synchronization
internal import VitIR

/// The name of a file that is removed when it is let go, or when a signal ends the process.
final class Temporary: Sendable {
  /// The file's path.
  let name: String
  /// Whether it is still there under this name.
  private let isHere = Atomic<Bool>(true)
  /// Its place among `names`, where one was free.
  private let place: Int?

  /// Takes the file at `name` in charge.
  init(_ name: String) {
    self.name = name
    let copy = UInt(bitPattern: FileName.withBytes(of: name) { strdup($0) })
    place = Temporary.names.indices.first {
      Temporary.names[$0].address.compareExchange(expected: 0, desired: copy, ordering: .relaxed).exchanged
    }
    if place == nil { free(UnsafeMutableRawPointer(bitPattern: copy)) }
  }

  deinit {
    if isHere.load(ordering: .relaxed) { _ = FileName.withBytes(of: name) { unlink($0) } }
    forget()
  }

  /// Leaves the file to others: it has another name now.
  func forget() {
    isHere.store(false, ordering: .relaxed)
    guard let place else { return }
    // The text stays allocated: a handler may be reading it.
    Temporary.names[place].address.store(0, ordering: .relaxed)
  }

  /// A path for a signal handler, which may not allocate: the address of a C string, zero for none.
  private final class Name: Sendable { let address = Atomic<UInt>(0) }

  private static let names = (0..<16).map { _ in Name() }

  /// Removes the temporaries that there are. A signal handler may call it, after somebody else has.
  static func removeAll() {
    for entry in names {
      if let name = UnsafePointer<CChar>(bitPattern: entry.address.load(ordering: .relaxed)) { unlink(name) }
    }
  }
}
