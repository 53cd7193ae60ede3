// Written by tools/bench costs: f32, one thread, AMD EPYC.

extension CostTable {
  /// The rates by operation; those of an operation that is not here are `others`.
  static let rates: [String: Rate] = [
    "onnx.Add": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 22.06, nanoseconds: 0),
    "onnx.Concat": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 19.56, nanoseconds: 0),
    "onnx.Gather": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 150.52, nanoseconds: 148),
    "vit.add": Rate(picosecondsPerFlop: 130.80, picosecondsPerByte: 0.00, nanoseconds: 270),
    "vit.attention": Rate(picosecondsPerFlop: 10.74, picosecondsPerByte: 0.00, nanoseconds: 6429),
    "vit.conv": Rate(picosecondsPerFlop: 9.79, picosecondsPerByte: 0.00, nanoseconds: 3988),
    "vit.glr": Rate(picosecondsPerFlop: 11.95, picosecondsPerByte: 5.13, nanoseconds: 3769),
    "vit.layer_norm": Rate(picosecondsPerFlop: 37.69, picosecondsPerByte: 0.00, nanoseconds: 226),
    "vit.linear": Rate(picosecondsPerFlop: 11.33, picosecondsPerByte: 16.12, nanoseconds: 0),
    "vit.log_size": Rate(picosecondsPerFlop: 7622.66, picosecondsPerByte: 0.00, nanoseconds: 178),
    "vit.lstm": Rate(picosecondsPerFlop: 11.10, picosecondsPerByte: 0.00, nanoseconds: 14265),
    "vit.match": Rate(picosecondsPerFlop: 18.07, picosecondsPerByte: 0.00, nanoseconds: 4732),
    "vit.merge": Rate(picosecondsPerFlop: 116.10, picosecondsPerByte: 0.00, nanoseconds: 1881),
    "vit.mlp": Rate(picosecondsPerFlop: 10.58, picosecondsPerByte: 0.00, nanoseconds: 202),
    "vit.patch_embed": Rate(picosecondsPerFlop: 11.02, picosecondsPerByte: 0.00, nanoseconds: 0),
    "vit.prefix_attention": Rate(picosecondsPerFlop: 25.94, picosecondsPerByte: 39.68, nanoseconds: 0),
    "vit.ssd": Rate(picosecondsPerFlop: 13.17, picosecondsPerByte: 0.00, nanoseconds: 1494),
    "vit.static": Rate(picosecondsPerFlop: 10.12, picosecondsPerByte: 0.00, nanoseconds: 0),
  ]
  /// The rates of all other operations.
  static let others = Rate(picosecondsPerFlop: 27.02, picosecondsPerByte: 17.88, nanoseconds: 323)
}
