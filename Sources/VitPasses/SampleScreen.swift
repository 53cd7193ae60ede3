internal import VitIR

/// Which samples of a source the teacher gives no numbers for, as far as it has run on them: nothing is learnt from those,
/// and nothing is measured on them.
///
/// Costs no run of its own: whoever runs the teacher shows what it gave. What is left out depends on the samples that were
/// looked at alone, so that a compile in steps leaves out what one compile does.
final class SampleScreen {
  private let data: any SampleSource
  private let context: PassContext
  private var states: [State]
  private var (seen, lost) = (0, 0)

  private enum State: UInt8 { case unseen, finite, nonFinite }

  /// A screen that has seen nothing of `data`.
  init(_ data: any SampleSource, context: PassContext) {
    self.data = data
    self.context = context
    states = Array(repeating: .unseen, count: data.count)
  }

  /// Notes whether the teacher gives numbers for the sample at `place`. Throws where more than a tenth of all samples are lost.
  func note(_ place: Int, isFinite: Bool) throws(VitError) {
    note(place, isFinite ? .finite : .nonFinite)
    if lost * 10 > states.count { throw failure(of: states.count) }
  }

  /// Puts another sample in the place of each for which `outputs` hold something that is no number: the sample itself for an
  /// augmented version, else the next one of the data. Says whether there were any, so that the teacher must run again.
  func replace(
    _ samples: inout [(index: Int, variant: UInt64?)], by outputs: [View]
  ) throws(VitError) -> Bool {
    var isReplaced = false
    for row in samples.indices {
      let isFinite = SampleScreen.isFinite(outputs, row: row, of: samples.count)
      if isFinite || samples[row].variant == nil { try note(samples[row].index, isFinite: isFinite) }
      guard !isFinite else { continue }
      if samples[row].variant == nil { samples[row].index = (samples[row].index + 1) % states.count }
      samples[row].variant = nil
      isReplaced = true
    }
    return isReplaced
  }

  /// Throws where more than a tenth of the samples that were seen were left out.
  func finish() throws(VitError) { if lost * 10 > seen { throw failure(of: seen) } }

  private func note(_ place: Int, _ state: State) {
    let known = states[place]
    // A sample may be lost of which an augmented version is not.
    guard known == .unseen || (known == .finite && state == .nonFinite) else { return }
    if known == .unseen { seen += 1 }
    states[place] = state
    guard state == .nonFinite else { return }
    lost += 1
    context.leftOut.add(data.name(of: place))
  }

  private func failure(of count: Int) -> VitError {
    VitError(
      "the teacher gives no numbers for \(lost) of \(count) samples: \(context.leftOut.names)",
      code: "non-finite-samples", help: "check how images are prepared (--preprocess), and the teacher")
  }

  /// Whether all outputs are numbers in one row of `count`.
  static func isFinite(_ outputs: [View], row: Int, of count: Int) -> Bool {
    outputs.allSatisfy { output in
      let size = output.count / count
      return output.part(row * size, of: size).isFinite
    }
  }

  // MARK: Checkpoints

  /// The bytes that `write` writes.
  var stateByteCount: Int { states.count }

  /// Writes what was seen.
  func write(to write: (UnsafeRawBufferPointer) throws -> Void) throws {
    try states.map(\.rawValue).withUnsafeBytes(write)
  }

  /// Takes up what was seen before a kill.
  func restore(from reader: inout StateReader) throws {
    var bytes = [UInt8](repeating: 0, count: states.count)
    try bytes.withUnsafeMutableBytes { buffer in try reader.read(into: buffer) }
    for (place, byte) in bytes.enumerated() {
      guard let state = State(rawValue: byte) else {
        throw StateReader.failure("the checkpoint says \(byte) of sample \(place), expected 0…2")
      }
      if state != .unseen { note(place, state) }
    }
  }
}

/// The samples that were left out in all of a compile, by name, in the order in which they were found.
final class LeftOutSamples {
  private(set) var found: [String] = []
  private var known: Set<String> = []
  private var reported = 0

  /// How many are named.
  private static let named = 8

  /// Notes a sample.
  func add(_ name: String) { if known.insert(name).inserted { found.append(name) } }

  /// How many there are.
  var count: Int { found.count }

  /// How many of the samples of `data` were left out.
  func count(in data: any SampleSource) -> Int {
    known.isEmpty ? 0 : (0..<data.count).reduce(0) { $0 + (known.contains(data.name(of: $1)) ? 1 : 0) }
  }

  /// The first of them.
  var names: String { LeftOutSamples.list(found[...]) }

  /// Says which were found since the last time.
  func report(to report: (Diagnostic) -> Void) {
    let new = found[reported...]
    reported = found.count
    guard !new.isEmpty else { return }
    let samples = new.count == 1 ? "a sample, which is" : "\(new.count) samples, which are"
    report(
      Diagnostic(
        .warning, "the teacher gives no numbers for \(samples) left out: \(LeftOutSamples.list(new))",
        code: "non-finite-samples"))
  }

  private static func list(_ names: ArraySlice<String>) -> String {
    let more = names.count > named ? " and \(names.count - named) more" : ""
    return names.prefix(named).map { "'\($0)'" }.joined(separator: ", ") + more
  }
}
