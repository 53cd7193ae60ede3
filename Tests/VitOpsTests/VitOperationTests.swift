import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

@Suite("vit.* operations against PyTorch")
struct VitOperationTests {
  private func narrowed(_ fixture: VitFixture, constants: Bool = false) throws -> OpCase {
    let inputs = try fixture.operands.map { tensor in
      try tensor.map { Tensor(.f32, shape: $0.shape, values: try $0.doubles()) }
    }
    return try OpCase(
      fixture.operation, fixture.attributes, inputs: inputs,
      constantOperands: constants ? Set(1..<inputs.count) : [])
  }

  @Test("results in double agree to 1e-12", arguments: VitFixture.all)
  func resultsInDouble(_ fixture: VitFixture) throws {
    let test = try OpCase(fixture.operation, fixture.attributes, inputs: fixture.operands)
    #expect(try relativeDifference(test.run()[0], fixture.result) < 1e-12)
    #expect(try relativeDifference(test.run(training: true)[0], fixture.result) < 1e-12)
  }

  @Test("results in single agree to 1e-5, with constant weights too", arguments: VitFixture.all)
  func resultsInSingle(_ fixture: VitFixture) throws {
    let plain = try narrowed(fixture)
    #expect(try relativeDifference(plain.run()[0], fixture.result) < 1e-5)
    #expect(try relativeDifference(plain.run(training: true)[0], fixture.result) < 1e-5)
    #expect(try relativeDifference(narrowed(fixture, constants: true).run()[0], fixture.result) < 1e-5)
  }

  @Test("gradients in double agree to 1e-10", arguments: VitFixture.all)
  func gradientsInDouble(_ fixture: VitFixture) throws {
    let found = try gradients(fixture, element: .f64, pool: SerialPool())
    for (gradient, expected) in zip(found, fixture.gradients) {
      guard let gradient, let expected else { continue }
      // A bias of keys has the gradient zero, up to rounding.
      #expect(try relativeDifference(gradient, expected, floor: 1e-3) < 1e-10)
    }
  }

  @Test("gradients in single agree to 1e-4", arguments: VitFixture.all)
  func gradientsInSingle(_ fixture: VitFixture) throws {
    let found = try gradients(fixture, element: .f32, pool: SerialPool())
    for (gradient, expected) in zip(found, fixture.gradients) {
      guard let gradient, let expected else { continue }
      #expect(try relativeDifference(gradient, expected, floor: 1) < 1e-4)
    }
  }

  /// Gates at ±30 have slopes that differences cannot see.
  @Test(
    "gradients agree with central differences",
    arguments: VitFixture.all.filter { !$0.name.hasSuffix("saturated") })
  func centralDifferences(_ fixture: VitFixture) throws {
    // The gradient of a bias of keys is zero, which differences miss by their own rounding.
    let constants: Set<Int> = fixture.operation == "vit.attention" ? [4] : []
    let test = try OpCase(
      fixture.operation, fixture.attributes, inputs: fixture.operands, constantOperands: constants)
    #expect(try test.gradientError(samples: 20) < 1e-7)
  }

  @Test("one thread and two give the same bits", arguments: VitFixture.all)
  func sameBitsOnTwoThreads(_ fixture: VitFixture) throws {
    let (one, two) = (SerialPool(), ThreadPool(threads: 2))
    let test = try narrowed(fixture)
    #expect(try relativeDifference(test.run(pool: one)[0], test.run(pool: two)[0]) == 0)
    let alone = try gradients(fixture, element: .f32, pool: one)
    let together = try gradients(fixture, element: .f32, pool: two)
    for case let (a?, b?) in zip(alone, together) { #expect(try relativeDifference(a, b) == 0) }
  }

  private func gradients(_ fixture: VitFixture, element: ElementType, pool: any WorkPool) throws -> [Tensor?]
  {
    try operandGradients(
      of: Registry.standard.make(fixture.operation, Attributes(fixture.attributes)), fixture.operands,
      upstream: fixture.upstream, element: element, pool: pool)
  }
}
