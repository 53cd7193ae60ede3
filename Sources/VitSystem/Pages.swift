internal import Glibc

/// Zeroed memory of its own pages, which go back to the system with this object. A page that is never written takes none.
public final class Pages: @unchecked Sendable {
  // The range never changes; who may write where is its owner's business.
  /// The memory; never empty.
  public let buffer: UnsafeMutableRawBufferPointer
  /// Its first byte, at the start of a page.
  public let base: UnsafeMutableRawPointer

  /// Memory of `byteCount` bytes, or of one where that is 0. Throws where it does not fit into what the process may take.
  public init(byteCount: Int) throws(OutOfMemory) {
    let size = max(byteCount, 1)
    try SystemMemory.take(size)
    let pages = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let pages, pages != MAP_FAILED else {
      SystemMemory.give(size)
      throw OutOfMemory(needed: size, available: SystemMemory.available)
    }
    base = pages
    buffer = UnsafeMutableRawBufferPointer(start: pages, count: size)
  }

  deinit {
    munmap(base, buffer.count)
    SystemMemory.give(buffer.count)
  }
}
