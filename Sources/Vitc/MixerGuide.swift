internal import VitIR
internal import VitOps
internal import VitPasses

/// What a kind of mixer is and what it can be asked for, as its own definition says.
public struct MixerGuide: Sendable {
  /// Its name.
  public let name: String
  /// One line of what it is.
  public let summary: String
  /// Its inner width as a fraction of the model's, where nothing else is asked for.
  public let width: Double
  /// Its own options.
  public let options: [Option]

  /// An option, as it is written in a pipeline.
  public struct Option: Sendable {
    /// Its name.
    public let name: String
    /// Its value where nothing is asked for.
    public let fallback: String
    /// What values it takes.
    public let accepted: String
  }

  /// All kinds, sorted by name. Throws where an option has no default, which would be an error of ours.
  public static func all() throws -> [MixerGuide] {
    var guides: [MixerGuide] = []
    for kind in Mixers.all {
      guides.append(
        MixerGuide(
          name: kind.name, summary: kind.summary, width: try kind.defaultWidth(),
          options: try kind.optionEntries().map { entry in
            // Words stand without quotes there.
            Option(
              name: entry.name, fallback: (entry.fallback ?? "none").filter { $0 != "\"" },
              accepted: entry.kind)
          }))
    }
    return guides
  }
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
