internal import VitIR
internal import VitOps

/// One node that `BatchOpener` looks at: as it was, and what has become of its operands.
struct BatchStep {
  let node: Node
  /// The operands, as new values.
  var operands: [ValueID?]
  /// Where each operand holds images of which numbers are read.
  let places: [AxisPlace?]
  /// The operands as they were, with what was known of them.
  let old: Operands
  /// The results' types as they were.
  let results: [TensorType]

  init(_ node: Node, _ operands: [ValueID?], in opener: BatchOpener) {
    self.node = node
    self.operands = operands
    places = node.operands.enumerated().map { index, id in
      node.operation.role(of: index) == .form ? nil : id.flatMap { opener.places[$0.index] }
    }
    old = Operands(
      node.operands.map { $0.map(opener.old.type) },
      values: node.operands.map { $0.flatMap { opener.oldKnown[$0.index] } },
      resultCount: node.results.count)
    results = node.results.map(opener.old.type)
  }

  var operation: any Operation { node.operation }

  func error(_ why: String) -> VitError { VitError("\(node.name) \(why)", code: "batch-mixed") }

  /// The letter of the map along which all images lie.
  func letter(_ map: AxisMap) throws(VitError) -> AxisMap.Letter {
    let found = map.letters.first { letter in
      letter.kind == .parallel
        && places.enumerated().allSatisfy {
          $0.element == nil || $0.element?.axis == letter.axis(ofOperand: $0.offset)
        }
    }
    if let found { return found }
    throw error(map.letters.isEmpty ? "is not known to treat images alike" : "works across images")
  }

  /// How many entries of an axis lie outside of the images: the same for all operands.
  func outer() throws(VitError) -> Int {
    let outers = Set(places.compactMap { $0?.outer })
    guard outers.count == 1, let outer = outers.first else {
      throw error("holds images in different orders")
    }
    return outer
  }
}

/// What nodes do to the axis with the images: they are added anew, with operands that hold the size of the batch
/// where they held one. That the results have the wanted types is checked afterwards.
extension BatchOpener {
  struct Outcome {
    var results: [ValueID]
    /// For each result where the images are.
    var places: [AxisPlace?]
  }

  /// Adds a node to the new graph; throws where images would mix.
  mutating func apply(_ step: BatchStep) throws(VitError) -> Outcome {
    let sized = step.operands.indices.filter { holdsBatchSize(step.operands[$0]) }
    guard step.places.contains(where: { $0 != nil }) else {
      return sized.isEmpty ? try add(step, step.results.map { _ in nil }) : try applyToSize(step)
    }
    for index in sized {
      let role = step.operation.role(of: index)
      guard role == .shape || role == .setting && step.operation is any MovementOperation else {
        throw step.error("computes with the size of the batch")
      }
    }
    let outer = try step.outer()
    let map = step.operation.axes(step.old, step.results)
    if map.regroups, let place = step.places[0] { return try regroup(step, place) }
    let letter = try step.letter(map)
    var step = step
    for index in step.operands.indices {
      if let axis = letter.axis(ofOperand: index), step.places[index] == nil {
        step.operands[index] = try shared(step, index, axis, outer: outer, broadcasts: map.broadcasts)
      }
      // A shape as the file has it says for how many images it is made.
      if step.operation.role(of: index) == .shape, let axis = letter.axis(ofResult: 0),
        step.old.value(index)?.dimensions == step.results[0].shape,
        let type = opened(step.results[0], axis)
      {
        step.operands[index] = try shape(type.shape)
      }
    }
    return try add(
      step, step.results.indices.map { letter.axis(ofResult: $0).map { AxisPlace(axis: $0, outer: outer) } })
  }

  private mutating func add(_ step: BatchStep, _ places: [AxisPlace?]) throws(VitError) -> Outcome {
    let results = try builder.add(
      step.operation, step.operands, resultCount: step.results.count,
      names: step.node.results.map { old[$0].name }, location: step.node.location)
    return Outcome(results: results, places: places)
  }

  private func holdsBatchSize(_ id: ValueID?) -> Bool {
    guard let id, case .integers(_, let values)? = builder.known(id) else { return false }
    return values.contains { $0.symbols.contains(Dimension.batchName) }
  }

  /// Arithmetic of shapes with the size of the batch in it, and what is repeated for each image.
  private mutating func applyToSize(_ step: BatchStep) throws(VitError) -> Outcome {
    var outcome = try add(step, step.results.map { _ in nil })
    let map = step.operation.axes(step.old, step.results)
    for (index, id) in outcome.results.enumerated() {
      let (new, before) = (builder.graph.type(id), step.results[index])
      if builder.known(id) != nil, new == before { continue }
      let axis = before.shape.indices.first { opened(before, $0) == new }
      guard let axis, map.letter(ofResult: index, axis: axis)?.kind == .parallel else {
        throw step.error("computes with the size of the batch")
      }
      outcome.places[index] = AxisPlace(axis: axis)
    }
    return outcome
  }

  /// An operand that all images share, for any number of them: as it is where it is repeated anyway, else with what it has
  /// for one image for each.
  private mutating func shared(
    _ step: BatchStep, _ index: Int, _ axis: Int, outer: Int, broadcasts: Bool
  ) throws(VitError) -> ValueID? {
    guard let id = step.operands[index] else { return nil }
    if broadcasts, builder.graph.type(id).shape[axis] == 1, fits(id, step, index) { return id }
    guard outer == 1, let one = count == 1 ? id : try first(of: id, axis) else {
      throw step.error("has something beside the images that is not one for all")
    }
    var shape = builder.graph.type(one).shape
    guard shape[axis] == 1 else {
      let repeats = shape.indices.map { $0 == axis ? Dimension.batch : 1 }
      return try builder.add(Onnx.tile, [one, try self.shape(repeats)])
    }
    if broadcasts, fits(one, step, index) { return one }
    shape[axis] = .batch
    return try builder.add(Onnx.expand, [one, try self.shape(shape)])
  }

  /// Whether an operation takes a value as its operand: where some operands are repeated, others need not be.
  private func fits(_ id: ValueID, _ step: BatchStep, _ index: Int) -> Bool {
    var operands = step.operands
    operands[index] = id
    let types = try? step.operation.resultTypes(
      builder.operands(operands, resultCount: step.results.count))
    return types != nil
  }

  /// Of the parts, one for each image, that a constant has along an axis the first; `nil` where they are not all the same.
  private mutating func first(of id: ValueID, _ axis: Int) throws(VitError) -> ValueID? {
    guard let tensor = builder.graph.tensor(id), let part = try tensor.part(repeated: count, along: axis)
    else { return nil }
    return builder.graph.addConstant(part, name: builder.graph[id].name)
  }

  // MARK: - The same elements under other extents

  private mutating func regroup(_ step: BatchStep, _ from: AxisPlace) throws(VitError) -> Outcome {
    guard step.places.dropFirst().allSatisfy({ $0 == nil }), let source = step.old[0]?.shape else {
      throw step.error("has images in its parameters")
    }
    let target = step.results[0].shape
    let places = from.regrouped(from: source, to: target, count: .fixed(count))
    if !hasExplicitCount(step, places) {
      let types = try? step.operation.resultTypes(builder.operands(step.operands))
      if let place = places.first(where: { opened(step.results[0], $0.axis) == types?.first }) {
        return try add(step, [place])
      }
    }
    guard let place = best(places, from, source, target) else {
      throw step.error("mixes images with other axes")
    }
    var extents: [Int] = []
    for (index, extent) in target.enumerated() {
      guard let number = index == place.axis ? -1 : extent.fixedValue else {
        throw step.error("has an extent that is not known: \(extent)")
      }
      extents.append(number)
    }
    let result = try builder.add(
      try builder.registry.make(Onnx.reshape.name), [step.operands[0], builder.integers(extents)],
      names: [old[step.node.results[0]].name])
    return Outcome(results: result, places: [place])
  }

  /// Of the places where the images may be, an axis of their own; else the one they had; then the end of the axis before
  /// what each image has, where that is no more axes than it was (a new axis beside the images would be heads, which go with
  /// them); then the start of an axis.
  private func best(
    _ places: [AxisPlace], _ from: AxisPlace, _ source: Shape, _ target: Shape
  ) -> AxisPlace? {
    let behind = source[(from.axis + 1)...]
    let part = source[from.axis].exactlyDivided(by: .fixed(from.outer * count)) ?? source[from.axis]
    let image = (part == 1 ? [] : [part]) + behind
    let own = places.first { $0.outer == 1 && target[$0.axis] == .fixed(count) }
    let same = places.first { $0.outer == from.outer && target[$0.axis...] == source[from.axis...] }
    let merged = places.first { place in
      let after = target[(place.axis + 1)...]
      return after.count <= image.count && after.reduce(.fixed(1), *) == image.reduce(.fixed(1), *)
    }
    return own ?? same ?? merged ?? places.first { $0.outer == 1 } ?? places.last
  }

  /// Whether a shape as the file gives it has the number of images where they could be.
  private func hasExplicitCount(_ step: BatchStep, _ places: [AxisPlace]) -> Bool {
    guard step.operation.role(of: 1) == .shape, let shape = step.old.value(1)?.integers else { return false }
    return places.contains { $0.outer == 1 && $0.axis < shape.count && shape[$0.axis] == count }
  }
}

extension Tensor {
  /// What lies `count` times, one behind the other, along an axis; `nil` where the parts are not the same, bit by bit.
  fileprivate func part(repeated count: Int, along axis: Int) throws(VitError) -> Tensor? {
    guard shape[axis] > 0, shape[axis] % count == 0, !isElided else { return nil }
    var part = shape
    part[axis] = shape[axis] / count
    let size = part[axis...].reduce(element.size, *)
    let blocks = shape[..<axis].reduce(1, *)
    do {
      return try storage.withBytes { all in
        func bytes(_ block: Int, _ copy: Int) -> UnsafeRawBufferPointer {
          let start = (block * count + copy) * size
          return UnsafeRawBufferPointer(rebasing: all[start..<start + size])
        }
        for block in 0..<blocks {
          let first = bytes(block, 0)
          for copy in 1..<count where !first.elementsEqual(bytes(block, copy)) { return nil }
        }
        return try Tensor(element, shape: part) { target in
          for block in 0..<blocks {
            UnsafeMutableRawBufferPointer(rebasing: target[block * size..<(block + 1) * size])
              .copyMemory(from: bytes(block, 0))
          }
        }
      }
    } catch { throw VitError(error) }
  }
}
