public import VitIR

/// A mixer's own options, as in `swap{mixer=glr{…}}`.
public protocol MixerOptions: Hashable, Sendable {
  /// Takes the options; each has a default. Throws where a value is wrong.
  init(_ reader: inout AttributeReader) throws(VitError)
  /// All of them with their values: `init` on these gives the same options again.
  var attributes: Attributes { get }
  /// The inner width as a fraction of the teacher's, where the user asks for none; default: the kind's.
  var defaultWidth: Double? { get }
  /// Whether the directions of a scan share the heads, so that their number must be a multiple; default: they do.
  var splitsHeads: Bool { get }
}

extension MixerOptions {
  /// The kind's.
  public var defaultWidth: Double? { nil }
  /// They do.
  public var splitsHeads: Bool { true }
}

/// No options.
public struct NoOptions: MixerOptions {
  /// None.
  public init(_ reader: inout AttributeReader) throws(VitError) {}
  /// None.
  public var attributes: Attributes { Attributes() }
}

/// A kind of mixer that can be asked for.
public struct MixerKind: Sendable {
  /// The name: `glr`.
  public let name: String
  /// One line of what it is.
  public let summary: String
  /// Whether its closed form is all that it needs layer by layer: gradient steps follow for the whole only.
  public let isSolved: Bool
  private let width: Double
  private let read: @Sendable (Attributes) throws(VitError) -> any MixerOptions
  private let explain: @Sendable () throws(VitError) -> [OperationGuide.AttributeEntry]
  private let create: @Sendable (MixerLayout, Attributes) throws(VitError) -> any Mixer

  /// A kind of mixer, made of a layout and its own options.
  public init<Options: MixerOptions>(
    _ name: String, _ summary: String, width: Double = 1, isSolved: Bool = false, options: Options.Type,
    make: @escaping @Sendable (MixerLayout, Options) throws(VitError) -> any Mixer
  ) {
    self.name = name
    self.summary = summary
    self.isSolved = isSolved
    self.width = width
    @Sendable func read(_ given: Attributes) throws(VitError) -> Options {
      var reader = AttributeReader(given)
      do {
        let options = try Options(&reader)
        try reader.finish()
        return options
      } catch {
        throw VitError(
          "mixer \(name): " + error.diagnostic.message, kind: .usage, code: "option-value",
          help: error.diagnostic.help ?? MixerKind.listing(of: Options.self))
      }
    }
    self.read = read
    explain = { () throws(VitError) in
      try OperationGuide.attributes { reader throws(VitError) in _ = try Options(&reader) }
    }
    create = { layout, given throws(VitError) in try make(layout, read(given)) }
  }

  /// A kind of mixer without options.
  public init(
    _ name: String, _ summary: String, width: Double = 1, isSolved: Bool = false,
    make: @escaping @Sendable (MixerLayout) throws(VitError) -> any Mixer
  ) {
    self.init(name, summary, width: width, isSolved: isSolved, options: NoOptions.self) {
      layout, _ throws(VitError) in
      try make(layout)
    }
  }

  private static func listing<Options: MixerOptions>(of _: Options.Type) -> String {
    let entries = try? OperationGuide.attributes { reader throws(VitError) in _ = try Options(&reader) }
    let names = entries?.map { "'\($0.name)'" } ?? []
    return names.isEmpty ? "it has no options" : "its options are \(names.joined(separator: ", "))"
  }

  /// All options, those that are not `given` with their defaults; throws a usage error for one that there is not, or a
  /// wrong value.
  public func options(_ given: Attributes = Attributes()) throws(VitError) -> Attributes {
    try read(given).attributes
  }

  /// Its own options with their defaults and what they take.
  public func optionEntries() throws(VitError) -> [OperationGuide.AttributeEntry] { try explain() }

  /// The inner width as a fraction of the teacher's, where the user asks for none. Throws as `options` does.
  public func defaultWidth(_ options: Attributes = Attributes()) throws(VitError) -> Double {
    try read(options).defaultWidth ?? width
  }

  /// Whether the directions of its scans share the heads. Throws as `options` does.
  public func splitsHeads(_ options: Attributes = Attributes()) throws(VitError) -> Bool {
    try read(options).splitsHeads
  }

  /// A mixer of this kind; throws a usage error for wrong options, or where they do not go with the layout.
  public func make(_ layout: MixerLayout, _ options: Attributes = Attributes()) throws(VitError) -> any Mixer
  {
    try create(layout, options)
  }
}

/// The mixers there are.
public enum Mixers {
  /// The kinds, sorted by name.
  public static let all: [MixerKind] = [
    MixerKind("conv", ConvMixer.summary, isSolved: true, options: ConvMixer.Options.self) {
      layout, options throws(VitError) in
      try ConvMixer(layout, options)
    },
    MixerKind("glr", GLR.summary) { GLR($0) },
    MixerKind("lstm", LSTM.summary, options: LSTMOptions.self) { $1.make($0) },
    SSD.mamba,
    MixerKind("none", NoMixer.summary, isSolved: true) { _ in NoMixer() },
    MixerKind("pointwise", Pointwise.summary, isSolved: true) { _ in Pointwise() },
    SSD.retention,
    SSD.plain,
    MixerKind("static", StaticMixer.summary, isSolved: true, options: StaticMixer.Options.self) {
      layout, options throws(VitError) in
      try StaticMixer(layout, options)
    },
  ]

  /// The operations that they are made of.
  static let operations: [any Mixer.Type] = [
    ConvMixer.self, GLR.self, LSTM.self, LSTMFull.self, NoMixer.self, Pointwise.self, SSD.self,
    StaticMixer.self,
  ]

  /// The mixer of that kind; throws a usage error that lists them.
  public static func named(_ kind: String) throws(VitError) -> MixerKind {
    if let mixer = all.first(where: { $0.name == kind }) { return mixer }
    let kinds = all.map { "'\($0.name)'" }.joined(separator: ", ")
    throw VitError(
      "unknown mixer '\(kind)', expected one of \(kinds)", kind: .usage, code: "unknown-mixer",
      help: kind.meant(among: all.map(\.name)))
  }
}
