public import VitIR
internal import VitRuntime

/// The form of a state space mixer (Mixers.md §2.4): what three kinds of mixers differ in.
public struct SSDForm: Hashable, Sendable {
  /// The kinds that have defaults of their own.
  public enum Kind: String, CaseIterable, Sendable {
    /// A short convolution and nothing else: what can start as the attention that it replaces.
    case ssd
    /// Mamba-2 (Dao and Gu, arXiv 2405.21060) in both directions.
    case mamba
    /// A retentive network (Sun et al., arXiv 2307.08621) with decays that depend on the input.
    case retention
  }

  /// What is done to values, keys and queries after the convolution.
  public enum Activation: String, CaseIterable, Sendable { case none, silu }
  /// What a rate decides: the decay alone, or also how strongly a value is written.
  public enum Write: String, CaseIterable, Sendable { case one, delta }
  /// What is divided by the root of its mean square: nothing, each head, or all channels after the gate.
  public enum Norm: String, CaseIterable, Sendable { case none, head, all }
  /// Whether the directions share the channels, or each has all of them and a merge of each head's follows.
  public enum Directions: String, CaseIterable, Sendable { case split, full }

  /// The kind.
  public let kind: Kind
  /// Channels of a key and a query; where it is `nil`, as many as the kind has.
  public var state: Int?
  /// Groups of heads that share keys and queries; where it is `nil`, as many as the kind has.
  public var groups: Int?
  /// Taps of the convolution; 0 for none.
  public var taps: Int
  /// What follows it.
  public var activation: Activation
  /// What a rate decides.
  public var write: Write
  /// What is normalised.
  public var norm: Norm
  /// Whether there is a gate.
  public var isGated: Bool
  /// Whether a value is added to the result of its own step.
  public var hasSkip: Bool
  /// How directions share the channels.
  public var directions: Directions

  /// The defaults of a kind.
  public init(_ kind: Kind) {
    self.kind = kind
    switch kind {
    case .ssd:
      (taps, activation, write, norm) = (4, .none, .one, .none)
      (isGated, hasSkip, directions) = (false, true, .split)
    case .mamba:
      (taps, activation, write, norm) = (4, .silu, .delta, .all)
      (isGated, hasSkip, directions) = (true, true, .full)
    case .retention:
      (taps, activation, write, norm) = (0, .none, .one, .head)
      (isGated, hasSkip, directions) = (false, false, .split)
    }
  }

  /// Takes `state`, `groups`, `conv`, `act`, `write`, `norm`, `gate`, `skip` and `form`, each with the kind's default.
  public init(_ reader: inout AttributeReader, _ kind: Kind) throws(VitError) {
    let fallback = SSDForm(kind)
    self.kind = kind
    state = try reader.optionalInt("state")
    groups = try reader.optionalInt("groups")
    taps = try reader.int("conv", default: fallback.taps)
    activation = try reader.choice("act", default: fallback.activation)
    write = try reader.choice("write", default: fallback.write)
    norm = try reader.choice("norm", default: fallback.norm)
    isGated = try reader.bool("gate", default: fallback.isGated)
    hasSkip = try reader.bool("skip", default: fallback.hasSkip)
    directions = try reader.choice("form", default: fallback.directions)
    guard (0...CausalShape.maximumTaps).contains(taps) else {
      throw VitError("'conv' is \(taps), expected 0 to \(CausalShape.maximumTaps) taps")
    }
    guard state.map({ (1...SSDForm.largestState).contains($0) }) ?? true else {
      throw VitError("'state' is \(state ?? 0), expected 1 to \(SSDForm.largestState) channels")
    }
    guard groups.map({ (1...ScanOrder.maximumTokens).contains($0) }) ?? true else {
      throw VitError("'groups' is \(groups ?? 0), expected at least one")
    }
  }

  /// The most channels of a key.
  static let largestState = 1 << 12

  /// What `init` takes; numbers that are as the kind has them are left out.
  public var attributes: Attributes {
    var result = Attributes([
      ("conv", .int(taps)), ("act", .string(activation.rawValue)), ("write", .string(write.rawValue)),
      ("norm", .string(norm.rawValue)), ("gate", .bool(isGated)), ("skip", .bool(hasSkip)),
      ("form", .string(directions.rawValue)),
    ])
    result["state"] = state.map(Attribute.int)
    result["groups"] = groups.map(Attribute.int)
    return result
  }

  /// The form with the kind's numbers for a layout: keys half as wide as a head's values, as wide, or 256 channels; a
  /// group for each head, or one for each direction.
  func resolved(for layout: MixerLayout) -> SSDForm {
    var form = self
    form.state =
      state
      ?? {
        switch kind {
        case .ssd: max(1, layout.headWidth / 2)
        case .mamba: 256
        case .retention: layout.headWidth
        }
      }()
    form.groups =
      groups ?? (kind == .mamba ? (directions == .full ? 1 : layout.order.directionCount) : layout.heads)
    return form
  }

  /// Throws unless the groups divide heads and directions.
  func check(heads: Int, directions count: Int, kind failure: FailureKind) throws(VitError) {
    let groups = groups ?? heads
    guard heads % groups == 0 else {
      throw VitError(
        "groups=\(groups) does not divide \(heads) heads", kind: failure, code: "mixer-groups",
        help: "use a divisor of the heads")
    }
    guard directions == .full || groups % count == 0 else {
      throw VitError(
        "groups=\(groups) cannot be shared evenly by \(count) directions that split the heads", kind: failure,
        code: "mixer-groups", help: "use a multiple of \(count) groups, or form=full")
    }
  }
}

/// A kind of state space mixer, as a type for the options of it.
public protocol SSDPreset: Hashable, Sendable {
  /// The kind whose defaults they have.
  static var kind: SSDForm.Kind { get }
}

/// The options of a kind of state space mixer.
public struct SSDOptions<Preset: SSDPreset>: MixerOptions {
  /// The form.
  public let form: SSDForm

  /// Takes the options of the form.
  public init(_ reader: inout AttributeReader) throws(VitError) { form = try SSDForm(&reader, Preset.kind) }

  /// All options.
  public var attributes: Attributes { form.attributes }

  /// Unless every direction has all of them.
  public var splitsHeads: Bool { form.directions == .split }
}

extension SSD {
  enum Plain: SSDPreset { static let kind = SSDForm.Kind.ssd }
  enum Mamba: SSDPreset { static let kind = SSDForm.Kind.mamba }
  enum Retention: SSDPreset { static let kind = SSDForm.Kind.retention }

  /// `ssd`.
  static let plain = make("Linear attention that decays along a scan, behind a short convolution", Plain.self)
  /// `mamba`.
  static let mamba = make("Mamba-2 in every direction, merged head by head", Mamba.self)
  /// `retention`.
  static let retention = make(
    "Linear attention that decays along a scan, normalised head by head", Retention.self)

  private static func make<Preset: SSDPreset>(_ summary: String, _: Preset.Type) -> MixerKind {
    MixerKind(Preset.kind.rawValue, summary, options: SSDOptions<Preset>.self) {
      layout, options throws(VitError) in
      try SSD(layout, options.form)
    }
  }
}
