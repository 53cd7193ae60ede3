internal import CVitKernels
import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

/// Every operation, at every size, through everything that may be done with it.
@Suite("the matrix of operations")
struct OpMatrixTests {
  /// Fails with the sizes in the text, so that a failure can be run again.
  private func each(
    _ problem: OpProblem, constants: Bool = false, _ check: (OpCase) throws -> Double, below bound: Double
  ) {
    for extents in Extents.allCases {
      do {
        let difference = try check(try problem.makeCase(extents, constants: constants))
        #expect(difference <= bound, "\(problem.name), \(extents)")
      } catch { Issue.record("\(problem.name), \(extents): \(error)") }
    }
  }

  private func difference(_ a: [Tensor], _ b: [Tensor]) throws -> Double {
    guard a.count == b.count else { return .infinity }
    return try zip(a, b).reduce(0) { max($0, try relativeDifference($1.0, $1.1, floor: 1e-3)) }
  }

  @Test("there are problems for each registered operation, and for no other")
  func everyOperationHasProblems() {
    #expect(OpProblem.all.map(\.name).sorted() == Registry.standard.operations.map { $0.name })
  }

  @Test("single precision keeps up with double", arguments: OpProblem.all)
  func precision(_ problem: OpProblem) {
    guard let bound = problem.precision else { return }
    each(problem, { try difference($0.run(), $0.inDouble.run()) }, below: bound)
  }

  @Test(
    "a run that may be followed by gradients gives the same, and so do constant operands",
    arguments: OpProblem.all)
  func modes(_ problem: OpProblem) {
    each(problem, { try difference($0.run(training: true), $0.run()) }, below: 1e-5)
    for extents in Extents.allCases {
      do {
        let inputs = try problem.makeCase(extents).run()
        let constants = try problem.makeCase(extents, constants: true).run()
        #expect(try difference(constants, inputs) <= 1e-5, "\(problem.name), \(extents)")
      } catch { Issue.record("\(problem.name), \(extents): \(error)") }
    }
  }

  @Test("gradients are central differences'", arguments: OpProblem.all)
  func gradients(_ problem: OpProblem) {
    each(
      problem,
      { test in
        guard test.operation.isDifferentiable else { return 0 }
        return try test.gradientError(samples: 12, floor: 1e-3, results: problem.followed)
      }, below: 2e-6)
  }

  @Test("all levels of the instruction set agree", arguments: OpProblem.all)
  func levels(_ problem: OpProblem) {
    each(
      problem, constants: true,
      { test in
        defer { vk_cap_thread_level(-1) }
        vk_cap_thread_level(Int32(VK_BASE))
        let base = try test.run()
        return try [VK_AVX2, VK_AVX512].reduce(0) { worst, level in
          vk_cap_thread_level(Int32(level))
          return max(worst, try difference(test.run(), base))
        }
      }, below: problem.agreement)
  }

  @Test("the number of threads changes no bit", arguments: OpProblem.all)
  func threads(_ problem: OpProblem) {
    each(problem, { try difference($0.run(pool: ThreadPool(threads: 3)), $0.run()) }, below: 0)
  }

  @Test("the textual form reads back as what it was, and computes the same bits", arguments: OpProblem.all)
  func text(_ problem: OpProblem) {
    each(problem, constants: true, { try difference($0.runThroughText(), $0.run()) }, below: 0)
  }

  @Test("a .vmod file computes the same bits", arguments: OpProblem.all)
  func file(_ problem: OpProblem) throws {
    let scratch = try Scratch()
    each(problem, constants: true, { try difference($0.runThroughFile(scratch), $0.run()) }, below: 0)
  }

  /// Constants of 32 bits, as `element` rounds them: stored so, and stored in 32 bits.
  private func rounded(_ test: OpCase, _ element: ElementType) throws -> (narrow: OpCase, wide: OpCase) {
    var (narrow, wide) = (test.inputs, test.inputs)
    for index in test.constantOperands.sorted() {
      guard let tensor = test.inputs[index], tensor.element == .f32 else { continue }
      let stored = Tensor(element, shape: tensor.shape, values: try tensor.doubles())
      narrow[index] = stored
      wide[index] = Tensor(.f32, shape: tensor.shape, values: try stored.doubles())
    }
    func made(_ inputs: [Tensor?]) -> OpCase {
      OpCase(
        test.operation, inputs: inputs, resultCount: test.resultCount, constantOperands: test.constantOperands
      )
    }
    return (made(narrow), made(wide))
  }

  @Test(
    "weights stored in 16 bits compute, packed or not, the bits that the same numbers in 32 bits do, bfloat16 where the processor is not faster in it",
    arguments: OpProblem.all, [ElementType.f16, .bf16])
  func storage(_ problem: OpProblem, element: ElementType) {
    each(
      problem, constants: true,
      { test in
        let (narrow, wide) = try rounded(test, element)
        let found = try narrow.run()
        #expect(try difference(narrow.run(pool: ThreadPool(threads: 2)), found) == 0)
        return try difference(found, wide.run())
      }, below: element == .bf16 && Machine.isFasterInBrainFloats ? 0.02 : 0)
  }

  @Test("lowered to ONNX operators it computes the same", arguments: OpProblem.all)
  func lowering(_ problem: OpProblem) {
    each(problem, { try difference($0.runLowered(), $0.run()) }, below: 1e-5)
  }
}
