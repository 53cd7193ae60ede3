import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

struct SelectTests {
  /// Four layers with made-up scores.
  private func scored(without missing: String? = nil) throws -> Hybrid {
    var hybrid = try TinyViT.model(layers: 4)
    let scores: [String: [Double]] = [
      "entropy": [0.1, 0.4, 0.2, 0.3], "gini": [0.4, 0.1, 0.3, 0.2], "hoyer": [0.3, 0.3, 0.1, 0.5],
      "top_mass": [0.2, 0.3, 0.9, 0.1], "distance": [3, 1, 2, 4], "cosine": [0.2, 0.5, 0.1, 0.9],
      "drop": [0.5, 0.2, 0.9, 0.1], "dependence": [0.1, 0.3, 0.4, 0.2],
      "conv": [0.6, 0.7, 0.1, 0.3],
    ]
    for place in hybrid.layers.indices {
      for (name, values) in scores where name != missing {
        hybrid.layers[place].scores[name] = .float(values[place])
      }
      var candidate = Layer.Candidate(mixer: "glr{}")
      candidate.damage = [0.4, 0.3, 0.2, 0.1][place]
      hybrid.layers[place].candidates = [candidate]
    }
    return hybrid
  }

  private func selected(_ hybrid: Hybrid) -> [Int] {
    hybrid.layers.filter { $0.choice == .selected }.map(\.index)
  }

  @Test(
    "layers are ranked by each index in its direction, of equal ones the earlier first",
    arguments: [
      ("auto", [2, 3]), ("swap", [2, 3]), ("damage", [2, 3]), ("dependence", [0, 3]), ("alternate", [0, 2]),
      ("entropy", [1, 3]), ("gini", [0, 2]), ("hoyer", [0, 3]), ("top-mass", [1, 2]),
      ("distance", [1, 2]), ("cosine", [0, 2]), ("drop", [1, 3]), ("conv", [2, 3]), ("first", [0, 1]),
      ("last", [2, 3]),
    ])
  func criteria(_ name: String, _ expected: [Int]) throws {
    #expect(selected(try apply("select{by=\(name),count=2}", to: try scored())) == expected)
  }

  @Test("each way of choosing has a word on the command line; without one it is damage")
  func words() throws {
    for word in ["auto", "damage", "swap"] {
      let choice = try #require(Select.choice(word))
      #expect(choice.by == (word == "auto" ? .auto : .damage) && choice.group == .sparse)
    }
    for (word, group) in [("sparse", Select.Group.sparse), ("dense", .dense)] {
      let choice = try #require(Select.choice(word))
      #expect(choice.by == .entropy && choice.group == group)
    }
    for word in [
      "entropy", "gini", "hoyer", "top-mass", "distance", "dependence", "cosine", "conv", "drop", "first",
      "last",
      "random",
      "alternate",
    ] {
      #expect(Select.choice(word)?.by.rawValue == word)
    }
    #expect(Select.choices.allSatisfy { Select.choice($0) != nil })
    #expect(Select.choice("luck") == nil)
    #expect(Select().criterion == .damage && Select().fraction == 0.5)
  }

  @Test("a fraction is of all layers, rounded, at least one")
  func fractions() throws {
    for (fraction, count) in [(0.01, 1), (0.5, 2), (0.6, 2), (0.7, 3), (1.0, 4)] {
      let graph = try apply("select{by=first,fraction=\(fraction)}", to: try scored())
      #expect(selected(graph) == Array(0..<count), "fraction \(fraction)")
    }
    #expect(selected(try apply("select{by=first}", to: try scored())) == [0, 1])
  }

  @Test(
    "the paper's groups: both ends of an index, and places",
    arguments: [
      ("group=sparse", [1, 3]), ("group=dense", [0, 2]), ("by=gini,group=dense", [1, 3]),
      ("by=damage,group=dense", [0, 1]), ("by=cosine,group=dense", [1, 3]), ("group=first", [0, 1]),
      ("group=last", [2, 3]), ("group=alternate", [0, 2]), ("by=last,group=last", [2, 3]),
    ])
  func groups(_ options: String, _ expected: [Int]) throws {
    #expect(selected(try apply("select{\(options),count=2}", to: try scored())) == expected)
  }

  @Test("layers drawn by the seed are the same for one seed, and not for all seeds the same") func random()
    throws
  {
    func drawn(_ seed: UInt64) throws -> [Int] {
      selected(
        try apply(
          "select{group=random,count=2}", to: try scored(),
          PassContext(pool: SerialPool(), registry: .standard, seed: seed)))
    }
    #expect(try drawn(3) == drawn(3))
    let all = try (0..<20).map { try drawn(UInt64($0)) }
    #expect(all.allSatisfy { $0.count == 2 } && Set(all).count > 2)
  }

  @Test(
    "a threshold takes all layers that keep it, in the direction of the ranking",
    arguments: [
      ("by=damage,threshold=0.3", [1, 2, 3]), ("by=entropy,threshold=0.3", [1, 3]),
      ("by=entropy,group=dense,threshold=0.2", [0, 2]), ("by=drop,threshold=0.1", [3]),
    ])
  func thresholds(_ options: String, _ expected: [Int]) throws {
    #expect(selected(try apply("select{\(options)}", to: try scored())) == expected)
  }

  @Test("layers that are named are taken, whatever the index says, and selecting again forgets them")
  func named() throws {
    let graph = try apply("select{layers=[3,1]}", to: try scored())
    #expect(selected(graph) == [1, 3])
    #expect(selected(try apply("select{by=first,count=1}", to: graph)) == [0])
  }

  @Test(
    "what cannot be selected is an error",
    arguments: [
      ("select{layers=[4]}", "layer 4 cannot be replaced or does not exist", "layer-unknown"),
      ("select{by=first,count=5}", "5 layers are to be replaced, but only 4 can be", "count-too-large"),
      ("select{by=drop}", "layer 0 has no score 'drop'", "score-missing"),
      ("select{by=damage,threshold=0.01}", "no layer has a 'damage' of at most 0.01", "nothing-selected"),
      (
        "select{by=last,group=dense}", "select: 'last' ranks by place, so there is no dense end",
        "option-value"
      ),
      (
        "select{group=first,by=gini}",
        "select: option 'group' cannot be 'first' where layers are ranked by gini",
        "option-value"
      ),
      (
        "select{group=odd}",
        "select: option 'group' cannot be 'odd' (expected one of sparse, dense, first, last, random, alternate)",
        "option-value"
      ),
      (
        "select{count=1,threshold=1}", "select: expected a threshold or a count, found both", "option-value"
      ),
    ])
  func errors(_ pass: String, _ message: String, _ code: String) throws {
    let graph = try scored(without: "drop")
    let error = #expect(throws: VitError.self) { try apply(pass, to: graph) }
    #expect(error?.diagnostic.message == message)
    #expect(error?.diagnostic.code == code)
    #expect(error?.kind == .usage)
  }

  @Test("a model without layers, or without such as can be replaced, is an error about the input")
  func nothingToSelect() throws {
    var model = ModelBuilder()
    let none = model.finish(model.input([.symbol("batch"), 3]))
    for (graph, message) in [
      (Hybrid(finding: none), "the model has no attention layers"),
      (
        try apply("fold,raise", to: Hybrid(try AttentionGraph.windowed())),
        "no attention layer can be replaced"
      ),
    ] {
      let error = #expect(throws: VitError.self) { try apply("select{by=first}", to: graph) }
      #expect(error?.diagnostic.message == message)
      #expect(error?.kind == .input)
    }
  }

  @Test("swapping needs layers that were selected, and says why one cannot be")
  func swapErrors() throws {
    let graph = try TinyViT.model()
    for (pass, message) in [
      ("swap", "no layer is selected"), ("swap{layers=[2]}", "there is no layer 2: the model has 2"),
    ] {
      let error = #expect(throws: VitError.self) { try apply(pass, to: graph) }
      #expect(error?.diagnostic.message == message)
    }
    let windows = try apply("fold,raise", to: Hybrid(try AttentionGraph.windowed()))
    let error = #expect(throws: VitError.self) { try apply("swap{layers=[0]}", to: windows) }
    #expect(
      error?.diagnostic.message == "layer 0 cannot be replaced: it works within windows or groups of tokens")
  }
}
