import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

@Suite("Heads of attention by fewer channels")
struct FactoriseTests {
  private func damage(_ passes: String, _ teacher: Hybrid, _ context: PassContext) throws -> Double {
    let reduced = try apply(passes, to: teacher, context)
    return try FidelityMeter(teacher: teacher.graph, data: context.samples(for: "test"), context: context)
      .measure(reduced.graph).damage
  }

  /// The channels of queries, keys and values of each attention.
  private func widths(_ hybrid: Hybrid) throws -> [[Int]] {
    try hybrid.graph.nodes.filter { $0.operation is VitAttention }.map { node in
      try [1, 3, 5].map { try #require(node.operands[$0].flatMap(hybrid.graph.tensor)).shape[0] }
    }
  }

  @Test("as many channels stay as asked for, in whole tiles, and all of them change nothing")
  func counts() throws {
    let teacher = try TinyViT.model()
    let full = try widths(teacher)
    let width = full[0][0]
    #expect(full.allSatisfy { $0 == [width, width, width] })
    let half = width / 2
    #expect(
      try widths(apply("factorise{scores=0.5,tile=1}", to: teacher)).allSatisfy { $0 == [half, half, width] })
    #expect(
      try widths(apply("factorise{scores=1.0,values=0.5,tile=1}", to: teacher)).allSatisfy {
        $0 == [width, width, half]
      })
    let heads = try #require(teacher.layers.first?.heads)
    let one = try widths(apply("factorise{scores=[0,1],values=1.0}", to: teacher))
    #expect(one == [[width, width, width], [heads, heads, width]])
    let whole = try apply("factorise{scores=1.0}", to: teacher)
    #expect(try whole.graph.firstDifference(from: teacher.graph) == nil)
  }

  @Test("the more channels stay, the nearer the model is to the teacher")
  func error() throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 64)
    for part in ["scores=%,values=1.0", "scores=1.0,values=%"] {
      let found = try [1, 2, 3].map { count in
        let list = "[\(count),\(count)]"
        return try damage("factorise{\(part.replacing("%", with: list))}", teacher, context)
      }
      #expect(found[0] > found[1] && found[1] > found[2] && found[2] > 0, "\(part): \(found)")
    }
  }

  @Test("heads whose maps have a lower rank lose no more than that")
  func exact() throws {
    var teacher = try TinyViT.model(layers: 1)
    let node = try #require(teacher.graph.nodes.first { $0.operation is VitAttention })
    let heads = try #require(teacher.layers.first?.heads)
    // Of each head's queries and values half are copies of the others.
    for operand in [1, 2, 5, 6] {
      guard let id = node.operands[operand], let tensor = teacher.graph.tensor(id) else { continue }
      var rows = try tensor.doubles()
      let row = rows.count / tensor.shape[0]
      let width = tensor.shape[0] / heads
      for head in 0..<heads {
        for channel in width / 2..<width {
          for column in 0..<row {
            rows[(head * width + channel) * row + column] =
              rows[(head * width + channel - width / 2) * row + column]
          }
        }
      }
      teacher.graph.setTensor(Tensor(.f32, shape: tensor.shape, values: rows), of: id)
    }
    let context = TinyViT.context(count: 64)
    let left = try damage("factorise{scores=0.5,values=0.5,tile=1}", teacher, context)
    #expect(left < 1e-8, "\(left)")
  }

  @Test("solving the output maps on the model's own stream brings it nearer to the teacher")
  func solving() throws {
    let teacher = try TinyViT.model(layerScale: (0..<TinyViT.width).map { 0.3 + 0.05 * Double($0) })
    let context = TinyViT.context(count: 64)
    context.heldOut = context.data
    let passes = "factorise{scores=0.5,values=0.5,tile=1,images=64}"
    let before = try damage(passes, teacher, context)
    let after = try damage(passes + ",solve{images=64}", teacher, context)
    #expect(after < before, "from \(before) to \(after)")
  }

  @Test("maps without biases are reduced and solved, too")
  func withoutBiases() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 5, 6])
    let maps = (0..<4).map { _ in model.weight([6, 6]) }
    let y = try model.add(
      "vit.attention", [x, maps[0], nil, maps[1], nil, maps[2], nil, maps[3]], [("heads", .int(2))])
    let graph = model.finish(try model.add("vit.add", [x, y]))
    let teacher = Hybrid(finding: graph)
    let context = PassContext(
      pool: SerialPool(), registry: .standard,
      data: RandomSamples(count: 32, shape: [5, 6], seed: 3, classes: nil))
    for parts in ["scores=[2]", "scores=[1],values=[2]"] {
      let reduced = try apply("factorise{\(parts)},solve{images=32}", to: teacher, context)
      let node = try #require(reduced.graph.nodes.first { $0.operation is VitAttention })
      #expect(node.operands[2] == nil && node.operands[4] == nil)
    }
  }

  @Test("a reduced model is trained like others, and keeps its teacher")
  func training() throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 16)
    context.heldOut = context.data
    let reduced = try apply("factorise{scores=0.25,values=0.5,tile=1}", to: teacher, context)
    #expect(try reduced.teacher?.graph.firstDifference(from: teacher.graph) == nil && reduced.teacher != nil)
    let tuned = try apply("fine-tune{steps=30,batch=8,rate=0.002}", to: reduced, context)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: context.samples(for: "test"), context: context)
    #expect(try meter.measure(tuned.graph).damage < meter.measure(reduced.graph).damage)
    // Its layers can still be replaced.
    let hybrid = try apply("swap{mixer=glr,layers=[1]}", to: reduced, context)
    #expect(hybrid.replaced.count == 1)
  }

  @Test("one thread and three give the same bytes")
  func threads() throws {
    let teacher = try TinyViT.model()
    let bytes = try [1, 3].map { threads in
      try apply(
        "factorise{scores=0.5,values=0.5,tile=1},solve{images=8}", to: teacher,
        TinyViT.context(threads: threads)
      ).weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test(
    "what makes no sense is a usage error",
    arguments: [
      "scores=0.0", "values=1.5", "scores=[0]", "scores=[0,999]", "values=[0,0,0]", "tile=0", "images=0",
      "scores=half",
    ])
  func refused(_ options: String) throws {
    let teacher = try TinyViT.model()
    #expect {
      try apply("factorise{\(options)}", to: teacher)
    } throws: { ($0 as? VitError)?.kind == .usage }
  }
}
