public import VitIR

/// What an `lstm` can be asked for.
public struct LSTMOptions: MixerOptions {
  /// The forms there are.
  public enum Form: String, CaseIterable, Sendable {
    /// One block of gates on the tokens themselves, each head in one direction: smaller than attention.
    case narrow
    /// A projection, each head in every direction at its full width, and a merge.
    case full
  }

  /// Which form.
  public var form: Form

  /// Takes `form` (narrow).
  public init(_ reader: inout AttributeReader) throws(VitError) {
    form = try reader.choice("form", default: Form.narrow)
  }

  /// The form.
  public var attributes: Attributes { Attributes([("form", .string(form.rawValue))]) }

  /// That of the form.
  public var defaultWidth: Double? { form == .full ? LSTMFull.defaultWidth : LSTM.defaultWidth }

  /// The narrow form's directions share the heads.
  public var splitsHeads: Bool { form == .narrow }

  /// The mixer for a layout.
  func make(_ layout: MixerLayout) -> any Mixer { form == .full ? LSTMFull(layout) : LSTM(layout) }
}
