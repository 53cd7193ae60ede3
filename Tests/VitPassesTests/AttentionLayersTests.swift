import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

struct AttentionLayersTests {
  private func sites(_ graph: Graph) throws -> Hybrid { try apply("fold,raise,dce", to: Hybrid(graph)) }

  @Test("a layer that was raised is found with its heads, weights, tokens in and out, and can be replaced")
  func raisedLayer() throws {
    let found = try sites(try AttentionGraph.packed(.roleHeadColumn))
    #expect(found.others.isEmpty)
    #expect(found.layers.count == 1)
    let layer = try #require(found.layers.first)
    #expect(layer.index == 0)
    #expect(layer.kind == "attention")
    #expect(layer.heads == 2)
    #expect(layer.parameters == 4 * 8 * 8 + 4 * 8)
    #expect(layer.isReplaceable)
    #expect(layer.input != nil && layer.output != nil)
  }

  @Test("layers are numbered in order, and a mixer keeps the number of the layer it stands for")
  func numbers() throws {
    let model = try TinyViT.model(layers: 3)
    #expect(model.layers.map(\.index) == [0, 1, 2])
    let layers = try apply("swap{mixer=pointwise,layers=[1]}", to: model).layers
    #expect(layers.map(\.index) == [0, 1, 2])
    #expect(layers.map(\.kind) == ["attention", "pointwise", "attention"])
    #expect(layers.map(\.isReplaceable) == [true, false, true])
    #expect(layers[1].obstacle == "it is a mixer already")
  }

  @Test("attention within windows is found and cannot be replaced")
  func windows() throws {
    let found = try sites(try AttentionGraph.windowed())
    #expect(found.layers.map(\.heads) == [2])
    #expect(found.layers.map(\.obstacle) == ["it works within windows or groups of tokens"])
  }

  @Test("heads that progress to each other are found as a layer that cannot be replaced")
  func talkingHeads() throws {
    let found = try sites(try AttentionGraph.talkingHeads())
    #expect(found.layers.map(\.heads) == [2])
    #expect(
      found.layers.map(\.obstacle) == ["something lies between its products that a mixer cannot stand in for"]
    )
  }

  @Test("pooling by a learned query is no layer, nor is attention of one token, nor are coarser keys")
  func others() throws {
    let pooled = try sites(try AttentionGraph.pooled(.learned))
    #expect(pooled.layers.isEmpty)
    #expect(pooled.others.map(\.reason) == ["its queries are learned: attention pooling"])
    let first = try sites(try AttentionGraph.pooled(.firstToken))
    #expect(first.layers.isEmpty)
    #expect(first.others.map(\.reason) == ["it maps 5 keys to 1 queries of other tokens"])
    let coarse = try sites(try AttentionGraph.coarseKeys())
    #expect(coarse.layers.isEmpty)
    #expect(coarse.others.map(\.reason) == ["it maps 3 keys to 5 queries of other tokens"])
  }

  @Test("queries and keys of two products of whole numbers are of the same tokens")
  func integerProducts() throws {
    let found = try sites(try AttentionGraph.integerProducts())
    #expect(found.others.isEmpty)
    #expect(found.layers.map(\.heads) == [2])
  }

  @Test("queries and keys of two convolutions are of the same tokens")
  func convolutions() throws {
    let found = try sites(try AttentionGraph.convolutions())
    #expect(found.others.isEmpty)
    #expect(found.layers.map(\.heads) == [2])
    #expect(found.layers.map(\.isReplaceable) == [true])
  }

  @Test("attention among the channels of a head is no layer", arguments: [true, false])
  func channels(normalised: Bool) throws {
    let found = try sites(try AttentionGraph.amongChannels(normalised: normalised))
    #expect(found.layers.isEmpty)
    #expect(found.others.map(\.reason) == ["it mixes channels, not tokens"])
  }

  @Test("a layer whose tokens do not see one another, or whose bias follows from the input, stays")
  func obstacles() throws {
    func layer(_ attributes: [(String, Attribute)] = [], bias: Bool = false, hiding: Double? = nil) throws
      -> Graph
    {
      var model = ModelBuilder("obstacle")
      let x = model.input([.symbol("batch"), 5, 8])
      var operands: [ValueID?] = [x]
      for _ in 0..<4 { operands += [model.weight([8, 8]), nil] }
      if bias {
        let row = try model.add("onnx.ReduceMean", [x, model.integers([2])], [("keepdims", .int(1))])
        operands.append(try model.reshape(row, [-1, 1, 1, 5]))
      } else if let hiding {
        let mask = (0..<25).map { $0 % 5 > $0 / 5 ? hiding : 0 }
        let tensor = Tensor(.f32, shape: [1, 1, 5, 5], values: mask)
        operands.append(model.builder.graph.addConstant(tensor, name: "mask"))
      }
      return model.finish(try model.add("vit.attention", operands, [("heads", .int(2))] + attributes))
    }
    func obstacle(of graph: Graph) -> [String?] { Hybrid(finding: graph).layers.map(\.obstacle) }
    #expect(
      obstacle(of: try layer([("causal", .bool(true))])) == ["its tokens see only those before them"])
    for hiding in [-Double.infinity, -1e9] {
      #expect(obstacle(of: try layer(hiding: hiding)) == ["its mask hides tokens from one another"])
    }
    #expect(obstacle(of: try layer(bias: true)) == ["its mask or bias is computed from the input"])
    #expect(obstacle(of: try layer(hiding: -20)) == [nil])
    #expect(obstacle(of: try layer()) == [nil])
  }
}
