internal import CVitTestSupport
import Testing
import VitIR
import VitPasses
import VitTestSupport
import Vitc

@Suite("Sessions") struct SessionTests {
  /// Memory for a tensor, alive as long as it is held: where only its view is used at last, its lifetime is extended.
  private final class Memory {
    let view: View

    init(_ type: ElementType, _ shape: [Int]) {
      let count = shape.reduce(1, *)
      view = View(
        base: .allocate(byteCount: count * type.size, alignment: 64), element: type, shape: shape)
      view.zero()
    }

    deinit { view.base.deallocate() }
  }

  private func teacher() throws -> Model { try Model(contentsOf: Fixture.path("teacher/fashion-vit.onnx")) }

  private func image(_ seed: UInt64, batch: Int = 1) throws -> Tensor {
    var random = SplitMix(seed: seed)
    return Tensor(
      .f32, shape: [batch, 1, 28, 28], values: (0..<batch * 784).map { _ in random.normal() })
  }

  @Test(
    "a second run into the caller's memory allocates nothing",
    .enabled(if: Build.isRelease, "what is not optimised allocates"), arguments: ["none", "glr", "lstm"])
  func allocations(mixer: String) throws {
    var model = try teacher()
    if mixer != "none" {
      model = try Pipeline("swap{layers=[1,2],mixer=\(mixer)}").run(on: model)
    }
    let session = try Session(model, threads: 1)
    let input = Memory(.f32, [2, 1, 28, 28])
    let output = Memory(.f32, [2, 10])
    defer { withExtendedLifetime((input, output)) {} }
    try session.run([input.view], into: [output.view])
    let (inputs, outputs) = ([input.view], [output.view])
    let before = vit_test_allocations()
    try session.run(inputs, into: outputs)
    #expect(vit_test_allocations() - before == 0)
  }

  @Test(
    "a second run of a recurrence and of a batch norm allocates nothing",
    .enabled(if: Build.isRelease, "what is not optimised allocates"))
  func ownScratch() throws {
    var builder = GraphBuilder(Graph(name: "recurrent"), registry: .vitc)
    func numbers(_ shape: [Int], _ name: String) -> ValueID {
      let values = (0..<shape.reduce(1, *)).map { 0.1 + 0.01 * Double($0 % 7) }
      return builder.constant(values, shape: shape, name: name)
    }
    let x = builder.graph.addInput(TensorType(.f32, [5, 3, 4]), name: "x")
    let parameters = ["scale", "shift", "mean", "variance"].map { numbers([3], $0) }
    let seen = try builder.add("onnx.BatchNormalization", [x] + parameters)
    let lstm = try builder.registry.make(
      "onnx.LSTM", Attributes([("direction", .string("bidirectional")), ("hidden_size", .int(6))]))
    let states = try builder.add(
      lstm,
      [
        seen, numbers([2, 24, 4], "W"), numbers([2, 24, 6], "R"), numbers([2, 48], "B"), nil, nil, nil,
        numbers([2, 18], "P"),
      ], resultCount: 3)
    builder.graph.outputs = states.enumerated().map { ("y\($0.offset)", $0.element) }
    let session = try Session(Model(builder.graph), threads: 1)
    let input = Memory(.f32, [5, 3, 4])
    let results = [Memory(.f32, [5, 2, 3, 6]), Memory(.f32, [2, 3, 6]), Memory(.f32, [2, 3, 6])]
    defer { withExtendedLifetime((input, results)) {} }
    let (inputs, outputs) = ([input.view], results.map(\.view))
    try session.run(inputs, into: outputs)
    let before = vit_test_allocations()
    try session.run(inputs, into: outputs)
    #expect(vit_test_allocations() - before == 0)
  }

  @Test("outputs in the caller's memory are those that are returned, and must fit") func callersMemory()
    throws
  {
    let session = try Session(teacher(), threads: 1)
    let image = try image(1)
    let returned = try session.run(image)
    let (input, output) = (Memory(.f32, [1, 1, 28, 28]), Memory(.f32, [1, 10]))
    defer { withExtendedLifetime((input, output)) {} }
    try image.copy(to: input.view)
    try session.run([input.view], into: [output.view])
    #expect(try Tensor(copying: output.view).floats() == returned.floats())
    let narrow = Memory(.f32, [1, 9])
    defer { withExtendedLifetime(narrow) {} }
    #expect(throws: VitError.self) { try session.run([input.view], into: [narrow.view]) }
    #expect(throws: VitError.self) { try session.run([input.view], into: []) }
  }

  @Test("runs from several threads at once give the bits of runs one after another") func concurrent()
    async throws
  {
    let session = try Session(teacher(), threads: 2)
    let images = try (0..<8).map { try image(UInt64($0), batch: 1 + $0 % 2) }
    let expected = try images.map { try session.run($0).floats() }
    let found = try await withThrowingTaskGroup(of: (Int, [Float]).self) { group in
      for round in 0..<3 {
        for (index, image) in images.enumerated() {
          group.addTask { (round * 8 + index, try session.run(image).floats()) }
        }
      }
      var found = [[Float]](repeating: [], count: 24)
      for try await (index, floats) in group { found[index] = floats }
      return found
    }
    for (index, floats) in found.enumerated() { #expect(floats == expected[index % 8]) }
  }

  @Test("weights are packed once, whatever batches are met, and for all sessions of a model") func sharing()
    throws
  {
    let model = try teacher()
    let first = try Session(model, threads: 1)
    _ = try first.run(image(1))
    let once = first.weightByteCount
    #expect(once > 0)
    for batch in 2...5 { _ = try first.run(image(1, batch: batch)) }
    #expect(first.weightByteCount == once)
    let second = try Session(model, threads: 1)
    #expect(second.weightByteCount == once)
    let changed = Model(model.graph)
    #expect(try Session(changed, threads: 1).weightByteCount == 0)
  }
}
