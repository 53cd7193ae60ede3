internal import VitIR

/// What the first convolution over the image says about it: which of its axes holds the channels, how many they are, and
/// the step of its patches.
struct ImageReader {
  /// The input that the convolution reads; zero where none is found.
  private(set) var input: FlatValue = 0
  /// The axes of that input that hold channels, rows and columns.
  private(set) var axes = [1, 2, 3]
  /// The channels of that input.
  private(set) var channels: Int?
  /// The step between patches.
  private(set) var step = 1

  /// The types of images on their way from an input, and of constants.
  private var types: [FlatValue: TensorType] = [:]
  /// Where the images came from.
  private var sources: [FlatValue: Source] = [:]

  /// An input, and where the axes are now that may hold its channels: the second and the last.
  private struct Source {
    let input: FlatValue
    var places: [(origin: Int, now: Int)] = [(1, 1), (3, 3)]
  }
  private var constants: [FlatValue: Tensor] = [:]

  /// Looks for a convolution of an input, normalised or not.
  init(
    _ nodes: [FlatNode], _ initializers: [FlatValue: OnnxTensor], _ inputs: InputTypes, registry: Registry
  ) {
    for input in inputs.inputs where input.type.rank == 4 {
      sources[input.value] = Source(input: input.value)
      types[input.value] = input.type
    }
    for node in nodes {
      for value in node.inputs where constants[value] == nil {
        if case .success(let tensor)? = initializers[value]?.content { define(value, tensor) }
      }
      if node.known == .constant {
        if case .tensor(let tensor)? = node.source.attribute("value")?.value,
          case .success(let value) = tensor.content
        {
          define(node.outputs[0], value)
        }
      } else if node.inputs.contains(where: { types[$0] != nil }), let operation = make(node, registry) {
        if let convolution = operation as? any ConvolutionOperation, read(node, convolution) { return }
        follow(node, operation)
      }
    }
  }

  private mutating func define(_ value: FlatValue, _ tensor: Tensor) {
    constants[value] = tensor
    types[value] = tensor.type.computed
  }

  private func make(_ node: FlatNode, _ registry: Registry) -> (any Operation)? {
    var attributes = Attributes()
    for attribute in node.source.attributes {
      guard case .plain(let value) = attribute.value else { return nil }
      attributes[attribute.name] = value
    }
    return try? registry.make(
      node.operation, attributes, opset: node.scope.opsets[node.source.domain] ?? 1)
  }

  /// Takes what a convolution says about the image that it reads, if it does read one.
  private mutating func read(_ node: FlatNode, _ convolution: any ConvolutionOperation) -> Bool {
    guard let first = node.inputs.first, let source = sources[first],
      let channelAxis = source.places.first(where: { $0.now == 1 })?.origin,
      node.inputs.count > convolution.windows, let windows = types[node.inputs[convolution.windows]],
      windows.rank == 4
    else { return false }
    input = source.input
    axes = [channelAxis] + [1, 2, 3].filter { $0 != channelAxis }
    if let count = convolution.channels(windows.shape).fixedValue, count > 0, count < Int.max {
      channels = count
    }
    step = max(1, convolution.steps?.first ?? 1)
    return true
  }

  /// Follows an image through what keeps its channels apart, and constants through what they are made of: weights may be
  /// stored as integers, or as half floats.
  private mutating func follow(_ node: FlatNode, _ operation: any Operation) {
    let image = node.inputs.firstIndex { sources[$0] != nil }
    let known = node.inputs.map { constants[$0].map(KnownValue.tensor) }
    let operands = Operands(
      node.inputs.map { types[$0] }, values: known, resultCount: node.outputs.count)
    var results = try? operation.resultTypes(operands)
    // Numbers for each channel, of which the file does not say how many there are.
    if results == nil, operation is any PointwiseOperation, node.outputs.count == 1 {
      results = (image ?? 0) < node.inputs.count ? types[node.inputs[image ?? 0]].map { [$0] } : nil
    }
    guard let results, let result = results.first, let output = node.outputs.first else { return }
    guard let image else {
      if operation is any PointwiseOperation { types[output] = result }
      return
    }
    guard result.rank == 4, var source = sources[node.inputs[image]] else { return }
    let map = operation.axes(operands, results)
    source.places = source.places.compactMap { origin, now in
      let letter = map.letters.first {
        $0.kind == .parallel && $0.axis(ofOperand: image) == now && $0.axis(ofResult: 0) != nil
      }
      return letter?.axis(ofResult: 0).map { (origin, $0) }
    }
    guard !source.places.isEmpty else { return }
    sources[output] = source
    types[output] = result
  }
}

extension InputTypes {
  /// The inputs, with the channels that a convolution asks for where the file leaves them open.
  func withChannels(of image: ImageReader) -> InputTypes {
    guard let channels = image.channels, let input = inputs.first(where: { $0.value == image.input }),
      let symbol = input.type.shape[image.axes[0]].symbols.first, symbol != Self.batch
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
    let symbols = image.axes.dropFirst().flatMap { input.type.shape[$0].symbols }
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
