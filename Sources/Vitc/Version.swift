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

/// The kinds of mixers.
public enum MixerKinds {
  /// Their names, sorted.
  public static var names: [String] { Mixers.all.map(\.name) }

  /// Their names in a sentence, with the default marked.
  public static var listing: String {
    let marked = names.map { $0 == CompilerOptions().mixer ? "\($0) (default)" : $0 }
    return marked.dropLast().joined(separator: ", ") + " or " + (marked.last ?? "")
  }
}
