import Testing
import VitIR
import VitOps
import VitTestSupport

/// What an operation declares of its axes and operands, held against what it computes.
@Suite("Axes of operations")
struct AxisTests {
  /// An operation on operands, from whichever fixtures have it.
  struct Sample: Sendable, CustomStringConvertible {
    let name: String
    let make: @Sendable () throws -> OpCase

    var description: String { name }
  }

  static let samples: [Sample] =
    ["compute", "attention", "movement", "quantised", "spatial", "recurrent"].flatMap {
      OnnxFixture.load($0 + ".json")
    }.map { fixture in Sample(name: "\(fixture)") { try fixture.makeCase() } }
    + VitFixture.all.map { fixture in
      Sample(name: fixture.name) {
        try OpCase(fixture.operation, fixture.attributes, inputs: fixture.operands)
      }
    }
    + OpProblem.all.flatMap { problem in
      Extents.allCases.map { extents in
        Sample(name: "\(problem.name), \(extents)") { try problem.makeCase(extents) }
      }
    }
    + [
      Sample(name: "onnx.GatherND with batch axes") {
        try OpCase(
          "onnx.GatherND", [("batch_dims", .int(1))],
          inputs: [.random([3, 4, 5], seed: 1), Tensor(shape: [3, 2, 1], integers: [0, 3, 1, 1, 2, 0])])
      },
      Sample(name: "onnx.ScatterElements of all rows") {
        try OpCase(
          "onnx.ScatterElements", [("axis", .int(1))],
          inputs: [
            .random([3, 4], seed: 1), Tensor(shape: [3, 2], integers: [0, 3, 1, 2, 2, 0]),
            .random([3, 2], seed: 2),
          ])
      },
    ]

  /// The operations of which no entries run side by side, and why.
  private static let mixing: [String: String] = [
    "com.microsoft.RelativePositionBias": "its numbers depend on their places",
    "onnx.DynamicQuantizeLinear": "one step for all numbers",
    "onnx.EyeLike": "its numbers depend on their places",
    "onnx.NonZero": "how many results there are depends on all numbers",
    "onnx.Range": "its numbers depend on their places",
    "onnx.Shape": "it reads no numbers",
    "onnx.Size": "it reads no numbers",
  ]

  private func map(_ sample: OpCase) throws -> (AxisMap, [TensorType]) {
    let known = sample.inputs.enumerated().map { index, tensor -> KnownValue? in
      guard let tensor, !tensor.element.isFloat || sample.constantOperands.contains(index) else { return nil }
      return .tensor(tensor)
    }
    let operands = Operands(
      sample.inputs.map { $0?.type.computed }, values: known, resultCount: sample.resultCount)
    let types = try sample.operation.resultTypes(operands)
    return (sample.operation.axes(operands, types), types)
  }

  /// The tensor with the entries `order` of an axis, each once after every `outer`-th part of it.
  private func selected(_ tensor: Tensor, _ axis: Int, _ order: [Int], outer: Int = 1) throws -> Tensor {
    let values = try tensor.doubles()
    let before = tensor.shape[..<axis].reduce(1, *) * outer
    let inner = order.isEmpty ? 0 : tensor.count / max(1, before * order.count)
    var result: [Double] = []
    for part in 0..<before {
      for entry in order {
        let start = (part * order.count + entry) * inner
        result += values[start..<start + inner]
      }
    }
    return Tensor(tensor.element, shape: tensor.shape, values: result)
  }

  /// The last entry, the first twice, then the others, without the one that no longer has room.
  private func order(_ count: Int) -> [Int] { Array(([count - 1, 0] + Array(0..<count)).prefix(count)) }

  private func extent(_ letter: AxisMap.Letter, _ sample: OpCase, _ types: [TensorType]) -> Int {
    for (index, axis) in letter.operands.enumerated() {
      if let axis, let tensor = sample.inputs[index] { return tensor.shape[axis] }
    }
    for (type, axis) in zip(types, letter.results) {
      if let axis { return type.extents[axis] }
    }
    return 0
  }

  private func again(_ sample: OpCase, _ inputs: [Tensor?]) throws -> [Tensor] {
    try OpCase(
      sample.operation, inputs: inputs, resultCount: sample.resultCount,
      constantOperands: sample.constantOperands
    ).run()
  }

  /// How often the map of a case was tried with more than one entry.
  @discardableResult
  private func check(_ sample: OpCase) throws -> Int {
    let (map, types) = try map(sample)
    let plain = try sample.run()
    var tried = 0
    for letter in map.letters where letter.kind == .parallel {
      #expect(letter.results.count == types.count && letter.results.allSatisfy { $0 != nil })
      let count = extent(letter, sample, types)
      guard count > 1 else { continue }
      let order = order(count)
      var inputs = sample.inputs
      for (index, axis) in letter.operands.enumerated() {
        guard let axis, let tensor = inputs[index] else { continue }
        try #require(tensor.shape[axis] == count, "operand \(index) of \(letter)")
        inputs[index] = try selected(tensor, axis, order)
      }
      let results = try again(sample, inputs)
      for ((before, after), axis) in zip(zip(plain, results), letter.results) {
        guard let axis else { continue }
        #expect(before.shape[axis] == count)
        let difference = try relativeDifference(after, selected(before, axis, order), floor: 1e-3)
        #expect(difference < 1e-5, "\(letter)")
      }
      tried += 1
    }
    if map.regroups, let data = sample.inputs[0] {
      for (axis, count) in data.shape.enumerated() where count > 1 {
        let places = AxisPlace(axis: axis).regrouped(
          from: data.type.shape, to: types[0].shape, count: .fixed(count))
        for place in places {
          var inputs = sample.inputs
          inputs[0] = try selected(data, axis, order(count))
          let wanted = try selected(plain[0], place.axis, order(count), outer: place.outer)
          #expect(try relativeDifference(again(sample, inputs)[0], wanted) == 0, "\(axis) at \(place)")
          tried += 1
        }
      }
    }
    return tried
  }

  @Test(
    "changing and repeating entries along a declared axis commutes with the operation", arguments: samples)
  func commutes(_ sample: Sample) throws { try check(sample.make()) }

  @Test("every operation's axes were tried, or it is known to mix everything")
  func covered() throws {
    var tried: [String: Int] = [:]
    for sample in Self.samples {
      let sample = try sample.make()
      let (map, types) = try map(sample)
      let counts = map.letters.filter { $0.kind == .parallel && extent($0, sample, types) > 1 }.count
      tried[type(of: sample.operation).name, default: 0] += counts + (map.regroups ? 1 : 0)
    }
    for operation in Registry.standard.operations {
      let isMixing = Self.mixing[operation.name] != nil
      #expect((tried[operation.name, default: 0] > 0) != isMixing, "\(operation.name)")
    }
  }

  @Test("ranges of a movement hold the operand's entries", arguments: samples)
  func ranges(_ sample: Sample) throws {
    let sample = try sample.make()
    guard sample.operation is any MovementOperation else { return }
    let (map, types) = try map(sample)
    let plain = try sample.run()
    // Along one axis only: else entries lack what another cut away.
    let cuts = map.letters.filter { $0.kind == .ranges }
    guard cuts.count == 1, map.letters.count >= types[0].rank else { return }
    for letter in cuts {
      for (index, axis) in letter.operands.enumerated() {
        guard let axis, let operand = sample.inputs[index] else { continue }
        let first = letter.operandStarts[index].fixedValue ?? 0
        for (result, place) in letter.results.enumerated() {
          let start = letter.resultStarts[result].fixedValue ?? 0
          let extent = place.map { types[result].extents[$0] } ?? 1
          for entry in max(first, start)..<min(first + operand.shape[axis], start + extent) {
            let moved = try entries(operand, axis, entry - first)
            let found =
              try place.map { try entries(plain[result], $0, entry - start) } ?? plain[result].doubles()
            #expect(moved == found, "entry \(entry) of \(letter)")
          }
        }
      }
    }
  }

  private func entries(_ tensor: Tensor, _ axis: Int, _ entry: Int) throws -> [Double] {
    let values = try tensor.doubles()
    let inner = tensor.shape[(axis + 1)...].reduce(1, *)
    return values.indices.filter { $0 / inner % tensor.shape[axis] == entry }.map { values[$0] }
  }

  @Test("what an operation is said to be identical to is what it gives", arguments: samples)
  func identity(_ sample: Sample) throws {
    let sample = try sample.make()
    let known = sample.inputs.map { $0.map(KnownValue.tensor) }
    let operands = Operands(
      sample.inputs.map { $0?.type.computed }, values: known, resultCount: sample.resultCount)
    let types = try sample.operation.resultTypes(operands)
    guard let index = sample.operation.identity(operands, types), operands[index] == types[0],
      let operand = sample.inputs[index]
    else { return }
    #expect(try sample.run()[0].doubles() == operand.doubles())
  }
}
