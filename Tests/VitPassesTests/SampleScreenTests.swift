import Testing
import VitIR
import VitPasses

/// Random samples, of which some make every output a NaN: those at `lost`, and of the augmented ones those whose number is
/// divisible by `lostVariants`.
private struct SpoiltSamples: SampleSource {
  var good: RandomSamples
  var lost: Set<Int> = []
  var lostVariants: UInt64?

  var count: Int { good.count }
  var shape: [Int] { good.shape }
  func label(_ index: Int) -> Int? { good.label(index) }
  func name(of index: Int) -> String { "picture \(index)" }

  func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) throws {
    try good.read(index, variant: variant, into: target)
    let isLostVariant =
      lostVariants.flatMap { divisor in variant.map { $0.isMultiple(of: divisor) } } ?? false
    if lost.contains(index) || isLostVariant { target[5] = .nan }
  }
}

@Suite("Samples for which the teacher gives no numbers") struct SampleScreenTests {
  private static let steps = [
    "score{images=36}", "swap{layers=all}", "distil{steps=6,batch=8}", "select{by=damage,count=1}", "restore",
    "fine-tune{steps=6,batch=8}",
  ]

  private final class Reports {
    var messages: [String] = []
    /// The numbers of the pictures that were named, sorted.
    var named: [Int] {
      let words = messages.filter { $0.contains("gives no numbers") }.joined(separator: " ")
        .split(whereSeparator: { "' ,".contains($0) })
      return zip(words, words.dropFirst()).compactMap { $0 == "picture" ? Int($1) : nil }.sorted()
    }
  }

  private func context(
    lost: Set<Int> = [], variants: UInt64? = nil, heldOut: Set<Int> = [], threads: Int = 1, _ reports: Reports
  ) throws -> PassContext {
    let context = TinyViT.context(threads: threads)
    context.data = SpoiltSamples(
      good: RandomSamples(count: 40, shape: TinyViT.shape, seed: 3), lost: lost,
      lostVariants: variants)
    context.heldOut = SpoiltSamples(
      good: RandomSamples(count: 20, shape: TinyViT.shape, seed: 4), lost: heldOut)
    context.report = { reports.messages.append($0.message) }
    return context
  }

  @Test("steps of their own leave out what one pipeline leaves out, and come to the same weights")
  func inSteps() throws {
    let teacher = try TinyViT.model()
    let reports = Reports()
    let whole = try apply(
      Self.steps.joined(separator: ","), to: teacher, context(lost: [2, 11, 30], heldOut: [0], reports))
    var parts = teacher
    parts.teacher = Teacher(teacher)
    for step in Self.steps {
      let context = try context(lost: [2, 11, 30], heldOut: [0], threads: 2, Reports())
      parts = try apply(step, to: parts, context)
    }
    #expect(try whole.weightBytes() == parts.weightBytes())
    #expect(whole.layers == parts.layers)
    #expect(reports.named == [0, 2, 11, 30])
    #expect(try whole.graph.tensors.names.allSatisfy { try whole.graph.tensors[$0]?.isFinite() == true })
    #expect(whole.layers.allSatisfy { $0.scores["entropy"] != nil && $0.scores["drop"] != nil })
  }

  @Test(
    "a sample that is left out gives way to the next: the weights are those of data in which it is the next")
  func nextSample() throws {
    struct Doubled: SampleSource {
      var base: SpoiltSamples
      var count: Int { base.count }
      var shape: [Int] { base.shape }
      func label(_ index: Int) -> Int? { base.label(index) }
      func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) throws {
        try base.read(index == 11 ? 12 : index, variant: index == 11 ? nil : variant, into: target)
      }
    }
    let teacher = try TinyViT.model()
    let pipeline = "swap{layers=all},distil{steps=8,batch=8}"
    let spoilt = try apply(pipeline, to: teacher, context(lost: [11], Reports())).weightBytes()
    let other = try context(Reports())
    other.data = Doubled(base: SpoiltSamples(good: RandomSamples(count: 40, shape: TinyViT.shape, seed: 3)))
    #expect(try apply(pipeline, to: teacher, other).weightBytes() == spoilt)
    #expect(try apply(pipeline, to: teacher, context(Reports())).weightBytes() != spoilt)
  }

  @Test("an augmented version that is lost gives way to the sample itself, which nobody misses")
  func variants()
    throws
  {
    let reports = Reports()
    let context = try context(variants: 3, reports)
    let hybrid = try apply(
      "swap{layers=all},distil{steps=4,batch=8},fine-tune{steps=2,batch=8,rate=0.001}",
      to: try TinyViT.model(), context)
    #expect(reports.named.isEmpty)
    #expect(try hybrid.graph.tensors.names.allSatisfy { try hybrid.graph.tensors[$0]?.isFinite() == true })
    #expect(hybrid.layers.allSatisfy { $0.candidates.last?.divergence == nil })
  }

  @Test("what was left out before a stop is known when the work goes on") func resumes() throws {
    let hybrid = try apply("swap{layers=all}", to: try TinyViT.model(), context(Reports()))
    let tuning = "fine-tune{steps=8,batch=8,rate=0.001}"
    let whole = Reports()
    _ = try apply(tuning, to: hybrid, context(lost: [2, 11, 30], whole))
    #expect(whole.named == [2, 11, 30])
    let store = MemoryStore()
    var named: [Int] = []
    for stop in [true, false] {
      let reports = Reports()
      let context = try context(lost: [2, 11, 30], reports)
      context.checkpoint = store
      let flag = Flag()
      context.progress = { _, done, _, _ in if stop, done == 7 { flag.set() } }
      context.isCancelled = { flag.isSet }
      do { _ = try apply(tuning, to: hybrid, context) } catch let error as VitError {
        #expect(stop && error.kind == .interrupted)
      }
      named = reports.named
    }
    #expect(named == [2, 11, 30])
  }

  @Test(
    "more than a tenth of them is an error that names them",
    arguments: ["score{images=16,drop=false}", "swap{layers=all},distil{steps=4,batch=8}"])
  func tooMany(pipeline: String) throws {
    let error = #expect(throws: VitError.self) {
      _ = try apply(pipeline, to: try TinyViT.model(), context(lost: [0, 1, 2, 3, 4], Reports()))
    }
    #expect(error?.diagnostic.code == "non-finite-samples")
    #expect(error?.diagnostic.message.contains("'picture 3'") == true, "\(String(describing: error))")
  }

  @Test("of a part of the data a tenth of that part counts") func tooManyOfThoseSeen() throws {
    let error = #expect(throws: VitError.self) {
      _ = try apply(
        "score{images=16,drop=false}", to: try TinyViT.model(), context(lost: [3, 7], Reports()))
    }
    #expect(error?.diagnostic.message.contains("2 of 16 samples") == true, "\(String(describing: error))")
  }
}
