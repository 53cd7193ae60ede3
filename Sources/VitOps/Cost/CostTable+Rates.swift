// Written by tools/bench costs: one thread, AMD EPYC.

extension CostTable {
  /// Where products are those of floats.
  static let f32 = Rates(
    known: [
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
    ],
    others: Rate(picosecondsPerFlop: 27.02, picosecondsPerByte: 17.88, nanoseconds: 323))
  /// Where weights of linear maps are bfloat16.
  static let bf16 = Rates(
    known: [
      "onnx.Add": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 19.95, nanoseconds: 0),
      "onnx.Concat": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 16.80, nanoseconds: 0),
      "onnx.Gather": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 108.32, nanoseconds: 140),
      "vit.add": Rate(picosecondsPerFlop: 113.93, picosecondsPerByte: 0.00, nanoseconds: 281),
      "vit.attention": Rate(picosecondsPerFlop: 6.37, picosecondsPerByte: 15.27, nanoseconds: 9659),
      "vit.conv": Rate(picosecondsPerFlop: 5.33, picosecondsPerByte: 31.99, nanoseconds: 1623),
      "vit.glr": Rate(picosecondsPerFlop: 6.77, picosecondsPerByte: 24.55, nanoseconds: 5023),
      "vit.layer_norm": Rate(picosecondsPerFlop: 35.15, picosecondsPerByte: 0.00, nanoseconds: 410),
      "vit.linear": Rate(picosecondsPerFlop: 10.61, picosecondsPerByte: 14.18, nanoseconds: 0),
      "vit.log_size": Rate(picosecondsPerFlop: 6318.22, picosecondsPerByte: 0.00, nanoseconds: 180),
      "vit.lstm": Rate(picosecondsPerFlop: 6.26, picosecondsPerByte: 39.81, nanoseconds: 12373),
      "vit.match": Rate(picosecondsPerFlop: 16.06, picosecondsPerByte: 0.00, nanoseconds: 3607),
      "vit.merge": Rate(picosecondsPerFlop: 102.13, picosecondsPerByte: 0.00, nanoseconds: 2151),
      "vit.mlp": Rate(picosecondsPerFlop: 5.37, picosecondsPerByte: 4.17, nanoseconds: 897),
      "vit.patch_embed": Rate(picosecondsPerFlop: 10.49, picosecondsPerByte: 0.00, nanoseconds: 0),
      "vit.prefix_attention": Rate(picosecondsPerFlop: 23.56, picosecondsPerByte: 31.76, nanoseconds: 0),
      "vit.ssd": Rate(picosecondsPerFlop: 7.23, picosecondsPerByte: 0.00, nanoseconds: 16014),
      "vit.static": Rate(picosecondsPerFlop: 6.52, picosecondsPerByte: 28.20, nanoseconds: 0),
    ],
    others: Rate(picosecondsPerFlop: 31.22, picosecondsPerByte: 15.59, nanoseconds: 293))
  /// Where those have 8 bits.
  static let int8 = Rates(
    known: [
      "onnx.Add": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 18.57, nanoseconds: 0),
      "onnx.Concat": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 16.04, nanoseconds: 0),
      "onnx.Gather": Rate(picosecondsPerFlop: 0.00, picosecondsPerByte: 98.77, nanoseconds: 143),
      "vit.add": Rate(picosecondsPerFlop: 106.97, picosecondsPerByte: 0.00, nanoseconds: 302),
      "vit.attention": Rate(picosecondsPerFlop: 4.86, picosecondsPerByte: 0.00, nanoseconds: 12001),
      "vit.conv": Rate(picosecondsPerFlop: 3.49, picosecondsPerByte: 10.62, nanoseconds: 5354),
      "vit.glr": Rate(picosecondsPerFlop: 4.80, picosecondsPerByte: 35.27, nanoseconds: 5025),
      "vit.layer_norm": Rate(picosecondsPerFlop: 34.65, picosecondsPerByte: 0.00, nanoseconds: 383),
      "vit.linear": Rate(picosecondsPerFlop: 9.40, picosecondsPerByte: 13.22, nanoseconds: 0),
      "vit.log_size": Rate(picosecondsPerFlop: 6005.94, picosecondsPerByte: 0.00, nanoseconds: 163),
      "vit.lstm": Rate(picosecondsPerFlop: 4.58, picosecondsPerByte: 0.00, nanoseconds: 18883),
      "vit.match": Rate(picosecondsPerFlop: 15.83, picosecondsPerByte: 0.00, nanoseconds: 3041),
      "vit.merge": Rate(picosecondsPerFlop: 106.47, picosecondsPerByte: 0.00, nanoseconds: 1576),
      "vit.mlp": Rate(picosecondsPerFlop: 2.98, picosecondsPerByte: 1.75, nanoseconds: 3815),
      "vit.patch_embed": Rate(picosecondsPerFlop: 10.35, picosecondsPerByte: 0.00, nanoseconds: 0),
      "vit.prefix_attention": Rate(picosecondsPerFlop: 25.28, picosecondsPerByte: 22.70, nanoseconds: 385),
      "vit.ssd": Rate(picosecondsPerFlop: 5.19, picosecondsPerByte: 0.00, nanoseconds: 18865),
      "vit.static": Rate(picosecondsPerFlop: 5.33, picosecondsPerByte: 6.44, nanoseconds: 0),
    ],
    others: Rate(picosecondsPerFlop: 26.91, picosecondsPerByte: 14.82, nanoseconds: 286))
}
