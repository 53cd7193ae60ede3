internal import Glibc
internal import VitIR

/// `com.microsoft.RelativePositionBias(table, queries, keys)`: what T5 adds to attention's scores for the distance of key and
/// query, `[1, heads, queries, keys]`.
///
/// The table's shape is `[buckets, heads]`, but its elements lie as `[heads, buckets]`: so ONNX Runtime writes it. Near
/// distances have a bucket each, far ones share them in steps that grow like a logarithm.
struct MicrosoftRelativePositionBias: Operation {
  static let name = "com.microsoft.RelativePositionBias"
  static let summary = "A learned number for each head and range of distances between query and key"
  static let example = "(f32[8, 3], i64[] = [2], i64[] = [3]) {is_bidirectional = 0, max_distance = 20}"
  let farthest: Int
  /// Whether keys before and after a query have buckets of their own, else those after it share the nearest.
  let isBidirectional: Bool

  init(attributes: inout AttributeReader) throws(VitError) {
    farthest = try attributes.int("max_distance")
    isBidirectional = try attributes.bool("is_bidirectional", default: false)
    guard farthest > 0 else { throw VitError("attribute 'max_distance' is \(farthest), expected at least 1") }
  }

  var attributes: Attributes {
    Attributes([("max_distance", .int(farthest)), ("is_bidirectional", .int(isBidirectional ? 1 : 0))])
  }

  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType] {
    try operands.expectCount(3...3)
    try operands.expectResults()
    let table = try operands.float(0, "bias_table", rank: 2...2)
    var shape: Shape = [1, table.shape[1]]
    for (index, role) in [(1, "query_length"), (2, "key_length")] {
      let lengths = try operands.dimensions(index, role)
      guard lengths.count == 1, lengths[0].fixedValue ?? 1 >= 0 else {
        throw VitError("'\(role)' is \(lengths), expected one number of at least 0", code: "operand-shape")
      }
      shape.append(lengths[0])
    }
    let least = isBidirectional ? 4 : 2
    guard let buckets = table.shape[0].fixedValue, buckets >= least, buckets % least == 0,
      farthest > buckets / least
    else {
      throw VitError(
        "'bias_table' is \(table), expected a multiple of \(least) buckets, for distances below \(farthest)",
        code: "operand-shape")
    }
    return [table.with(shape)]
  }

  func role(of index: Int) -> OperandRole { index == 0 ? .weight : .index }

  /// The bucket of a key that is so many places after the query.
  private func bucket(_ offset: Int, of buckets: Int) -> Int {
    let own = isBidirectional ? buckets / 2 : buckets
    let start = isBidirectional && offset > 0 ? own : 0
    let distance = isBidirectional ? abs(offset) : max(0, -offset)
    let near = own / 2
    guard distance >= near else { return start + distance }
    let share = logf(Float(distance) / Float(near)) / logf(Float(farthest) / Float(near))
    return start + min(own - 1, near + Int(share * Float(own - near)))
  }

  func forward(_ context: KernelContext) {
    let (table, output) = (context.input(0), context.output)
    let (heads, queries, keys) = (output.shape[1], output.shape[2], output.shape[3])
    let buckets = table.shape[0]
    func run<T: BitwiseCopyable>(_ type: T.Type) {
      let (from, to) = (table.pointer(as: T.self), output.pointer(as: T.self))
      for offset in (1 - queries)..<max(keys, 2 - queries) {
        let bucket = bucket(offset, of: buckets)
        for head in 0..<heads {
          for query in max(0, -offset)..<max(0, -offset, min(queries, keys - offset)) {
            to[(head * queries + query) * keys + query + offset] = from[head * buckets + bucket]
          }
        }
      }
    }
    if table.element == .f64 { run(Double.self) } else { run(Float.self) }
  }
}
