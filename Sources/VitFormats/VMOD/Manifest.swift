internal import VitIR

/// What the messages of `schemas/vmod.proto` hold, as Swift values.
struct Manifest {
  var graph = GraphRecord()
  var preprocessing: [(key: String, value: String)] = []
  var labels: [String] = []
  var lineage: [(key: String, value: String)] = []
  var probes: [ProbeRecord] = []
  var report = ""
  var layers: [LayerRecord] = []
  var others: [AttentionLike] = []

  /// All tensors, in the order of their frames.
  var tensors: [TensorRecord] { graph.tensors + probes.flatMap { $0.inputs + $0.outputs } }
}

struct GraphRecord {
  var name = ""
  var annotations = Attributes()
  var inputs: [ValueRecord] = []
  var tensors: [TensorRecord] = []
  var nodes: [NodeRecord] = []
  var outputs: [(name: String, value: Int)] = []
}

struct ValueRecord {
  var name: String
  var type: String
}

struct TensorRecord {
  var name: String
  var type: String
  var digest: [UInt8]
}

struct NodeRecord {
  var operation: String
  var attributes: Attributes
  /// Numbers of values; `nil` for an operand that is absent.
  var operands: [Int?]
  var results: [ValueRecord]
  var origin: String
}

/// A layer, its values as numbers.
struct LayerRecord {
  var index: Int
  var kind: String
  var heads: Int
  var node: String
  var core: Int
  var input: Int?
  var output: Int?
  var parameters: Int
  var obstacle: String?
  var choice: Layer.Choice
  var merges: Int
  var scores: Attributes
  var candidates: [Layer.Candidate]
}

struct ProbeRecord {
  var inputs: [TensorRecord]
  var outputs: [TensorRecord]
  var tolerance: Double
}

/// Where a tensor's bytes are in the frames, and how they are kept.
struct FrameRecord: Hashable {
  enum Encoding: UInt32 { case plain, planes }
  var size: Int
  var checksum: UInt64
  var encoding: Encoding
}
