internal import Glibc
internal import Synchronization

/// Memory that a process may still take, and what sets the limit.
public struct AvailableMemory: Hashable, Sendable {
  /// Bytes that are left.
  public let bytes: Int
  /// What sets the limit, as it is told to a user.
  public let limit: String

  package init(bytes: Int, limit: String) {
    self.bytes = bytes
    self.limit = limit
  }
}

/// Memory was asked for that does not fit.
public struct OutOfMemory: Error, Hashable, Sendable {
  /// The bytes that were asked for.
  public let needed: Int
  /// What there was.
  public let available: AvailableMemory

  /// A request that does not fit.
  public init(needed: Int, available: AvailableMemory) {
    self.needed = needed
    self.available = available
  }

  /// The numbers in a sentence's end: `512 MiB, but 100 MiB are left of …`.
  public var text: String {
    "\(OutOfMemory.mebibytes(needed)) MiB, but \(available.bytes >> 20) MiB are left of \(available.limit)"
  }

  private static func mebibytes(_ bytes: Int) -> Int { bytes >> 20 + (bytes & (1 << 20 - 1) == 0 ? 0 : 1) }
}

/// The memory of the process: the least of the machine's, its control groups', the limit on its address space, and one that
/// the user sets.
///
/// It is the process that has these limits: what one model takes of the machine's memory or of the address space, another
/// cannot have. So this is one for all models and sessions in it, and so is the limit that the user sets; it is no value that
/// each is given, for their sum is what has to fit. Counted are `Pages`; what is mapped from files can be given back.
public enum SystemMemory {
  private static let used = Atomic<Int>(0)
  private static let set = Atomic<Int>(.max)

  /// Address space that pages leave to everything small: objects, stacks, the buffers of libraries.
  public static let reserve = 64 << 20

  /// The bytes that `Pages` hold.
  public static var taken: Int { used.load(ordering: .relaxed) }

  /// Limits what `Pages` may hold in all.
  public static func setLimit(_ bytes: Int) { set.store(bytes, ordering: .relaxed) }

  /// What may still be taken.
  public static var available: AvailableMemory {
    let (limit, name) = SystemMemory.limit
    let left = AvailableMemory(bytes: max(0, limit - taken), limit: name)
    guard let space = addressSpace else { return left }
    let rest = max(0, space.left - reserve)
    return rest < left.bytes
      ? AvailableMemory(
        bytes: rest, limit: "the \(space.limit >> 20) MiB of address space that are allowed ('ulimit -v')")
      : left
  }

  /// Throws unless `bytes` more fit.
  public static func check(_ bytes: Int) throws(OutOfMemory) {
    let available = available
    guard bytes <= available.bytes else { throw OutOfMemory(needed: bytes, available: available) }
  }

  /// Throws where the address space that is left does not even hold the reserve.
  public static func checkReserve() throws(OutOfMemory) {
    guard let space = addressSpace else { return }
    guard space.left >= reserve else {
      throw OutOfMemory(
        needed: reserve,
        available: AvailableMemory(
          bytes: max(0, space.left),
          limit: "the \(space.limit >> 20) MiB of address space that are allowed ('ulimit -v')"))
    }
  }

  static func take(_ bytes: Int) throws(OutOfMemory) {
    try check(bytes)
    used.add(bytes, ordering: .relaxed)
  }

  static func give(_ bytes: Int) { used.subtract(bytes, ordering: .relaxed) }

  /// The least of the limits on memory, and its name.
  private static var limit: (bytes: Int, name: String) {
    let user = set.load(ordering: .relaxed)
    if user < fixed.bytes { return (user, "the \(user >> 20) MiB that '--memory-limit' allows") }
    return fixed
  }

  private static let fixed: (bytes: Int, name: String) = {
    let (physical, overflow) = sysconf(Int32(_SC_PHYS_PAGES)).multipliedReportingOverflow(
      by: sysconf(Int32(_SC_PAGESIZE)))
    let machine = overflow || physical <= 0 ? Int.max : physical
    if let group = ControlGroup.memory(), group < machine {
      return (group, "the \(group >> 20) MiB that the control group allows")
    }
    return (machine, "the machine's \(machine >> 20) MiB")
  }()

  /// The limit on the address space and how much of it is left, or `nil` where there is none.
  private static var addressSpace: (limit: Int, left: Int)? {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, limit.rlim_cur < UInt(Int.max),
      let pages = SystemText.read("/proc/self/statm")?.split(separator: " ").first.flatMap({ Int($0) })
    else { return nil }
    return (Int(limit.rlim_cur), Int(limit.rlim_cur) - pages * sysconf(Int32(_SC_PAGESIZE)))
  }
}
