import Foundation
import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

@Suite("Heads that attention can do without")
struct PrunedHeadTests {
  private func damage(_ passes: String, _ teacher: Hybrid, _ context: PassContext) throws -> Double {
    let pruned = try apply(passes, to: teacher, context)
    return try FidelityMeter(teacher: teacher.graph, data: context.samples(for: "test"), context: context)
      .measure(pruned.graph).damage
  }

  private func heads(_ hybrid: Hybrid) -> [Int] {
    hybrid.graph.nodes.compactMap { $0.operation as? VitAttention }.map(\.heads)
  }

  /// A vision transformer with four heads of four channels in each layer, and factors behind the branches.
  private func teacher() throws -> Hybrid {
    var teacher = try TinyViT.model(layerScale: (0..<TinyViT.width).map { 0.3 + 0.05 * Double($0) })
    for place in teacher.graph.nodes.indices where teacher.graph.nodes[place].operation is VitAttention {
      teacher.graph.nodes[place].operation = VitAttention(heads: 4)
    }
    teacher.findLayers()
    return teacher
  }

  /// What the output map of a fixture's attention reads, a row for each token of the samples.
  private func context(
    _ maps: SharedKeyFixture.Maps, _ bk: [Double], _ fixture: SharedKeyFixture
  ) throws -> DoubleMatrix {
    let (width, heads, tokens) = (SharedKeyFixture.width, SharedKeyFixture.heads, SharedKeyFixture.tokens)
    let channels = SharedKeyFixture.channels
    var rows: [Double] = []
    var sample = [Float](repeating: 0, count: tokens * width)
    for index in 0..<fixture.samples.count {
      try sample.withUnsafeMutableBufferPointer {
        try fixture.samples.read(index, variant: nil, into: $0)
      }
      let x = DoubleMatrix(tokens, width, sample.map(Double.init))
      func map(_ weight: DoubleMatrix, _ bias: [Double]) -> DoubleMatrix {
        var y = x * weight.transposed
        for row in 0..<y.rows { for column in 0..<y.columns { y[row, column] += bias[column] } }
        return y
      }
      let (q, k, v) = (map(maps.q, maps.bq), map(maps.k, bk), map(maps.v, maps.bv))
      var c = DoubleMatrix(tokens, heads * channels, [Double](repeating: 0, count: tokens * heads * channels))
      for head in 0..<heads {
        let key = head * fixture.keys / heads
        let own = (head * channels..<(head + 1) * channels, key * channels..<(key + 1) * channels)
        let scores = q.columns(own.0) * k.columns(own.1).transposed
        for row in 0..<tokens {
          let weights = (0..<tokens).map { exp(scores[row, $0] / Double(channels).squareRoot()) }
          let sum = weights.reduce(0, +)
          for channel in 0..<channels {
            c[row, head * channels + channel] = (0..<tokens).reduce(0.0) {
              $0 + weights[$1] / sum * v[$1, key * channels + channel]
            }
          }
        }
      }
      rows += c.values
    }
    return DoubleMatrix(rows.count / (heads * channels), heads * channels, rows)
  }

  /// The inverse of a positive definite matrix.
  private func inverse(_ matrix: DoubleMatrix) throws -> DoubleMatrix {
    let factor = try #require(Cholesky(matrix.values, order: matrix.rows))
    var rows = (0..<matrix.rows * matrix.rows).map { $0 % (matrix.rows + 1) == 0 ? 1.0 : 0 }
    factor.solve(rows: &rows)
    return DoubleMatrix(matrix.rows, matrix.rows, rows)
  }

  private func part(_ matrix: DoubleMatrix, _ rows: [Int], _ columns: [Int]) -> DoubleMatrix {
    DoubleMatrix(rows.count, columns.count, rows.flatMap { row in columns.map { matrix[row, $0] } })
  }

  @Test(
    "those go that cost least together, and the output map of the others is that of ridge regression, in double",
    arguments: [2, 3, 6], [nil, 0.3])
  func reference(_ keys: Int, _ scale: Double?) throws {
    let fixture = SharedKeyFixture(keys: keys)
    let (width, channels) = (SharedKeyFixture.width, SharedKeyFixture.channels)
    let scales = scale.map { scale in (0..<width).map { scale + 0.2 * Double($0) } }
    let teacher = try fixture.model(scales: scales)
    let old = try SharedKeyFixture.Maps(teacher)
    let node = try #require(teacher.graph.nodes.first { $0.operation is VitAttention })
    let bk = try #require(node.operands[4].flatMap(teacher.graph.tensor)).doubles()
    let c = try context(old, bk, fixture)
    let n = c.columns
    let mean = DoubleMatrix(
      n, 1, (0..<n).map { j in (0..<c.rows).reduce(0.0) { $0 + c[$1, j] } / Double(c.rows) })
    let covariance = (1 / Double(c.rows)) * (c.transposed * c) - mean * mean.transposed
    var damped = covariance
    for index in 0..<n { damped[index, index] += 1e-3 * covariance.trace / Double(n) }
    let together = SharedKeyFixture.heads / keys * channels
    var left = Array(0..<n)
    var rises = 0.0
    while left.count > together {
      let (p, outputs) = (try inverse(part(damped, left, left)), Array(0..<width))
      // The map of the inputs that are left, as the regression of the whole one on them.
      let gone = (0..<n).filter { !left.contains($0) }
      let own =
        gone.isEmpty
        ? old.o
        : part(old.o, outputs, left)
          + part(old.o, outputs, gone) * part(damped, gone, left) * p
      let costs = try stride(from: 0, to: left.count, by: together).map { start -> Double in
        let places = Array(start..<start + together)
        let block = part(own, outputs, places)
        let scaled = DoubleMatrix(
          width, together, block.values.enumerated().map { $0.element * (scales?[$0.offset / together] ?? 1) }
        )
        return (scaled * (try inverse(part(p, places, places))) * scaled.transposed).trace
      }
      let best = try #require(costs.indices.min { costs[$0] < costs[$1] })
      rises += costs[best]
      left.removeSubrange(best * together..<(best + 1) * together)
      let kept = left.count / channels
      let pruned = try apply("prune{heads=[\(kept)]}", to: teacher, fixture.context())
      let new = try SharedKeyFixture.Maps(pruned)
      #expect(new.q.rows == kept * channels && new.k.rows == kept * keys / SharedKeyFixture.heads * channels)
      #expect(new.q.values == part(old.q, left, Array(0..<width)).values)
      let removed = (0..<n).filter { !left.contains($0) }
      let share = part(damped, removed, left) * (try inverse(part(damped, left, left)))
      let expected = part(old.o, outputs, left) + part(old.o, outputs, removed) * share
      for (a, b) in zip(new.o.values, expected.values) { #expect(abs(a - b) < 1e-4) }
      let shift =
        part(old.o, outputs, removed)
        * (part(mean, removed, [0]) - share * part(mean, left, [0]))
      for (a, b) in zip(new.bo, zip(old.bo, shift.values).map({ $0 + $1 })) { #expect(abs(a - b) < 1e-4) }
      // The sum of the rises is the error, as the ridge weighs it.
      let missing = part(old.o, outputs, removed)
      let rest =
        part(damped, removed, removed) - share * part(damped, left, removed)
      let scaled = DoubleMatrix(
        width, removed.count,
        missing.values.enumerated().map { $0.element * (scales?[$0.offset / removed.count] ?? 1) })
      #expect(abs((scaled * rest * scaled.transposed).trace - rises) < 1e-9 * max(1, rises))
    }
  }

  @Test(
    "what least squares makes up for is nearer to what the layer gave than the mean, and that than nothing",
    arguments: [2, 3, 6])
  func compensation(_ keys: Int) throws {
    let fixture = SharedKeyFixture(keys: keys)
    let teacher = try fixture.model()
    let found = try ["ridge", "mean", "none"].map {
      try damage("prune{heads=0.34,compensate=\($0)}", teacher, fixture.context())
    }
    #expect(found[0] > 0 && found[0] < found[1] && found[1] < found[2], "\(found)")
    if keys > 2 {
      #expect(try damage("prune{heads=0.67}", teacher, fixture.context()) < found[0])
    }
  }

  @Test("so is a whole model; and solved on its own stream it is nearer still")
  func solving() throws {
    let (teacher, context) = (try teacher(), TinyViT.context(count: 64))
    context.heldOut = context.data
    let found = try ["compensate=none}", "images=64}", "images=64},solve{images=64}"].map {
      try damage("prune{heads=0.5,\($0)", teacher, context)
    }
    #expect(found[0] > found[1] && found[1] > found[2] && found[2] > 0, "\(found)")
  }

  @Test("heads that give nothing, or what others give, cost nothing")
  func free() throws {
    var teacher = try teacher()
    for node in teacher.graph.nodes where node.operation is VitAttention {
      let id = try #require(node.operands[7])
      let tensor = try #require(teacher.graph.tensor(id))
      let numbers = try tensor.doubles().enumerated().map { $0.offset % 16 / 4 == 2 ? 0 : $0.element }
      teacher.graph.setTensor(Tensor(.f32, shape: tensor.shape, values: numbers), of: id)
    }
    let context = TinyViT.context(count: 64)
    #expect(try damage("prune{heads=0.75,compensate=none}", teacher, context) < 1e-9)
    #expect(heads(try apply("prune{heads=0.75}", to: teacher, context)) == [3, 3])
  }

  @Test("perceptrons stay as they are unless they are asked for, and so do layers")
  func apart() throws {
    let (teacher, context) = (try teacher(), TinyViT.context(count: 16))
    func mlps(_ hybrid: Hybrid) throws -> [Int] {
      try hybrid.graph.nodes.filter { $0.operation is VitMLP }.map {
        try #require($0.operands[1].flatMap(hybrid.graph.tensor)).shape[0]
      }
    }
    for (passes, left, channels) in [
      ("prune{heads=0.5}", [2, 2], [32, 32]), ("prune{heads=[0,1]}", [4, 1], [32, 32]),
      ("prune{heads=0.01}", [1, 1], [32, 32]), ("prune{heads=[3,0],counts=[0,8]}", [3, 4], [32, 8]),
      ("prune{heads=0.5,mlp=0.5,tile=8,allocate=uniform}", [2, 2], [16, 16]),
    ] {
      let pruned = try apply(passes, to: teacher, context)
      #expect(try heads(pruned) == left && mlps(pruned) == channels, "\(passes)")
      #expect(try pruned.teacher?.graph.firstDifference(from: teacher.graph) == nil && pruned.teacher != nil)
    }
    let whole = try apply("prune{heads=1.0}", to: teacher, context)
    #expect(try whole.graph.firstDifference(from: teacher.graph) == nil && whole.teacher == nil)
    let text = try Pipeline("prune{heads=[3,0]}").description
    #expect(text == "prune{mlp=1.0,heads=[3,0],images=300,tile=32,compensate=ridge,allocate=damage}")
    #expect(try Pipeline(text).description == text)
  }

  @Test(
    "layers say how many heads they have; the model can be written, read, lowered, and given to passes behind"
  )
  func whole() throws {
    let (teacher, context) = (try teacher(), TinyViT.context(count: 16))
    context.heldOut = context.data
    let scored = try apply("score{images=8}", to: teacher, context)
    let pruned = try apply("prune{heads=[2,1]}", to: scored, context)
    #expect(pruned.layers.map(\.heads) == [2, 1])
    for (layer, old) in zip(pruned.layers, scored.layers) {
      #expect(layer.parameters < old.parameters)
      for (name, value) in old.scores.entries {
        guard case .floats(let list) = value, case .floats(let left)? = layer.scores[name] else { continue }
        #expect(left.count * 4 == list.count * layer.heads && Set(left).isSubset(of: list), "\(name)")
      }
    }
    try expectWhole(pruned, [[2] + TinyViT.shape])
    for passes in [
      "solve{images=8}", "merge{counts=[3,2]}", "trim", "factorise{scores=0.5,values=0.5,tile=1}",
      "swap{mixer=glr,layers=[1]}", "swap{mixer=conv,layers=[0]},distil{steps=0},solve",
      "fine-tune{steps=2,batch=4}", "depth{layers=[1]}",
    ] {
      let after = try apply(passes, to: pruned, context)
      let outputs = after.graph.outputs.map { after.graph.type($0.value) }
      #expect(outputs == pruned.graph.outputs.map { pruned.graph.type($0.value) }, "\(passes)")
    }
  }

  @Test("what is added to the scores of each head goes with the head")
  func biased() throws {
    var model = ModelBuilder(seed: 4)
    let x = model.input([.symbol("batch"), 5, 6])
    let bias = model.weight([3, 5, 5], name: "relative", scale: 2)
    var y = x
    for _ in 0..<2 {
      let maps = (0..<4).flatMap { _ in [model.weight([6, 6]), model.weight([6], name: "bias")] }
      y = try model.add("vit.attention", [y] + maps + [bias], [("heads", .int(3))])
      // The second head gives nothing.
      let tensor = try #require(model.builder.graph.tensor(maps[6]))
      let numbers = try tensor.doubles().enumerated().map { $0.offset % 6 / 2 == 1 ? 0 : $0.element }
      model.builder.graph.setTensor(Tensor(.f32, shape: [6, 6], values: numbers), of: maps[6])
    }
    let teacher = Hybrid(finding: model.finish(y))
    let context = PassContext(
      pool: SerialPool(), registry: .standard, data: RandomSamples(count: 32, shape: [5, 6], seed: 3))
    let pruned = try apply("prune{heads=[2,0],compensate=none}", to: teacher, context)
    #expect(heads(pruned) == [2, 3])
    #expect(try outputDifference(pruned.graph, teacher.graph, [[3, 5, 6]]) < 1e-5)
    try expectWhole(pruned, [[3, 5, 6]])
  }

  @Test("one thread and two give the same bytes")
  func threads() throws {
    let bytes = try [1, 2].map { threads in
      try apply("prune{heads=0.5},solve{images=8}", to: teacher(), TinyViT.context(threads: threads))
        .weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test(
    "what makes no sense is one usage error that says what is accepted",
    arguments: [
      "heads=0.0", "heads=1.5", "heads=-1.0", "heads=half", "heads=[1]", "heads=[0,5]", "heads=[-1,1]",
      "heads=[1,2,3]",
    ])
  func refused(_ option: String) throws {
    let error = try #require(throws: VitError.self) { try apply("prune{\(option)}", to: try teacher()) }
    #expect(error.kind == .usage && error.diagnostic.message.contains("expected"))
  }

  @Test("of heads that share keys only whole groups are accepted")
  func groups() throws {
    let fixture = SharedKeyFixture(keys: 2)
    let error = try #require(throws: VitError.self) {
      try apply("prune{heads=[4]}", to: fixture.model(), fixture.context())
    }
    #expect(error.kind == .usage && error.diagnostic.message.contains("[0, 3, 6]"))
    let pruned = try apply("prune{heads=0.5},solve", to: fixture.model(residual: true), fixture.context())
    let attention = try #require(pruned.graph.nodes.compactMap { $0.operation as? VitAttention }.first)
    #expect(attention.heads == 3 && attention.kvHeads == 1)
    try expectWhole(pruned, [[2] + SharedKeyFixture.shape])
  }

  @Test("a model without such layers is left as it is, with a warning")
  func nothing() throws {
    var model = ModelBuilder()
    let x = model.input([.symbol("batch"), 6])
    let graph = model.finish(try model.linear(x, 6, 4))
    let context = PassContext(
      pool: SerialPool(), registry: .standard, data: RandomSamples(count: 4, shape: [6]))
    var codes: [String] = []
    context.report = { codes.append($0.code) }
    let same = try apply("prune{heads=0.5}", to: Hybrid(graph), context)
    #expect(try same.graph.firstDifference(from: graph) == nil && codes == ["nothing-to-prune"])
  }
}
