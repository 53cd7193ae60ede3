internal import VitIR
internal import VitOps
internal import VitRuntime

/// What an attention layer of a teacher makes of its tokens before the output map, and the maps by which it does.
struct AttendedValues {
  private let executor: Executor

  /// The layer that a mixer replaces, on tokens of that shape; `nil` where it was not raised to one operation. Where the mixer
  /// has fewer channels for each head, they are what the maps make of the mixer's own values.
  init?(_ mixer: MixerNode, of teacher: Teacher, shape: [Int], maps: Bool, pool: any WorkPool) throws {
    guard let node = teacher.attention(of: mixer.layer.index),
      let original = teacher.layer(mixer.layer.index),
      let wo = node.operands[7].flatMap(teacher.graph.tensor), wo.shape.count == 2
    else { return nil }
    var builder = GraphBuilder(Graph(name: "attention"), registry: .standard)
    let tokens = builder.graph.addInput(TensorType(.f32, fixed: shape), name: "x")
    var operands: [ValueID?] = [tokens]
    let own = AttendedValues.narrow(mixer.region, node, wo)
    for (place, id) in node.operands.enumerated().dropFirst() {
      switch place {
      case 5 where own != nil: operands.append(own.map { builder.graph.addConstant($0.weight, name: "wv") })
      case 6 where own != nil: operands.append(own.map { builder.graph.addConstant($0.bias, name: "bv") })
      case 7:
        let width = own?.weight.shape[0] ?? wo.shape[1]
        let identity = try Tensor.identity(width)
        operands.append(builder.graph.addConstant(identity, name: "identity"))
      case 8: operands.append(nil)
      default:
        guard let id else {
          operands.append(nil)
          continue
        }
        guard let tensor = teacher.graph.tensor(id) else { return nil }
        operands.append(builder.graph.addConstant(tensor, name: teacher.graph[id].name))
      }
    }
    var attributes = node.operation.attributes
    if own != nil { attributes["value_dim"] = nil }
    var reader = AttributeReader(attributes)
    let result = try builder.add(VitAttention(attributes: &reader), operands)[0]
    builder.graph.outputs = [("context", result)]
    var graph = builder.graph
    if maps {
      var layer = original
      (layer.core, layer.output, layer.input) = (result, result, tokens)
      let tap = try MapTap(graph, layers: [layer], registry: .standard)
      guard let map = tap.maps.first ?? nil else { return nil }
      graph = tap.graph
      graph.outputs.append(("maps", map))
    }
    executor = try Executor(graph, weights: WeightStore(graph), inputShapes: [shape], pool: pool)
  }

  /// The values' map of a mixer that has fewer channels for each head than the attention; `nil` where it has as many, or others.
  private static func narrow(
    _ region: MixerRegion, _ node: Node, _ wo: Tensor
  ) -> (weight: Tensor, bias: Tensor)? {
    guard let operation = node.operation as? VitAttention, operation.heads == operation.kvHeads,
      let values = region.mixer.values, let weight = values.weight.flatMap(region.constant),
      let bias = region.constant(ofMixer: values.bias)
    else { return nil }
    let (own, shift) = (region.constants[weight].tensor, region.constants[bias].tensor)
    guard own.shape.count == 2, own.shape[0] < wo.shape[1], own.shape[0] % operation.heads == 0 else {
      return nil
    }
    return (own, shift)
  }

  /// The extents of the attended values, `[batch, tokens, heads · valueDim]`.
  var shape: [Int] { executor.outputs[0].shape }

  /// The attended values and, where they were asked for, the maps of tokens; valid until the next run.
  func run(_ tokens: View) -> (context: View, maps: View?) {
    executor.inputs[0].copy(from: tokens)
    executor.run()
    return (executor.outputs[0], executor.outputs.count > 1 ? executor.outputs[1] : nil)
  }
}

extension Teacher {
  /// The node of a layer that was raised to one operation.
  func attention(of index: Int) -> Node? {
    guard let core = layer(index)?.core, let place = graph.place(defining: core),
      graph.nodes[place].operation is VitAttention
    else { return nil }
    return graph.nodes[place]
  }

  /// The weight of its output map, `[outputDim, heads · valueDim]`.
  func attentionOutput(of index: Int) -> Tensor? { attention(of: index)?.operands[7].flatMap(graph.tensor) }
}
