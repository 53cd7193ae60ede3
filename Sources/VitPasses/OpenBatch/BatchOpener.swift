internal import VitIR
internal import VitOps
internal import VitRuntime

/// Opens the axis that counts images in a graph made for a number of them, where the graph does the same to each image.
///
/// Exporters bake in the batch that they were shown: as extents of constants (`Reshape` to 4×196×384, `Expand` of the class
/// token to 4×1×384) and of constants that stand beside images, which must then be the same for each. The graph is built anew
/// with the symbol `batch` in its place, each value carrying which of its axes holds the images; the operations' axis maps say
/// where they go. A node that would mix images, or of which that cannot be shown, ends the attempt.
struct BatchOpener {
  let old: Graph
  /// The number of images that the graph is made for.
  let count: Int
  /// What is known of the old values.
  let oldKnown: [KnownValue?]
  var builder: GraphBuilder
  /// The new values, over the old ones' index.
  var moved: [ValueID?]
  /// For each old value where it holds the images, or `nil` where all images share it.
  var places: [AxisPlace?]
  private let size = Dimension.batch
  private var batchSize: ValueID?
  private var extents: [String: ValueID] = [:]

  /// Starts on a graph whose first input has a fixed extent along its first axis; `nil` for any other.
  init?(_ graph: Graph, registry: Registry, pool: any WorkPool) {
    guard let first = graph.inputs.first, graph.type(first).rank > 1,
      let count = graph.type(first).shape[0].fixedValue, count > 0,
      !graph.inputs.contains(where: {
        graph.type($0).shape.contains { $0.symbols.contains(Dimension.batchName) }
      })
    else { return nil }
    let fold = ConstantFolder(pool: pool).fold
    guard
      let inferred = try? GraphBuilder.infer(graph, inputTypes: graph.inputs.map(graph.type), fold: fold)
    else { return nil }
    old = graph
    self.count = count
    oldKnown = inferred.known
    var empty = Graph(name: graph.name)
    empty.annotations = graph.annotations
    builder = GraphBuilder(empty, registry: registry)
    builder.fold = fold
    moved = [ValueID?](repeating: nil, count: graph.values.count)
    places = [AxisPlace?](repeating: nil, count: graph.values.count)
  }

  /// The open graph, or what stands against it.
  consuming func run() -> Result<Graph, VitError> {
    do throws(VitError) {
      for id in old.inputs { addInput(id) }
      for node in old.nodes { try add(node) }
      for output in old.outputs {
        guard places[output.value.index] == AxisPlace(axis: 0), let id = moved[output.value.index] else {
          throw VitError("the first axis of output '\(output.name)' does not hold the images")
        }
        builder.graph.outputs.append((output.name, id))
      }
      return .success(builder.graph)
    } catch { return .failure(error) }
  }

  private mutating func addInput(_ id: ValueID) {
    var type = old.type(id)
    if type.rank > 0, type.shape[0] == .fixed(count) {
      type.shape[0] = size
      places[id.index] = AxisPlace(axis: 0)
    }
    moved[id.index] = builder.graph.addInput(type, name: old[id].name)
  }

  private mutating func add(_ node: Node) throws(VitError) {
    builder.location = node.location
    var operands: [ValueID?] = []
    for operand in node.operands { operands.append(try operand.map { id throws(VitError) in try value(id) }) }
    do throws(VitError) {
      let outcome = try apply(BatchStep(node, operands, in: self))
      for (index, id) in node.results.enumerated() {
        let wanted = opened(old.type(id), outcome.places[index]?.axis)
        let found = builder.graph.type(outcome.results[index])
        guard let wanted, found == wanted else {
          throw VitError("\(node.name) would give \(found) for what is \(old.type(id))")
        }
        moved[id.index] = outcome.results[index]
        places[id.index] = outcome.places[index]
      }
    } catch { throw error.at(node.location) }
  }

  /// The new value for an old one; constants are taken over when first read.
  mutating func value(_ id: ValueID) throws(VitError) -> ValueID {
    if let value = moved[id.index] { return value }
    guard let tensor = old.tensor(id) else { throw VitError("reads '\(old[id].name)' before it is defined") }
    let value = builder.graph.addConstant(tensor, name: old[id].name)
    moved[id.index] = value
    return value
  }

  /// The type that a value has when its axis `axis` holds all images; `nil` where that axis holds no whole batches.
  func opened(_ type: TensorType, _ axis: Int?) -> TensorType? {
    guard let axis else { return type }
    guard let part = type.shape[axis].exactlyDivided(by: .fixed(count)) else { return nil }
    var type = type
    type.shape[axis] = part * size
    return type
  }

  /// A value that holds a shape in which the size of the batch may stand.
  mutating func shape(_ shape: Shape) throws(VitError) -> ValueID {
    let key = "\(shape)"
    if let value = extents[key] { return value }
    var parts: [ValueID] = []
    for extent in shape {
      if let number = extent.fixedValue {
        parts.append(builder.integers([number]))
      } else if let factor = extent.exactlyDivided(by: size)?.fixedValue {
        let batch = try batch()
        parts.append(factor == 1 ? batch : try builder.add(Onnx.mul, [batch, builder.integers([factor])]))
      } else {
        throw VitError("the extent \(extent) depends on more than the batch")
      }
    }
    let value = try builder.add(Onnx.concat, parts, [("axis", .int(0))])
    extents[key] = value
    return value
  }

  /// The size of the batch, as a list of one.
  private mutating func batch() throws(VitError) -> ValueID {
    if let batchSize { return batchSize }
    let shape = try builder.add(Onnx.shape, [builder.graph.inputs[0]])
    let first = try builder.add(Onnx.gather, [shape, builder.integers([0])], [("axis", .int(0))])
    batchSize = first
    return first
  }
}
