public import VitPasses

/// Who hears what a command says, in place of the standard streams.
public struct Listener: Sendable {
  /// Hears messages and how far the work is, and is asked whether to stop.
  public var progress: Progress
  /// Takes results, as bytes of UTF-8 text: piece by piece, in order.
  public var output: @Sendable ([UInt8]) -> Void

  /// A listener; without closures one that hears nothing.
  public init(
    progress: Progress = Progress(), output: @escaping @Sendable ([UInt8]) -> Void = { _ in }
  ) {
    self.progress = progress
    self.output = output
  }
}
