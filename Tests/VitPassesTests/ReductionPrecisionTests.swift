import Testing
import VitIR
import VitOps
import VitPasses
import VitTestSupport

@Suite("the time of what is chosen is that of its precision")
struct ReductionPrecisionTests {
  /// The points of a search on a teacher, from the whole of it on.
  private func points(_ precision: Precision, cost: Reduction.Cost = .time) throws -> [Reduction.Point] {
    var hybrid = try TinyViT.model(layers: 2)
    let context = TinyViT.context(count: 48)
    _ = try Pipeline("score{images=16},swap{mixer=conv,layers=all,images=16}").run(
      on: &hybrid, context: context)
    var reduction = Reduction(cost: cost, limit: 1e9, images: 32, tile: 8, headTile: 4)
    reduction.precision = precision
    return try SearchStudy(hybrid, reduction, images: 16, context: context).greedy()
  }

  @Test(
    "the whole teacher takes all of its time where its weights stay, and another where they get fewer bits")
  func startsBelow() throws {
    let starts = try Precision.allCases.map { try #require(try points($0).first).cost }
    #expect(starts[0] == 1)
    #expect(starts[1] > 0 && starts[1] != 1 && starts[2] > 0 && starts[2] != starts[1])
  }

  @Test("operations and parameters are as many in every precision")
  func counts() throws {
    for cost in [Reduction.Cost.flops, .parameters] {
      let all = try Precision.allCases.map { try points($0, cost: cost).map(\.cost) }
      #expect(all[0] == all[1] && all[0] == all[2])
      #expect(all[0].first == 1)
    }
  }

  @Test(
    "maps of a perceptron take less time in bfloat16 and less again in 8 bits; norms stay about as they are")
  func table() {
    let cost = Cost(parameters: 1 << 20, flops: 1 << 28, bytes: 1 << 22)
    func times(_ operation: String) -> [Double] {
      Precision.allCases.map { CostTable.nanoseconds(operation, cost, weights: $0.element) }
    }
    for operation in ["vit.mlp", "vit.attention", "vit.glr", "vit.conv"] {
      let times = times(operation)
      #expect(times[0] > times[1] && times[1] > times[2], "\(operation) \(times)")
    }
    let norms = times("vit.layer_norm")
    #expect(norms.allSatisfy { abs($0 / norms[0] - 1) < 0.2 })
    // Weights that are only stored in fewer bits are computed with as floats.
    #expect(
      CostTable.nanoseconds("vit.mlp", cost, weights: .w4) == CostTable.nanoseconds("vit.mlp", cost))
  }

  @Test("a pipeline says the precision where it is not that of floats")
  func text() throws {
    let text = try Pipeline("select{by=auto,precision=int8}").description
    #expect(text.contains("precision=int8"))
    #expect(try Pipeline(text).description == text)
    #expect(try !Pipeline("select{by=auto,precision=f32}").description.contains("precision"))
    #expect(throws: VitError.self) { try Pipeline("select{by=auto,precision=int2}") }
    #expect(throws: VitError.self) { try Pipeline("select{by=damage,precision=int8}") }
  }

  @Test("measured time is of a model in its precision, too")
  func measured() throws {
    #expect(try points(.int8, cost: .measured).allSatisfy { $0.cost > 0 && $0.cost.isFinite })
  }
}
