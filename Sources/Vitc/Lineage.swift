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
      (
        "data",
        try digest(ofFiles: data.files, and: [data.isSynthetic ? data.name : "", data.preprocessing])
          .description
      ),
      ("isa", Machine.level), ("blas", Machine.blas), ("pipeline", pipeline.description), ("seed", "\(seed)"),
      ("teacher", try digest(ofFiles: teacher.files, and: []).description), ("version", Version.current),
    ]
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
