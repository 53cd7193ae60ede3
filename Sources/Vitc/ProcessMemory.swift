public import VitIR
internal import VitSystem

/// The memory that models, sessions and compiles take: together, for it is the process that has a limit.
public enum ProcessMemory {
  /// Limits it to `bytes`, where the machine, the control groups and the limit on the address space would allow more.
  ///
  /// What does not fit is an error of the kind `environment` that says how much it needs and how much there is.
  public static func setLimit(_ bytes: Int) { SystemMemory.setLimit(bytes) }

  /// Throws where the address space is so small that nothing can be done in it.
  public static func check() throws(VitError) {
    do { try SystemMemory.checkReserve() } catch { throw VitError(error, for: "vitc") }
  }
}
