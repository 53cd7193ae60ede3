internal import VitIR
internal import VitOps

/// A kind of mixer with its own options, as it is written: `ssd{state=64}`.
struct MixerRequest {
  /// The kind.
  let kind: MixerKind
  /// All of its options.
  private let options: Attributes

  /// Reads a request; throws a usage error for a kind or an option that there is not.
  init(_ text: String) throws(VitError) {
    let written = try NestedOption(text)
    kind = try Mixers.named(written.name)
    options = try kind.options(written.attributes)
  }

  /// The inner width as a fraction of the model's, where the user asks for none.
  var defaultWidth: Double {
    get throws(VitError) { try kind.defaultWidth(options) }
  }

  /// Whether the directions of its scans share the heads.
  var splitsHeads: Bool {
    get throws(VitError) { try kind.splitsHeads(options) }
  }

  /// A mixer for a layout; throws a usage error where the options do not go with it.
  func make(_ layout: MixerLayout) throws(VitError) -> any Mixer { try kind.make(layout, options) }

  /// The request, every option written out.
  var text: String { text(with: Attributes()) }

  /// The same with what was decided beside its own options.
  func text(with more: Attributes) -> String { NestedOption(kind.name, options.merging(more)).description }
}
