public import VitIR
internal import VitOps
internal import VitPasses

/// Which vitc this is.
public enum Version {
  /// The version.
  public static let current = "0.1.0"
}

extension Registry {
  /// Every operation that vitc knows.
  public static var vitc: Registry { .standard }
}
