internal import VitFormats
internal import VitIR
internal import VitPasses
internal import VitRuntime

/// Where a hybrid comes from: digests and versions; no path, date or host.
enum Lineage {
  /// The entries of what a compile makes, with all that `Rebuild` needs to know to make it again.
  ///
  /// `evaluation` is what it is measured on where that is other data; `heldOut` samples of the data are not trained on, and
  /// `measured` are measured on at the end.
  static func entries(
    teacher: Model, data: Samples, evaluation: Samples?, pipeline: Pipeline, seed: UInt64, heldOut: Int,
    measured: Int, deadline: Double?
  ) throws -> [(key: String, value: String)] {
    var entries = [("data", try digest(of: data))]
    if let deadline { entries.append((Key.deadline, deadline.short)) }
    if let evaluation { entries.append((Key.evaluation, try digest(of: evaluation))) }
    return entries + [
      (Key.heldOut, "\(heldOut)"), ("isa", Machine.level), ("blas", Machine.blas),
      (Key.measured, "\(measured)"), ("pipeline", pipeline.description), ("seed", "\(seed)"),
      ("teacher", try digest(of: teacher)), ("version", Version.current),
    ]
  }

  /// The keys that compiles alone have.
  enum Key {
    /// The seconds after which training stopped where it was.
    static let deadline = "deadline"
    /// The digest of what it was measured on.
    static let evaluation = "evaluation"
    /// How many samples were held out.
    static let heldOut = "held-out"
    /// How many samples it was measured on.
    static let measured = "measured"
  }

  /// The entries of what a pipeline made of `model`: those that it has, its pipeline longer; where it has none, it is what
  /// all begins with. What a pipeline makes that gives it another head is a teacher itself: that it was made from is noted as
  /// `backbone`.
  static func entries(
    continuing model: Model, data: Samples?, pipeline: Pipeline, seed: UInt64
  ) throws -> [(key: String, value: String)] {
    func old(_ key: String) -> String? { model.lineage.first { $0.key == key }?.value }
    var entries: [(key: String, value: String)] = []
    let teacher = try old("teacher") ?? (model.files.isEmpty ? nil : digest(of: model))
    let backbone = pipeline.givesHead ? teacher ?? old("backbone") : old("backbone")
    if let backbone { entries.append(("backbone", backbone)) }
    if let digest = try data.map(digest) ?? old("data") { entries.append(("data", digest)) }
    let steps = [old("pipeline"), pipeline.description].compactMap { $0 }
    entries += [
      ("isa", Machine.level), ("blas", Machine.blas), ("pipeline", steps.joined(separator: ",")),
      ("seed", "\(seed)"),
    ]
    if let teacher, !pipeline.givesHead { entries.append(("teacher", teacher)) }
    return entries + [("version", Version.current)]
  }

  /// The digest of a model's files.
  static func digest(of model: Model) throws -> String {
    try digest(ofFiles: model.files, and: []).description
  }

  static func digest(of data: Samples) throws -> String {
    try digest(ofFiles: data.files, and: [data.isSynthetic ? data.name : "", data.preprocessing]).description
  }

  /// One digest of all entries.
  static func digest(_ entries: [(key: String, value: String)]) -> Digest {
    Digest(of: Array(entries.map { "\($0.key)=\($0.value)\n" }.joined().utf8))
  }

  /// The digest of a single file is its own; of several it is that of their digests.
  private static func digest(ofFiles files: [String], and texts: [String]) throws -> Digest {
    let digests = try files.map { try Digest(ofFile: $0) }
    if digests.count == 1, texts.isEmpty { return digests[0] }
    return Digest(of: digests.flatMap(\.bytes) + texts.flatMap { Array($0.utf8) + [0] })
  }
}
