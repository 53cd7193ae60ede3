import Testing
import VitIR
import VitOps
import VitTestSupport

@Suite("Quantised operators")
struct QuantisedTests {
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
