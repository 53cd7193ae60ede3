internal import VitIR
internal import VitOps
internal import VitPasses

/// What a kind of mixer is and what it can be asked for, as its own definition says.
public struct MixerGuide: Sendable {
  /// Its name.
  public let name: String
  /// One line of what it is.
  public let summary: String
  /// Its inner width as a fraction of the model's, where nothing else is asked for; `nil` where it has none.
  public let width: Double?
  /// Other inner widths, each with the option that it goes with.
  public let otherWidths: [(option: String, width: Double)]
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
  public static func all() throws -> [MixerGuide] { try Mixers.all.map(MixerGuide.init) }

  private init(_ kind: MixerKind) throws {
    (name, summary) = (kind.name, kind.summary)
    let entries = try kind.optionEntries()
    options = entries.map { entry in
      // Words stand without quotes in a pipeline.
      Option(
        name: entry.name, fallback: (entry.fallback ?? "none").filter { $0 != "\"" }, accepted: entry.kind)
    }
    let width = try kind.defaultWidth()
    self.width = try MixerGuide.hasWidth(kind) ? width : nil
    otherWidths = entries.flatMap { entry in
      entry.kind.matches(of: /'([^']*)'/).map { String($0.1) }.compactMap { word in
        // A word may go with other options only.
        guard let other = try? kind.defaultWidth(Attributes([(entry.name, .string(word))])), other != width
        else { return nil }
        return (option: "\(entry.name)=\(word)", width: other)
      }
    }
  }

  /// Whether an inner width changes anything.
  private static func hasWidth(_ kind: MixerKind) throws -> Bool {
    let order = try ScanOrder(.forward, grid: ScanOrder.Grid(rows: 2, columns: 2), prefix: 1)
    let shapes = try [8, 16].map { width in
      let layout = try MixerLayout(dim: 16, outputDim: 16, width: width, heads: 2, order: order)
      return try kind.make(layout).parameters(layout).map(\.shape)
    }
    return shapes[0] != shapes[1]
  }
}

/// The kinds of mixers.
public enum MixerKinds {
  /// Their names, sorted.
  public static var names: [String] { Mixers.all.map(\.name) }

  /// Their names in a sentence.
  public static var listing: String {
    names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
  }
}
