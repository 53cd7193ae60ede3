import Testing
import VitIR
import VitOps
import VitTestSupport

@Suite("Quantised operators")
struct QuantisedTests {
  static let fixtures = OnnxFixture.load("quantised.json")

  @Test("the fixtures are there")
  func fixturesLoad() { #expect(Self.fixtures.count > 40) }

  @Test("results are ONNX Runtime's", arguments: fixtures)
  func matchesReference(_ fixture: OnnxFixture) throws {
    let difference = try fixture.difference(try fixture.makeCase().run())
    #expect(difference <= fixture.tol)
  }

  @Test("gradients are central differences'", arguments: fixtures.filter(\.grad))
  func matchesDifferences(_ fixture: OnnxFixture) throws {
    #expect(try fixture.makeCase().gradientError() < 1e-6)
  }

  @Test("attributes read back what they print", arguments: fixtures)
  func attributesRoundTrip(_ fixture: OnnxFixture) throws {
    let operation = try fixture.makeCase().operation
    let again = try Registry.standard.make(type(of: operation).name, operation.attributes)
    #expect(again.attributes == operation.attributes)
  }

  @Test("the softmax of quantised numbers counts in whole steps to one, as ONNX Runtime does")
  func softmaxSteps() throws {
    let operation = try Registry.standard.make(
      "com.microsoft.QLinearSoftmax", Attributes([("axis", .int(-1)), ("opset", .int(13))]))
    func scalar(_ element: ElementType, _ value: Double) -> Tensor {
      Tensor(element, shape: [], values: [value])
    }
    let inputs = [
      Tensor(.u8, shape: [1, 3], values: [200, 190, 100]), scalar(.f32, 0.05), scalar(.u8, 0),
      scalar(.f32, 0.0073), scalar(.u8, 0),
    ]
    let result = try OpCase(operation, inputs: inputs).run()[0]
    // e^0 and e^-0.5 over their sum, in 136 steps, not in 136.99.
    #expect(try result.doubles() == [84, 51, 1])
  }
}
