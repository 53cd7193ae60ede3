internal import VitIR

/// What the messages of `schemas/vmod.proto` hold, as Swift values.
struct Manifest {
  var graph = GraphRecord()
  var preprocessing: [(key: String, value: String)] = []
  var labels: [String] = []
  var lineage: [(key: String, value: String)] = []
  var probes: [ProbeRecord] = []
  var report = ""

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
  var annotations: Attributes
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
