internal import VitFormats
internal import VitIR
internal import VitPasses
internal import VitRuntime

/// Where a hybrid comes from: digests and versions; no path, date or host.
enum Lineage {
  /// The entries of a `.vmod`.
  static func entries(
    teacher: Model, data: Samples, pipeline: Pipeline, seed: UInt64
  ) throws -> [(key: String, value: String)] {
    [
      ("data", try digest(of: data)), ("isa", Machine.level), ("blas", Machine.blas),
      ("pipeline", pipeline.description), ("seed", "\(seed)"), ("teacher", try digest(of: teacher)),
      ("version", Version.current),
    ]
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
