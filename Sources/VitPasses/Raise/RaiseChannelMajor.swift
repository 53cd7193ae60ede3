internal import VitIR
internal import VitOps

/// Linear maps of tokens that keep channels before tokens, in front of attention and behind it, become `vit.linear` between
/// transposes: convolutions whose window is one pixel, products with a weight on the left.
///
/// Others stay what they are: they need no transposes.
enum RaiseChannelMajor: Pattern {
  static let name = "channel-major"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    let maps = maps(&rewriter)
    /// The tokens of values that several maps read, and the weights of maps that have the same.
    var tokens: [ValueID: ValueID] = [:]
    var weights: [[ValueID]: (weight: ValueID, bias: ValueID?)] = [:]
    for node in rewriter.nodes {
      guard let result = node.results.first, maps.contains(result), let map = ChannelMap(node, rewriter)
      else {
        continue
      }
      let changes = rewriter.changes
      var own: ValueID?
      rewriter.tryReplace(map.result, at: node) { builder throws(VitError) in
        var x = map.input
        if let known = tokens[map.input] {
          x = known
        } else {
          x = try builder.tokens(of: map.input, isImage: map.isImage)
        }
        own = x
        let (weight, bias) = weights[map.constants] ?? map.add(to: &builder.graph)
        weights[map.constants] = (weight, bias)
        let y = try builder.add(VitLinear.self, [x, weight, bias])
        if map.givesTokens { return y }
        let turned = try builder.turned(y, rank: builder.graph.type(y).rank)
        let shape = builder.graph.type(map.result).shape
        return builder.graph.type(turned).shape == shape ? turned : try builder.flattened(turned, to: shape)
      }
      if rewriter.changes > changes { tokens[map.input] = own }
    }
  }

  // MARK: Which maps

  /// The results of the maps that give queries, keys and values, and of those that attended values go through.
  private static func maps(_ rewriter: inout Rewriter) -> Set<ValueID> {
    var result: Set<ValueID> = []
    for node in rewriter.nodes {
      guard let core = node.results.first else { continue }
      if node.isAny(VitSDPA.self) {
        var own: Set<ValueID> = []
        for case let operand? in node.operands.prefix(3) {
          let (maps, others) = above(operand, rewriter)
          own.formUnion(maps)
          for other in others {
            rewriter.miss(
              name, at: other, "expected a convolution of one pixel, by steps of one, before attention")
          }
        }
        result.formUnion(own)
        if !own.isEmpty { result.formUnion(below(core, rewriter)) }
      }
    }
    return result
  }

  /// Whether a node does the same to all tokens, or moves them.
  private static func passes(_ node: Node) -> Bool {
    node.operation is any MovementOperation || node.operation is any PointwiseOperation
      || node.isAny(Onnx.batchNormalization, Onnx.layerNormalization, VitLayerNorm.self)
  }

  /// The maps that a value comes from, and convolutions that are none.
  private static func above(
    _ start: ValueID, _ rewriter: Rewriter
  ) -> (maps: Set<ValueID>, others: [Node]) {
    var result: Set<ValueID> = []
    var others: [Node] = []
    var seen: Set<ValueID> = []
    var stack = [start]
    while let id = stack.popLast(), seen.count < 64 {
      guard seen.insert(id).inserted, let (_, node) = rewriter.producer(of: id) else { continue }
      if ChannelMap(node, rewriter) != nil {
        result.insert(id)
      } else if node.operation is any ConvolutionOperation {
        others.append(node)
      } else if passes(node) {
        for (place, operand) in node.operands.enumerated() where node.operation.role(of: place) == .data {
          if let operand, rewriter.constant(operand) == nil { stack.append(operand) }
        }
      }
    }
    return (result, others)
  }

  private static func below(_ core: ValueID, _ rewriter: Rewriter) -> Set<ValueID> {
    var seen: Set<ValueID> = []
    var queue = [core]
    var gates: Set<ValueID> = []
    while !queue.isEmpty, seen.count < 24 {
      let id = queue.removeFirst()
      guard seen.insert(id).inserted else { continue }
      for place in rewriter.users(of: id) {
        let node = rewriter.nodes[place]
        guard let result = node.results.first else { continue }
        if ChannelMap(node, rewriter)?.input == id { return gates.union([result]) }
        guard passes(node) else { continue }
        queue.append(result)
        // What the values are multiplied with comes from the same tokens.
        if let operation = node.operation as? any PointwiseOperation {
          for (place, side) in node.operands.enumerated() where operation.use(of: place) == .factor {
            if let side, side != id { gates.formUnion(above(side, rewriter).maps) }
          }
        }
      }
    }
    return []
  }
}

/// A linear map of the channels of `[batch, channels, …]`.
private struct ChannelMap {
  let input: ValueID
  private(set) var result: ValueID
  /// The constants that it is made of, the weight first.
  private(set) var constants: [ValueID]
  /// `[out, in]`.
  private var weight: Tensor
  private var bias: Tensor?
  /// Whether tokens stand along several axes.
  let isImage: Bool
  /// Whether the result is tokens already, channels behind them.
  let givesTokens: Bool

  /// Adds weight and bias to a graph.
  func add(to graph: inout Graph) -> (weight: ValueID, bias: ValueID?) {
    let name = graph[constants[0]].name
    return (
      graph.addConstant(weight, name: name), bias.map { graph.addConstant($0, name: name + ".bias") }
    )
  }

  init?(_ node: Node, _ rewriter: Rewriter) {
    guard let result = node.results.first, rewriter.type(result).element == .f32 else { return nil }
    if node.isAny(Onnx.conv, VitPatchEmbed.self) {
      self.init(convolution: node, result, rewriter)
    } else if node.isAny(Onnx.matMul) {
      self.init(product: node, result, rewriter)
    } else {
      return nil
    }
  }

  private init?(convolution node: Node, _ result: ValueID, _ rewriter: Rewriter) {
    func all(_ name: String, are number: Int) -> Bool {
      guard case .ints(let values)? = node.operation.attributes[name] else { return true }
      return values.allSatisfy { $0 == number }
    }
    guard let x = node.operands[0], let id = node.operands[1], let tensor = rewriter.constant(id),
      tensor.shape.count >= 3, tensor.shape.dropFirst(2).allSatisfy({ $0 == 1 }), all("strides", are: 1),
      all("pads", are: 0),
      let weight = ChannelMap.dense(
        tensor, groups: (node.operation as? any ConvolutionOperation)?.groups ?? 1)
    else { return nil }
    input = x
    self.result = result
    self.weight = weight
    isImage = rewriter.type(x).rank > 3
    givesTokens = node.isAny(VitPatchEmbed.self)
    constants = [id]
    if node.operands.count > 2, let bias = node.operands[2] {
      guard let tensor = rewriter.constant(bias) else { return nil }
      self.bias = tensor
      constants.append(bias)
    }
    if let (_, reader) = rewriter.onlyUser(of: result), reader.isAny(Onnx.batchNormalization) {
      absorb(reader, rewriter)
    }
  }

  /// Takes in a normalisation by statistics that are constant.
  private mutating func absorb(_ node: Node, _ rewriter: Rewriter) {
    let ids = node.operands.dropFirst().compactMap { $0 }
    guard let normalised = node.results.first, ids.count == 4,
      let numbers = try? ids.compactMap({ try rewriter.constant($0)?.doubles() }), numbers.count == 4,
      numbers.allSatisfy({ $0.count == weight.shape[0] }),
      let own = try? bias.map({ try $0.doubles() }) ?? numbers[0].map({ _ in 0 })
    else { return }
    var epsilon = 1e-5
    if case .float(let value)? = node.operation.attributes["epsilon"] { epsilon = value }
    let gain = zip(numbers[0], numbers[3]).map { $0 / ($1 + epsilon).squareRoot() }
    let factors = Tensor(.f32, shape: [gain.count], values: gain)
    guard let scaled = try? weight.scaled(by: factors, axis: 0) else { return }
    weight = scaled
    bias = Tensor(
      .f32, shape: [gain.count],
      values: gain.indices.map { numbers[1][$0] + (own[$0] - numbers[2][$0]) * gain[$0] })
    constants += ids
    result = normalised
  }

  /// A weight times `[…, channels, tokens]`, with a bias for each channel added.
  private init?(product node: Node, _ result: ValueID, _ rewriter: Rewriter) {
    guard let id = node.operands[0], let x = node.operands[1], let tensor = rewriter.constant(id),
      rewriter.constant(x) == nil, rewriter.type(x).rank >= 2, tensor.shape.count >= 2,
      tensor.shape.dropLast(2).allSatisfy({ $0 == 1 }), tensor.shape.count <= rewriter.type(x).rank
    else { return nil }
    input = x
    constants = [id]
    weight = tensor.reshaped(Array(tensor.shape.suffix(2)))
    (isImage, givesTokens) = (false, false)
    let added = rewriter.onlyUser(of: result).flatMap { ChannelMap.bias($0.node, of: result, rewriter) }
    self.result = added?.sum ?? result
    if let added, let vector = rewriter.constant(added.bias) {
      bias = vector.reshaped([vector.count])
      constants.append(added.bias)
    }
  }

  /// The constant that a node adds, one number for each channel.
  private static func bias(
    _ node: Node, of product: ValueID, _ rewriter: Rewriter
  ) -> (sum: ValueID, bias: ValueID)? {
    guard node.isAny(Onnx.add, VitAdd.self), let a = node.operands[0], let b = node.operands[1],
      let sum = node.results.first
    else { return nil }
    let other = a == product ? b : a
    let shape = rewriter.type(product).shape
    guard let tensor = rewriter.constant(other), tensor.shape.count >= 2, tensor.shape.last == 1,
      shape[shape.count - 2] == .fixed(tensor.count), tensor.shape[tensor.shape.count - 2] == tensor.count,
      rewriter.type(sum).shape == shape
    else { return nil }
    return (sum, other)
  }

  /// The windows of one pixel as a matrix; those of groups stand along its diagonal.
  private static func dense(_ windows: Tensor, groups: Int) -> Tensor? {
    let (filters, channels) = (windows.shape[0], windows.shape[1])
    let matrix = windows.reshaped([filters, channels])
    guard groups > 1 else { return matrix }
    let (width, isWide) = channels.multipliedReportingOverflow(by: groups)
    let (count, isLarge) = filters.multipliedReportingOverflow(by: width)
    guard filters % groups == 0, !isWide, !isLarge, count <= 1 << 24, let numbers = try? matrix.floats()
    else { return nil }
    var dense = [Float](repeating: 0, count: count)
    for row in 0..<filters {
      let first = row / (filters / groups) * channels
      for column in 0..<channels { dense[row * width + first + column] = numbers[row * channels + column] }
    }
    return Tensor(shape: [filters, width], floats: dense)
  }
}

extension GraphBuilder {
  /// `[…, channels, tokens]`, or `[batch, channels, …]` of an image, as tokens: channels behind them.
  fileprivate mutating func tokens(of x: ValueID, isImage: Bool) throws(VitError) -> ValueID {
    guard isImage else { return try turned(x, rank: graph.type(x).rank) }
    return try turned(try add(Onnx.reshape, [x, integers([0, 0, -1])]), rank: 3)
  }
}
