public import VitIR
internal import VitSystem

/// One block of memory, aligned to 64 bytes and zeroed, given back to the system when the arena goes. What is never written
/// takes no memory.
public final class Arena: Sendable {
  private let memory: Pages

  /// Alignment of everything that an arena hands out.
  public static let alignment = 64

  /// An arena of `byteCount` bytes (at least one alignment unit) for `what`. Throws where they do not fit.
  public init(byteCount: Int, for what: String) throws(VitError) {
    do { memory = try Pages(byteCount: max(byteCount, Arena.alignment)) } catch {
      throw VitError(error, for: what)
    }
  }

  /// The bytes in it.
  public var byteCount: Int { memory.buffer.count }

  /// The tensor of `type` at `offset`.
  public func view(_ type: TensorType, at offset: Int) -> View {
    precondition(offset >= 0 && offset + type.count * type.element.size <= byteCount)
    return View(base: memory.base + offset, element: type.element, shape: type.extents)
  }

  /// A view of `type` that nobody may read: what stands for a tensor of which only the shape is wanted.
  func placeholder(_ type: TensorType) -> View {
    View(base: memory.base, element: type.element, shape: type.extents)
  }
}

/// Places blocks in an address range so that blocks which live at the same time do not overlap: best fit over
/// a list of free ranges, which is what grows the range least in the order in which a graph runs.
package struct ArenaLayout {
  private var free: [(offset: Int, size: Int)] = []
  /// The size of the range so far.
  package private(set) var byteCount = 0

  /// An empty range.
  package init() {}

  /// Bytes rounded up to the alignment; zero-sized blocks take one unit, so that bases differ.
  package static func rounded(_ bytes: Int) -> Int {
    (max(bytes, 1) + Arena.alignment - 1) / Arena.alignment * Arena.alignment
  }

  /// A block of at least `bytes`; its offset.
  package mutating func allocate(_ bytes: Int) -> Int {
    let size = ArenaLayout.rounded(bytes)
    var best: Int?
    for (index, range) in free.enumerated() where range.size >= size {
      if let current = best, free[current].size <= range.size { continue }
      best = index
    }
    if let index = best {
      let offset = free[index].offset
      if free[index].size == size {
        free.remove(at: index)
      } else {
        free[index] = (offset + size, free[index].size - size)
      }
      return offset
    }
    // Grow, taking in a free range at the end.
    var offset = byteCount
    if let last = free.last, last.offset + last.size == byteCount {
      offset = last.offset
      free.removeLast()
    }
    byteCount = offset + size
    return offset
  }

  /// Gives a block of `bytes` at `offset` back.
  package mutating func release(_ bytes: Int, at offset: Int) {
    var size = ArenaLayout.rounded(bytes)
    var offset = offset
    var index = free.firstIndex { $0.offset > offset } ?? free.count
    if index < free.count, offset + size == free[index].offset {
      size += free[index].size
      free.remove(at: index)
    }
    if index > 0, free[index - 1].offset + free[index - 1].size == offset {
      offset = free[index - 1].offset
      size += free[index - 1].size
      index -= 1
      free.remove(at: index)
    }
    free.insert((offset, size), at: index)
  }
}
