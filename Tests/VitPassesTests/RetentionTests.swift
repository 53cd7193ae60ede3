import Testing
import VitIR
import VitPasses

@Suite("Fewer patches, measured") struct RetentionTests {
  @Test(
    "a model that keeps all is its teacher, and as many patches are left as are kept", arguments: [4, 2, 1])
  func measured(_ layers: Int) throws {
    let teacher = try TinyViT.model(layers: layers)
    let context = TinyViT.context(count: 24)
    let found = try #require(
      try Retention(of: teacher, against: teacher.graph, images: 20, pictures: 3, context: context))
    #expect(found.points.map(\.keep) == [1, 0.9, 0.8, 0.7, 0.6, 0.5])
    #expect(found.points[0].fidelity.damage == 0)
    // Behind the only layer nobody reads patches.
    #expect(found.points.dropFirst().allSatisfy { ($0.fidelity.damage > 0) == (layers > 1) })
    #expect(found.points.allSatisfy { $0.fidelity.images == 20 } && found.samples.count == 3)
    let places = Set([1, 2, 3].map { layers * $0 / 4 }).sorted()
    #expect(found.patches.map(\.layer) == places)
    var part = 1.0
    for patches in found.patches {
      part *= 0.7
      #expect(patches.rows == 4 && patches.columns == 4 && patches.isLeft.count == 3)
      for left in patches.isLeft { #expect(left.count { $0 } == Int((16 * part - 1e-6).rounded(.up))) }
    }
    // What is gone does not come back.
    for (before, after) in zip(found.patches, found.patches.dropFirst()) {
      for (a, b) in zip(before.isLeft, after.isLeft) { #expect(zip(a, b).allSatisfy { $0 || !$1 }) }
    }
  }

  @Test("of merged patches none are dropped")
  func merged() throws {
    let teacher = try TinyViT.model(layers: 4)
    let context = TinyViT.context(count: 24)
    let merged = try apply("merge{counts=[2,0,0,0]}", to: teacher, context)
    #expect(
      try Retention(of: merged, against: teacher.graph, images: 8, pictures: 2, context: context) == nil)
  }

  @Test("patches that are left count more than those that are gone, and fewer go on layer by layer")
  func importance() throws {
    let teacher = try TinyViT.model(layers: 4)
    let found = try #require(
      try PatchImportance(of: teacher, in: teacher, images: 12, context: TinyViT.context()))
    #expect(found.layers.map(\.layer) == [0, 1, 2, 3])
    #expect(found.layers.map(\.part) == [1, 0.75, 0.5, 0.375])
    #expect(found.layers[0].kept == 1 && found.layers[0].dropped == nil)
    // Those are dropped to which the layer itself attends least.
    let (kept, dropped) = (try #require(found.layers[1].kept), try #require(found.layers[1].dropped))
    #expect(kept > 1 && dropped < 1)
    #expect(abs(0.75 * kept + 0.25 * dropped - 1) < 1e-9)
  }

  @Test("a model that drops patches itself is looked at as it is") func own() throws {
    let teacher = try TinyViT.model(layers: 3)
    let context = TinyViT.context()
    let halting = try apply("retain{rule=halt,steps=0,gamma=0.8,beta=0.6,images=16}", to: teacher)
    let found = try #require(try PatchImportance(of: halting, in: teacher, images: 12, context: context))
    for (layer, next) in zip(found.layers, halting.layers.dropFirst()) {
      let tokens = try #require(next.input.flatMap { halting.graph.type($0).shape[1].fixedValue })
      #expect(layer.part == Double(tokens - 1) / 16)
    }
    let dropped = try apply(
      "retain{keep=0.5,layers=[0],teacher=true},swap{mixer=glr,layers=[1]}", to: teacher)
    let parts = try #require(try PatchImportance(of: dropped, in: teacher, images: 12, context: context))
    #expect(parts.layers.map(\.part) == [0.5, 0.5, 0.5])
    let merged = try apply("merge{counts=[2,0,0]}", to: teacher, context)
    #expect(try PatchImportance(of: merged, in: teacher, images: 8, context: context) == nil)
    #expect(try PatchImportance(of: teacher, in: dropped, images: 8, context: context) == nil)
  }
}
