import Testing
import VitIR
import VitPasses
import VitTestSupport
import Vitc

@Suite("What a search makes", .enabled(if: Build.isRelease, "this is a debug build")) struct SearchTests {
  private func teacher() throws -> Model { try Model(contentsOf: Fixture.path("teacher/fashion-vit.onnx")) }

  /// A short compile that takes channels alone, and is not trained.
  private func channelsAlone(_ drop: Double) -> CompilerOptions {
    var options = CompilerOptions()
    (options.replace, options.maximumDrop, options.fineTuneSteps) = (.count(0), drop, 0)
    (options.timeBudget, options.heldOut, options.evaluationImages) = (1, 8, 8)
    options.isReproducible = true
    return options
  }

  @Test("a file of at most so many bytes: weights go until it has no more, or nothing is written")
  func bytes()
    throws
  {
    let teacher = try teacher()
    let data = try Samples("synthetic:40", for: teacher, purpose: .calibration, report: { _ in })
    let folder = try Scratch()
    let path = folder.file("out.vmod")
    var options = channelsAlone(100)
    options.target = .bytes(1_000_000)
    let result = try Compiler(options).compile(teacher, data, to: path)
    let count = try Model(contentsOf: path).byteCount
    #expect(count <= 1_000_000 && count > 700_000 && result.report.hybrid.bytes == count)
    options.target = .bytes(170_000)
    options.maximumDrop = 0
    let error = #expect(throws: VitError.self) {
      try Compiler(options).compile(teacher, data, to: folder.file("none.vmod"))
    }
    #expect(error?.kind == .check && error?.diagnostic.code == "target-unreachable")
    #expect(throws: VitError.self) { try Model(contentsOf: folder.file("none.vmod")) }
    options.target = .bytes(100_000)
    #expect(throws: VitError.self) { try Compiler(options) }
    options.target = .bytes(1 << 30)
    options.cost = .flops
    #expect(throws: VitError.self) { try Compiler(options) }
  }

  @Test(
    "models of other points are handed over, smaller and smaller, each with a pipeline that makes it again")
  func others() throws {
    let teacher = try teacher()
    let data = try Samples("synthetic:40", for: teacher, purpose: .calibration, report: { _ in })
    let folder = try Scratch()
    var options = channelsAlone(100)
    (options.makesOthers, options.cost) = (true, .flops)
    var others: [Compiler.Compilation] = []
    try Compiler(options).compile(teacher, data, to: folder.file("out.vmod"), other: { others.append($0) })
    #expect(others.count > 1)
    for (large, small) in zip(others, others.dropFirst()) {
      #expect(small.report.hybrid.flops < large.report.hybrid.flops)
    }
    let last = try #require(others.last)
    let text = try #require(last.report.found)
    #expect(!text.contains("by=auto") && !text.contains("fine-tune"))
    var again = options
    (again.pipeline, again.makesOthers) = (try Pipeline(text), false)
    let same = try Compiler(again).compile(teacher, data)
    #expect(try same.model.graph.firstDifference(from: last.model.graph) == nil)
    options.select = .damage
    #expect(throws: VitError.self) { try Compiler(options) }
  }
}
