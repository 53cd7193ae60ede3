public import CVitc
internal import Synchronization
internal import VitIR
internal import VitPasses
internal import Vitc
internal import VitcCLI

/// Callbacks of C, called one at a time; that they may be called from any thread is what `vitc.h` asks of them.
private final class Callbacks: @unchecked Sendable {
  private let own: vitc_callbacks
  private let turn = Mutex(())

  init(_ callbacks: UnsafePointer<vitc_callbacks>?) throws(VitError) {
    let given = try callbacks.map { callbacks throws(VitError) in
      try sized(callbacks, vitc_callbacks(), "callbacks")
    }
    own = given ?? vitc_callbacks()
  }

  var listener: Listener {
    Listener(
      progress: Progress(
        report: { diagnostic in
          guard let call = self.own.message else { return }
          self.turn.withLock { _ in
            diagnostic.severity.rawValue.withCString { severity in
              diagnostic.code.withCString { code in
                diagnostic.text.withCString { call(self.own.context, severity, code, $0) }
              }
            }
          }
        },
        advance: { phase, done, total, figure in
          guard let call = self.own.progress else { return }
          self.turn.withLock { _ in
            phase.withCString { phase in
              figure.withCString { call(self.own.context, phase, Int64(done), Int64(total), $0) }
            }
          }
        },
        isCancelled: {
          guard let call = self.own.cancelled else { return false }
          return self.turn.withLock { _ in call(self.own.context) != 0 }
        }),
      output: { bytes in
        guard let call = self.own.output else { return }
        self.turn.withLock { _ in
          bytes.withUnsafeBytes {
            call(self.own.context, $0.bindMemory(to: CChar.self).baseAddress, $0.count)
          }
        }
      })
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_command(
  _ words: UnsafePointer<UnsafePointer<CChar>?>!, _ count: Int, _ callbacks: UnsafePointer<vitc_callbacks>!,
  _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let words = try texts(words, count, "words")
    let holds = try Tool.call(words, listener: Callbacks(callbacks).listener)
    // That is no error, and a caller who looks finds none.
    if !holds { error?.pointee = nil }
    return vitc_status(holds ? VITC_OK : VITC_CHECK_FAILED)
  }
}

/// The version as C reads it.
private let version = CText(Version.current)

/// See `vitc.h`.
@c @implementation
public func vitc_version() -> UnsafePointer<CChar>! { version.pointer }

/// See `vitc.h`.
@c @implementation
public func vitc_abi_version() -> Int32 { Int32(1000 * VITC_ABI_MAJOR + VITC_ABI_MINOR) }
