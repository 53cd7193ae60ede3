import Foundation
import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("retain{rule=halt}")
struct HaltingTests {
  private func images(_ count: Int, seed: UInt64 = 5) -> Tensor {
    Tensor.random([count] + TinyViT.shape, seed: seed)
  }

  private func values(_ graph: Graph, _ input: Tensor, _ ids: [ValueID]) throws -> [[Double]] {
    var graph = graph
    graph.outputs = ids.map { (graph[$0].name, $0) }
    return try Zoo.run(graph, [input]).map { try $0.doubles() }
  }

  /// The tokens of the last layer.
  private func tokens(behind model: Hybrid) throws -> Int {
    let input = try #require(model.layers.last?.input)
    let count = model.graph.type(input).shape[1].fixedValue
    return try #require(count)
  }

  private func constant(_ graph: Graph, _ node: Node, _ operand: Int) throws -> [Double] {
    let id = try #require(node.operands[operand])
    return try #require(graph.tensor(id)).doubles()
  }

  @Test(
    "what is removed might as well have been masked, and the class token is the mean over blocks",
    arguments: [1, 2, 3] as [UInt64])
  func removed(seed: UInt64) throws {
    let before = Hybrid(finding: try TinyViT.graph(layers: 4, seed: seed))
    let (gamma, beta, epsilon) = (0.8, 0.6, 0.01)
    let after = try apply(
      "retain{rule=halt,steps=0,gamma=\(gamma),beta=\(beta),epsilon=\(epsilon),images=16}", to: before)
    let keeps = after.graph.nodes.filter { $0.operation is TokenKeepLeast }
    #expect(!keeps.isEmpty)
    let input = images(1, seed: seed)
    let width = TinyViT.width
    // For each block the patches that go on behind it.
    var left: [[Int]] = []
    for layer in 0..<3 {
      guard let table = after.graph.value(named: "keep.\(layer)") else {
        left.append(left.last ?? Array(0..<16))
        continue
      }
      let numbers = try values(after.graph, input, [table])[0]
      left.append(numbers.indices.filter { numbers[$0] < (numbers.max() ?? 0) })
      if let least = after.layers[layer + 1].input {
        #expect(after.graph.type(least).shape[1] == .fixed(left[layer].count + 1))
      }
    }
    var dense = before.graph
    for (number, node) in dense.nodes.indices.filter({ dense.nodes[$0].operation is VitAttention })
      .enumerated()
    where number > 0 {
      let bias = dense.addConstant(
        Tensor(
          .f32, shape: [1, 1, 1, 17],
          values: (0..<17).map { $0 == 0 || left[number - 1].contains($0 - 1) ? 0 : -Double.infinity }),
        name: "hidden")
      dense.nodes[node].operands.append(bias)
    }
    let streams = dense.nodes.indices.filter { dense.nodes[$0].operation is VitMLP }.map {
      dense.nodes[$0 + 1].results[0]
    }
    let behind = try values(dense, input, streams)
    // Least cumulated scores go on; of the class token its weights.
    func score(_ layer: Int, _ token: Int) -> Double {
      1 / (1 + exp(beta - gamma * behind[layer][token * width]))
    }
    var sums = [Double](repeating: 0, count: 17)
    var (rest, token) = (1.0, [Double](repeating: 0, count: width))
    for layer in 0..<4 {
      let alive = layer == 0 ? Array(0..<16) : left[layer - 1]
      for place in [0] + alive.map({ $0 + 1 }) { sums[place] += score(layer, place) }
      if layer < 3, left[layer].count < alive.count {
        let best = alive.sorted { (sums[$0 + 1], $0) < (sums[$1 + 1], $1) }.prefix(left[layer].count).sorted()
        #expect(best == left[layer])
      }
      let next = layer < 3 && sums[0] < 1 - epsilon ? 1 - sums[0] : 0
      for channel in 0..<width { token[channel] += (rest - next) * behind[layer][channel] }
      rest = next
    }
    let norm = try #require(dense.nodes.last { $0.name == "vit.layer_norm" })
    let head = try #require(dense.nodes.last { $0.name == "vit.linear" })
    let mean = token.reduce(0, +) / Double(width)
    let variance = token.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
    let (gain, shift) = (try constant(dense, norm, 1), try constant(dense, norm, 2))
    let normal = token.indices.map {
      (token[$0] - mean) / (variance + 1e-6).squareRoot() * gain[$0] + shift[$0]
    }
    let (weight, bias) = (try constant(dense, head, 1), try constant(dense, head, 2))
    let expected = (0..<TinyViT.classes).map { row in
      zip(weight[row * width..<(row + 1) * width], normal).reduce(bias[row]) { $0 + $1.0 * $1.1 }
    }
    let found = try Zoo.run(after.graph, [input])[0].doubles()
    for (a, b) in zip(found, expected) { #expect(abs(a - b) < 1e-5 * max(1, abs(b))) }
  }

  @Test("training starts near the teacher, and pondering makes tokens halt") func trains() throws {
    let model = try TinyViT.model(layers: 4)
    var untrained = model
    let none = try Pipeline("retain{rule=halt,steps=0,images=16}").run(
      on: &untrained, context: TinyViT.context())
    // Hardly anything is dropped.
    let many = try tokens(behind: untrained)
    #expect(many >= 15)
    var trained = model
    let result = try Pipeline("retain{rule=halt,steps=60,batch=8,rate=0.005,ponder=1,prior=0,images=16}")
      .run(on: &trained, context: TinyViT.context())
    let few = try tokens(behind: trained)
    #expect(few < many)
    let points = try #require(result[0].curves.first).points
    let (first, last) = (try #require(points.first), try #require(points.last))
    #expect(last.loss < first.loss)
    #expect(none[0].damage.map { $0.before == $0.after } == true)
  }

  @Test("layers may be mixers, before and behind", arguments: ["glr", "conv", "pointwise"])
  func mixers(_ mixer: String) throws {
    let before = try apply(
      "swap{mixer=\(mixer),layers=[1]},retain{rule=halt,steps=4,batch=8,gamma=0.8,beta=0.6,images=16}",
      to: TinyViT.model(layers: 3))
    #expect(before.graph.nodes.contains { $0.operation is TokenKeepLeast })
    let behind = try apply(
      "retain{rule=halt,teacher=true,steps=4,batch=8,gamma=0.8,beta=0.6,images=16},swap{mixer=\(mixer),layers=[1,2]},distil{steps=4,batch=8},solve{images=16},fine-tune{steps=4,batch=8,rate=0.001},trim",
      to: TinyViT.model(layers: 3))
    for model in [before, behind] {
      #expect(try Zoo.run(model.graph, [images(2)])[0].doubles().allSatisfy(\.isFinite))
      #expect(try outputDifference(model.graph, model.graph.lowered(), [[3] + TinyViT.shape]) < 1e-5)
      let trimmed = try apply("trim", to: model)
      #expect(try outputDifference(model.graph, trimmed.graph, [[3] + TinyViT.shape]) < 1e-5)
    }
  }

  private static let short = "retain{rule=halt,steps=8,batch=8,gamma=0.8,beta=0.6,images=16}"

  @Test("the same bytes for any number of threads, and after a stop") func reproducible() throws {
    let model = try TinyViT.model(layers: 3)
    let one = try apply(Self.short, to: model)
    for threads in 2...3 {
      let more = try apply(Self.short, to: model, TinyViT.context(threads: threads))
      #expect(try more.weightBytes() == one.weightBytes())
      #expect(try outputDifference(one.graph, more.graph, [[2] + TinyViT.shape]) == 0)
    }
    let store = MemoryStore()
    var (parts, stops): (Hybrid?, Int) = (nil, 0)
    while parts == nil, stops < 20 {
      let context = TinyViT.context()
      context.checkpoint = store
      let flag = Flag()
      var steps = 0
      context.progress = { name, _, _, _ in
        steps += name == "retain" ? 1 : 0
        if steps == 3 { flag.set() }
      }
      context.isCancelled = { flag.isSet }
      do { parts = try apply(Self.short, to: model, context) } catch let error as VitError {
        guard error.kind == .interrupted else { throw error }
        stops += 1
      }
    }
    #expect(stops > 0)
    #expect(try parts?.weightBytes() == one.weightBytes())
  }

  @Test("one image alone is as in a batch") func batches() throws {
    let after = try apply(Self.short, to: TinyViT.model(layers: 3))
    let input = images(3)
    let whole = try Zoo.run(after.graph, [input])[0].doubles()
    let pixels = try input.doubles()
    for image in 0..<3 {
      let one = Tensor(
        .f32, shape: [1] + TinyViT.shape, values: Array(pixels[image * 192..<(image + 1) * 192]))
      let alone = try Zoo.run(after.graph, [one])[0].doubles()
      for (a, b) in zip(alone, whole[image * 5..<image * 5 + 5]) { #expect(abs(a - b) < 1e-5) }
    }
  }

  @Test(
    "what cannot be is said",
    arguments: [
      ("retain{rule=halt,keep=0.5}", "unknown option 'keep'"), ("retain{steps=3}", "unknown option 'steps'"),
      ("retain{rule=halt,epsilon=1}", "between 0 and 1"), ("retain{rule=halt,capacity=0}", "capacity > 0"),
      ("retain{rule=halt,gamma=-1}", "gamma > 0"), ("retain{rule=halt,depth=0}", "depth of at least 1"),
      ("retain{keep=0.5},retain{rule=halt}", "merged or dropped"),
    ])
  func refused(pipeline: String, message: String) throws {
    let model = try TinyViT.model(layers: 3)
    let error = #expect(throws: VitError.self) { try apply(pipeline, to: model) }
    #expect(error?.diagnostic.text.contains(message) == true, "\(error?.diagnostic.text ?? "")")
  }

  @Test("a model without a class token is refused, and told what helps") func noClassToken() throws {
    let model = try TinyViT.model(layers: 3, classToken: false)
    let error = #expect(throws: VitError.self) { try apply("retain{rule=halt}", to: model) }
    #expect(error?.diagnostic.message.contains("needs a class token") == true)
    #expect(error?.diagnostic.help?.contains("rule=topk") == true)
  }
}
