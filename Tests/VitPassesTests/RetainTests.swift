import Foundation
import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

@Suite("retain")
struct RetainTests {
  private let tokens = 17

  private func images(_ count: Int, seed: UInt64 = 5) -> Tensor {
    Tensor.random([count] + TinyViT.shape, seed: seed)
  }

  /// What a model gives, with these values inside.
  private func run(_ graph: Graph, _ input: Tensor, inside: [String] = []) throws -> [Tensor] {
    var graph = graph
    for name in inside {
      let value = try #require(graph.value(named: name), "\(name)")
      graph.outputs.append((name, value))
    }
    return try Zoo.run(graph, [input])
  }

  /// The places, of sixteen, that have a token behind a drop.
  private func kept(_ table: Tensor) throws -> [Int] {
    let numbers = try #require(try table.integers())
    let least = numbers.max() ?? 0
    return numbers.indices.filter { numbers[$0] < least }
  }

  /// The model with the patches that are dropped hidden from the attention behind.
  private func masked(_ graph: Graph, _ keptBehind: [[Int]?]) throws -> Graph {
    var graph = graph
    var layer = 0
    var hidden: [Int] = []
    for index in graph.nodes.indices where graph.nodes[index].name == "vit.attention" {
      if !hidden.isEmpty {
        let numbers = (0..<tokens).map { hidden.contains($0 - 1) ? -Double.infinity : 0 }
        let bias = graph.addConstant(
          Tensor(.f32, shape: [1, 1, 1, tokens], values: numbers), name: "hidden")
        let padding = [ValueID?](repeating: nil, count: 9 - graph.nodes[index].operands.count)
        graph.nodes[index].operands += padding + [bias]
      }
      if let kept = keptBehind[layer] { hidden = (0..<tokens - 1).filter { !kept.contains($0) } }
      layer += 1
    }
    return graph
  }

  @Test("what is dropped might as well have been hidden", arguments: [1, 2, 3] as [UInt64])
  func removed(seed: UInt64) throws {
    let before = try Hybrid(finding: TinyViT.graph(layers: 4, seed: seed))
    let after = try apply("retain{keep=0.6,layers=[0,2]}", to: before)
    let input = images(1, seed: seed)
    let found = try run(after.graph, input, inside: ["keep.0", "keep.2"])
    let (first, second) = (try kept(found[1]), try kept(found[2]))
    #expect(first.count == 10 && second.count == 6 && Set(second).isSubset(of: first))
    let reference = try run(masked(before.graph, [first, nil, second, nil]), input)
    #expect(try relativeDifference(found[0], reference[0]) < 1e-5)
    // They are gone, not hidden.
    let input2 = try #require(after.layers[3].input)
    #expect(after.graph.type(input2).shape[1] == 7)
  }

  @Test("those stay that the first token attends to most") func rule() throws {
    let before = try TinyViT.model(layers: 2)
    let after = try apply("retain{keep=[0.3,0.3]}", to: before)
    let input = images(2)
    let layer = before.layers[0]
    let found = try run(after.graph, input, inside: ["keep.0"])
    // The map from the weights, in double.
    let entry = try #require(layer.input)
    let x = try run(before.graph, input, inside: [before.graph[entry].name])[1]
    let node = try #require(before.graph.nodes.first { $0.name == "vit.attention" })
    func weight(_ index: Int) throws -> [Double] {
      let operand = try #require(node.operands[index])
      return try #require(before.graph.tensor(operand)).doubles()
    }
    let (wq, bq, wk) = (try weight(1), try weight(2), try weight(3))
    let (d, h) = (TinyViT.width, TinyViT.heads)
    let values = try x.doubles()
    for image in 0..<2 {
      func token(_ t: Int) -> ArraySlice<Double> {
        values[(image * tokens + t) * d..<(image * tokens + t + 1) * d]
      }
      func map(_ w: [Double], _ b: [Double]?, _ x: ArraySlice<Double>) -> [Double] {
        (0..<d).map { row in zip(w[row * d..<(row + 1) * d], x).reduce(b?[row] ?? 0) { $0 + $1.0 * $1.1 } }
      }
      let q = map(wq, bq, token(0))
      var mean = [Double](repeating: 0, count: tokens)
      for head in 0..<h {
        let scores = (0..<tokens).map { t in
          let k = map(wk, nil, token(t))
          return (head * d / h..<(head + 1) * d / h).reduce(0.0) { $0 + q[$1] * k[$1] }
            / Double(d / h).squareRoot()
        }
        let exps = scores.map { exp($0) }
        let sum = exps.reduce(0, +)
        for t in 0..<tokens { mean[t] += exps[t] / sum }
      }
      let best = mean.dropFirst().enumerated().sorted { $0.element > $1.element }.prefix(5).map(\.offset)
        .sorted()
      let numbers = try #require(try found[1].integers())[image * 16..<image * 16 + 16]
      #expect(Array(numbers.enumerated().filter { $0.element < 6 }.map(\.offset)) == best)
      // In order: the first that stays is the first behind the class token.
      #expect(numbers.filter { $0 < 6 } == [1, 2, 3, 4, 5])
    }
  }

  @Test(
    "mixers and attention work on what is left, and the whole trains",
    arguments: ["glr", "conv", "static", "ssd", "lstm", "none"])
  func mixers(_ mixer: String) throws {
    let before = try apply("swap{mixer=\(mixer),layers=[1,2]}", to: TinyViT.model(layers: 4))
    let after = try apply("retain{keep=0.5,layers=[0,1]}", to: before)
    #expect(after.graph.type(try #require(after.layers[3].input)).shape[1] == 5)
    #expect(try Zoo.run(after.graph, [images(2)])[0].doubles().allSatisfy(\.isFinite))
    let trained = try apply("fine-tune{steps=4,batch=4,rate=0.001}", to: after, TinyViT.context())
    #expect(try Zoo.run(trained.graph, [images(2)])[0].doubles().allSatisfy(\.isFinite))
    let again = try Zoo.run(after.graph.lowered(), [images(2)])[0]
    #expect(try relativeDifference(again, Zoo.run(after.graph, [images(2)])[0]) < 1e-5)
  }

  @Test("a mean and a dense output read what was dropped as it was last", arguments: [true, false])
  func dense(_ classToken: Bool) throws {
    var graph = try TinyViT.graph(layers: 3, classToken: classToken)
    let layers = Hybrid(finding: graph).layers
    // The stream behind the last block, all tokens.
    let stream = try #require(graph.nodes.last { $0.name == "vit.add" }?.results.first)
    graph.outputs.append(("dense", stream))
    let before = Hybrid(finding: graph)
    let after = try apply("retain{keep=0.5,layers=[1]}", to: before)
    let added = try #require(graph.nodes.first { $0.operands.contains(layers[1].output) }?.results.first)
    let input = images(1)
    let found = try run(after.graph, input, inside: ["keep.1", graph[added].name])
    #expect(found[1].shape == [1, classToken ? 17 : 16, 16])
    let (kept, prefix) = (try kept(found[2]), classToken ? 1 : 0)
    #expect(kept.count == 8)
    let (all, then) = (try found[1].doubles(), try found[3].doubles())
    for place in 0..<16 where !kept.contains(place) {
      let range = (prefix + place) * 16..<(prefix + place + 1) * 16
      #expect(zip(all[range], then[range]).allSatisfy { abs($0 - $1) < 1e-6 })
    }
    for place in kept {
      let range = (prefix + place) * 16..<(prefix + place + 1) * 16
      #expect(!zip(all[range], then[range]).allSatisfy { abs($0 - $1) < 1e-3 })
    }
  }

  @Test("one image alone is as in a batch, and the number of threads does not matter") func batches() throws {
    let after = try apply("retain{keep=0.4,layers=[0,1]}", to: TinyViT.model(layers: 3))
    let input = images(4)
    let whole = try run(after.graph, input, inside: ["keep.0", "keep.1"])
    for threads in [1, 3] {
      let executor = try Executor(
        after.graph, weights: WeightStore(after.graph), inputShapes: [input.shape],
        pool: ThreadPool(threads: threads))
      try input.copy(to: executor.inputs[0])
      executor.run()
      #expect(try Tensor(copying: executor.outputs[0]).doubles() == whole[0].doubles())
    }
    let values = try input.doubles()
    for image in 0..<4 {
      let one = Tensor(
        .f32, shape: [1] + TinyViT.shape, values: Array(values[image * 192..<(image + 1) * 192]))
      let table = try run(after.graph, one, inside: ["keep.1"])[1].integers()
      #expect(table == (try whole[2].integers()).map { Array($0[image * 16..<image * 16 + 16]) })
    }
  }

  @Test("parts are of all patches, rounded up once") func rounding() throws {
    for (keep, kept) in [(0.5, 8), (0.51, 9), (0.8125, 13), (0.01, 1)] {
      let after = try apply("retain{keep=\(keep),layers=[0]}", to: TinyViT.model(layers: 2))
      #expect(after.graph.type(try #require(after.layers[1].input)).shape[1] == .fixed(kept + 1))
    }
  }

  @Test("all of it is what it was", arguments: ["keep=1", "keep=[1,1,1]"])
  func nothing(_ options: String) throws {
    let before = try TinyViT.model(layers: 3)
    #expect(try apply("retain{\(options)}", to: before).graph.nodes.count == before.graph.nodes.count)
  }

  @Test(
    "what cannot be is said",
    arguments: [
      ("retain{keep=0}", "above 0"), ("retain{keep=1.5}", "at most 1"), ("retain{keep=nan}", "above 0"),
      ("retain{keep=[0.5,0.7,0.5]}", "does not come back"), ("retain{keep=[0.9,0.5]}", "each of 3 layers"),
      ("retain{keep=0.5,layers=[3]}", "no layer 3"),
      ("retain{keep=[1,0.5,0.5],layers=[1]}", "nothing to say"),
      ("retain{rule=luck}", "one of topk"), ("retain{keep=some}", "numbers as in"),
      ("retain{keep=0.5},merge{counts=[1,0,0]}", "merged or dropped"),
      ("retain{keep=0.5},retain", "merged or dropped"),
    ])
  func refused(pipeline: String, message: String) throws {
    let model = try TinyViT.model(layers: 3)
    let error = #expect(throws: VitError.self) { try apply(pipeline, to: model) }
    #expect(error?.diagnostic.text.contains(message) == true, "\(error?.diagnostic.text ?? "")")
  }
}
