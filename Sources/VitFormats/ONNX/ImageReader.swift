internal import VitIR

/// What the first convolution over the image says about it: how many channels it has, and the step of its patches.
struct ImageReader {
  /// The input that the convolution reads.
  private(set) var input: FlatValue = 0
  /// The channels of that input.
  private(set) var channels: Int?
  /// The step between patches.
  private(set) var step = 1

  /// Operators that leave the axes of an image alone.
  private static let pointwise: Set<String> = [
    "Cast", "Identity", "Sub", "Add", "Mul", "Div", "Clip", "Pad", "Resize", "QuantizeLinear",
    "DequantizeLinear",
  ]

  /// Looks for a convolution of an input, normalised or not.
  init(_ nodes: [FlatNode], _ constants: [FlatValue: OnnxTensor], _ inputs: InputTypes) {
    var sources: [FlatValue: FlatValue] = [:]
    for input in inputs.inputs where input.type.rank == 4 { sources[input.value] = input.value }
    var shapes: [FlatValue: [Int]] = [:]
    for node in nodes where node.source.domain.isEmpty {
      if node.source.type == "Constant", case .tensor(let tensor)? = node.source.attribute("value")?.value,
        case .success(let value) = tensor.content
      {
        shapes[node.outputs[0]] = value.shape
      }
      guard let first = node.inputs.first, let source = node.inputs.lazy.compactMap({ sources[$0] }).first
      else {
        // Weights may be stored as integers, or as half floats.
        if let first = node.inputs.first, Self.pointwise.contains(node.source.type) {
          shapes[node.outputs[0]] = shape(first, shapes, constants)
        }
        continue
      }
      if Self.pointwise.contains(node.source.type) {
        sources[node.outputs[0]] = source
      } else if node.source.type == "Conv", sources[first] != nil, node.inputs.count > 1,
        let weight = shape(node.inputs[1], shapes, constants), weight.count == 4
      {
        input = source
        var group = 1
        if case .plain(.int(let value))? = node.source.attribute("group")?.value { group = value }
        let (product, overflow) = weight[1].multipliedReportingOverflow(by: group)
        if !overflow, product > 0 { channels = product }
        if case .plain(.ints(let steps))? = node.source.attribute("strides")?.value, let first = steps.first {
          step = max(1, first)
        }
        return
      }
    }
  }

  private func shape(
    _ value: FlatValue, _ shapes: [FlatValue: [Int]], _ constants: [FlatValue: OnnxTensor]
  ) -> [Int]? {
    if let shape = shapes[value] { return shape }
    guard case .success(let tensor)? = constants[value]?.content else { return nil }
    return tensor.shape
  }
}

extension InputTypes {
  /// The inputs, with the channels that a convolution asks for where the file leaves them open.
  func withChannels(of image: ImageReader) -> InputTypes {
    guard let channels = image.channels, let input = inputs.first(where: { $0.value == image.input }),
      let symbol = input.type.shape[1].symbols.first, symbol != Self.batch
    else { return self }
    return substituting { $0 == symbol ? .fixed(channels) : nil }
  }

  /// Image sizes to try where a model does not work for every size: the symbols of height and width, and an extent.
  ///
  /// Sizes that models are often made for come first, then round ones, then every multiple of the patches' step up to
  /// 1024; an image of one patch is none.
  func candidates(for image: ImageReader) -> [(symbols: [String], extent: Int)] {
    guard
      let input = inputs.first(where: { $0.type.rank == 4 && ($0.value == image.input || image.input == 0) })
    else { return [] }
    let symbols = input.type.shape[2...].flatMap(\.symbols)
    guard !symbols.isEmpty, !symbols.contains(Self.batch) else { return [] }
    let usual = [224, 384, 256, 336, 518, 448, 512, 196, 192, 160, 128]
    let round = [32, 16].flatMap { Array(stride(from: $0, through: 1024, by: $0)) }
    let multiples = stride(from: 2 * image.step, through: 1024, by: max(image.step, 4))
    var extents: [Int] = []
    for extent in usual + round + multiples
    where extent % image.step == 0 && extent > image.step && !extents.contains(extent) {
      extents.append(extent)
    }
    return extents.map { (symbols, $0) }
  }
}
