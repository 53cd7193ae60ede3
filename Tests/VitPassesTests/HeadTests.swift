import Glibc
import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime
import VitTestSupport

/// Samples in clouds, one for each class, which their numbers decide.
private struct Clouds: VitPasses.SampleSource {
  var count: Int
  var shape = [6]
  var classes = 3
  /// The class of a sample; unlabelled where it is `nil`.
  var labelled: @Sendable (Int) -> Int? = { $0 % 3 }
  var classCount: Int?
  /// The samples that hold a number that is none.
  var spoilt: Set<Int> = []

  func label(_ index: Int) -> Int? { labelled(index) }

  func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) throws {
    var random = SplitMix(seed: 5).split(index)
    for place in target.indices {
      target[place] = Float(0.6 * random.normal()) + (place % 3 == index % 3 ? 1.5 : 0)
    }
    if spoilt.contains(index) { target[0] = .nan }
  }
}

@Suite("A head in closed form") struct HeadTests {
  /// `linear(relu(x))` of 6 numbers, with two classes, and what stands behind it.
  private func model(_ more: String = "", output: String = "%y", linear: String = "vit.linear(%f, @w, @b)")
    throws -> Hybrid
  {
    Hybrid(
      try Graph(
        text: """
          graph "g" (%x: f32[batch, 6]) -> (y = \(output)) {
            tensor @w : f32[2, 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
            tensor @b : f32[2] = [1.0, 2.0]
            %f = onnx.Relu(%x) : f32[batch, 6]
            %y = \(linear) : f32[batch, 2]
          \(more)
          }
          """, registry: .standard))
  }

  private func context(_ data: Clouds, threads: Int = 1) -> PassContext {
    let pool: any WorkPool = threads == 1 ? SerialPool() : ThreadPool(threads: threads)
    return PassContext(pool: pool, registry: .standard, data: data)
  }

  /// The last map of a model.
  private func map(_ hybrid: Hybrid) throws -> (weight: [Double], bias: [Double]) {
    let node = try #require(hybrid.graph.nodes.last)
    #expect(node.operation is VitLinear)
    let weight = try #require(node.operands[1].flatMap(hybrid.graph.tensor))
    let bias = try #require(node.operands[2].flatMap(hybrid.graph.tensor))
    return (try weight.doubles(), try bias.doubles())
  }

  /// The map that ridge regression of the classes gives, by elimination: `[classes, 7]`, the bias last.
  private func reference(_ rows: [(x: [Double], label: Int)], classes: Int, ridge: Double) -> [[Double]] {
    let (n, count) = (rows[0].x.count, Double(rows.count))
    let mean = (0..<n).map { place in rows.reduce(0) { $0 + $1.x[place] } / count }
    var matrix = (0..<n).map { i in
      (0..<n).map { j in rows.reduce(0) { $0 + ($1.x[i] - mean[i]) * ($1.x[j] - mean[j]) } / count }
    }
    let penalty = ridge * (0..<n).reduce(0) { $0 + matrix[$1][$1] } / Double(n)
    for i in 0..<n { matrix[i][i] += penalty }
    return (0..<classes).map { label in
      let share = Double(rows.count { $0.label == label }) / count
      var system = (0..<n).map { i in
        matrix[i] + [
          rows.reduce(0) { $0 + ($1.x[i] - mean[i]) * (($1.label == label ? 1 : 0) - share) } / count
        ]
      }
      for pivot in 0..<n {
        for row in 0..<n where row != pivot {
          let factor = system[row][pivot] / system[pivot][pivot]
          for column in pivot...n { system[row][column] -= factor * system[pivot][column] }
        }
      }
      let weight = (0..<n).map { system[$0][n] / system[$0][$0] }
      return weight + [share - zip(weight, mean).reduce(0) { $0 + $1.0 * $1.1 }]
    }
  }

  private func rows(_ data: Clouds, _ places: [Int]) throws -> [(x: [Double], label: Int)] {
    try places.map { place in
      var values = [Float](repeating: 0, count: 6)
      try values.withUnsafeMutableBufferPointer { try data.read(place, variant: nil, into: $0) }
      return (values.map { max(0, Double($0)) }, data.label(place) ?? 0)
    }
  }

  private func score(_ map: [[Double]], _ x: [Double]) -> [Double] {
    map.map { line in zip(line, x + [1]).reduce(0) { $0 + $1.0 * $1.1 } }
  }

  @Test(
    "it is the ridge regression of all samples, times the factor that is likeliest on those that were held out"
  )
  func reference() throws {
    // More than a chunk of sums, and classes of different sizes.
    let data = Clouds(count: 700, labelled: { $0 % 7 == 6 ? 0 : $0 % 3 })
    let context = context(data)
    var notes: [Diagnostic] = []
    context.report = { notes.append($0) }
    var hybrid = try model()
    try Pipeline("head{ridge=0.05}").run(on: &hybrid, context: context)
    try Verifier.verify(hybrid.graph, registry: .standard)
    let (weight, bias) = try map(hybrid)
    let wanted = reference(try rows(data, Array(0..<700)), classes: 3, ridge: 0.05)
    let factor = weight[0] / wanted[0][0]
    for label in 0..<3 {
      for column in 0..<6 {
        #expect(abs(weight[label * 6 + column] - factor * wanted[label][column]) < 1e-5 * factor)
      }
      #expect(abs(bias[label] - factor * wanted[label][6]) < 1e-5 * factor)
    }
    // The second, sixth, … of each class judge what is solved on the others.
    var (seen, heldOut, others): ([Int], [Int], [Int]) = ([0, 0, 0], [], [])
    for place in 0..<700 {
      let label = data.label(place) ?? 0
      if seen[label] % 4 == 1 { heldOut.append(place) } else { others.append(place) }
      seen[label] += 1
    }
    let trial = reference(try rows(data, others), classes: 3, ridge: 0.05)
    let judged = try rows(data, heldOut).map { (score(trial, $0.x), $0.label) }
    func loss(_ factor: Double) -> Double {
      judged.reduce(0) { sum, row in
        sum - factor * row.0[row.1] + log(row.0.reduce(0) { $0 + exp(factor * $1) })
      }
    }
    #expect(loss(factor) <= loss(factor * 1.01) && loss(factor) <= loss(factor / 1.01))
    let right = judged.count { row in row.0.indices.allSatisfy { row.0[$0] <= row.0[row.1] } }
    let note = try #require(notes.first { $0.code == "head" })
    #expect(note.message.contains("3 classes solved on 700 samples, ridge 0.05"))
    #expect(note.message.contains("of \(heldOut.count) held-out samples"))
    #expect(
      note.message.contains("\((10000 * Double(right) / Double(heldOut.count)).rounded() / 100) % are right"))
    #expect(Double(right) > 0.8 * Double(heldOut.count))
  }

  @Test("without a ridge it is the one that does best on held-out samples")
  func chosen() throws {
    let data = Clouds(count: 90)
    let context = context(data)
    var notes: [String] = []
    context.report = { notes.append($0.message) }
    var hybrid = try model()
    try Pipeline("head").run(on: &hybrid, context: context)
    let places = Array(0..<90).filter { $0 / 3 % 4 != 1 }
    let (own, judges) = (try rows(data, places), try rows(data, Array(0..<90).filter { $0 / 3 % 4 == 1 }))
    let errors = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1].map { ridge in
      let map = reference(own, classes: 3, ridge: ridge)
      let error = judges.reduce(0.0) { sum, row in
        sum
          + score(map, row.x).enumerated().reduce(0) {
            $0 + ($1.1 - ($1.0 == row.label ? 1 : 0)) * ($1.1 - ($1.0 == row.label ? 1 : 0))
          }
      }
      return (ridge, error)
    }
    let best = try #require(errors.min { $0.1 < $1.1 })
    #expect(notes.contains { $0.contains("ridge \(best.0),") }, "\(notes)")
  }

  @Test("classes may be more than the data have, or be named without samples; those are never found")
  func more() throws {
    var hybrid = try model()
    let context = context(Clouds(count: 60, classCount: 4))
    var notes: [String] = []
    context.report = { notes.append($0.message) }
    try Pipeline("head").run(on: &hybrid, context: context)
    #expect(hybrid.graph.outputs.map { hybrid.graph.type($0.value).shape[1] } == [4])
    #expect(notes.contains("head: 1 of 4 classes have no samples, and will not be found"))
    let (weight, bias) = try map(hybrid)
    #expect(weight[18..<24].allSatisfy { $0 == 0 } && bias[3] == 0)
    try Pipeline("head{classes=9}").run(on: &hybrid, context: context)
    #expect(hybrid.graph.outputs.map { hybrid.graph.type($0.value).shape[1] } == [9])
    // The weights before are gone.
    #expect(hybrid.graph.tensors.names.count == 2)
  }

  @Test("samples without a label, and those that the model gives no numbers for, have no part")
  func leftOut() throws {
    let all = Clouds(count: 90, labelled: { $0 < 60 ? $0 % 3 : nil })
    var hybrid = try model()
    try Pipeline("head{ridge=0.1}").run(on: &hybrid, context: context(all))
    var fewer = try model()
    try Pipeline("head{ridge=0.1}").run(on: &fewer, context: context(Clouds(count: 60)))
    #expect(try hybrid.weightBytes() == fewer.weightBytes())
    var spoilt = try model()
    let context = context(Clouds(count: 60, spoilt: [7]))
    var codes: [String] = []
    context.report = { codes.append($0.code) }
    try Pipeline("head{ridge=0.1}").run(on: &spoilt, context: context)
    #expect(codes.contains("non-finite-samples"))
    #expect(try map(spoilt).weight.allSatisfy(\.isFinite))
    #expect(throws: VitError.self) {
      try Pipeline("head").run(on: &spoilt, context: self.context(Clouds(count: 60, spoilt: Set(0..<30))))
    }
  }

  @Test("one sample of each class is enough, and none then judges")
  func few() throws {
    var hybrid = try model()
    let context = context(Clouds(count: 3))
    var notes: [String] = []
    context.report = { notes.append($0.message) }
    try Pipeline("head").run(on: &hybrid, context: context)
    #expect(
      notes.contains { $0.hasSuffix("ridge 0.1, scores times 10.0; no class has a sample to hold out") })
  }

  @Test("the number of threads changes no bit, nor does a run again", arguments: [2, 3])
  func threads(_ threads: Int) throws {
    func bytes(_ threads: Int) throws -> [String: [UInt8]] {
      let context = TinyViT.context(threads: threads, count: 60, labelled: true)
      return try apply("head{classes=40}", to: TinyViT.model(), context).weightBytes()
    }
    let one = try bytes(1)
    #expect(try one == bytes(threads) && one == bytes(1))
  }

  @Test("the model with its new head is the teacher of what comes behind, and layers stay as they are")
  func teacher() throws {
    var hybrid = try TinyViT.model()
    let layers = hybrid.layers
    let context = TinyViT.context(labelled: true)
    try Pipeline("head{classes=7}").run(on: &hybrid, context: context)
    #expect(hybrid.teacher == nil)
    #expect(
      hybrid.layers.map(\.index) == layers.map(\.index) && hybrid.layers.map(\.core) == layers.map(\.core))
    try hybrid.checkInvariants()
    var pruned = try TinyViT.model()
    try Pipeline("head{classes=7},prune{mlp=0.5,images=8,tile=4}").run(on: &pruned, context: context)
    let teacher = try #require(pruned.teacher)
    #expect(teacher.graph.outputs.map { teacher.graph.type($0.value).shape[1] } == [7])
    #expect(try teacher.graph.firstDifference(from: hybrid.graph) == nil)
    var swapped = try TinyViT.model()
    try Pipeline("head{classes=7},swap{layers=[0]},distil{steps=1,batch=4}").run(
      on: &swapped, context: context)
    #expect(swapped.teacher.map { $0.graph.outputs.map { $0.name } } == ["logits"])
  }

  @Test(
    "a model that is no longer its own teacher gets no head",
    arguments: ["swap{layers=[0]},head", "prune{mlp=0.5,images=8,tile=4},head"])
  func order(_ pipeline: String) throws {
    let error = #expect(throws: VitError.self) {
      try apply(pipeline, to: TinyViT.model(), TinyViT.context(labelled: true))
    }
    #expect(error?.kind == .usage && error?.diagnostic.code == "head-order")
    #expect(error?.diagnostic.help?.contains("before what replaces") ?? false)
  }

  @Test("data without the classes that are needed are refused before any pass runs")
  func data() throws {
    for (data, pipeline, message) in [
      (
        Clouds(count: 9, labelled: { _ in nil }), "head", "head needs samples with labels, the data have none"
      ),
      (
        Clouds(count: 9), "head{classes=2}", "head: the data have labels up to 2, which 2 classes do not have"
      ),
      (Clouds(count: 9, labelled: { _ in 0 }), "head", "head: expected data of 2 to 65536 classes, found 1"),
      (Clouds(count: 9, labelled: { _ in 4 }), "head", "head: expected samples of at least 2 classes"),
      (Clouds(count: 9, labelled: { _ in Int.max }), "head", "which 9223372036854775807 classes do not have"),
      (
        Clouds(count: 9, labelled: { $0 << 20 }), "head",
        "head: expected data of 2 to 65536 classes, found 8388609"
      ),
      (Clouds(count: 9), "head{images=1}", "head: expected samples of at least 2 classes"),
    ] {
      var hybrid = try model()
      let context = context(data)
      var begun = false
      context.progress = { _, _, _, _ in begun = true }
      let observer = Watcher()
      let error = #expect(throws: VitError.self) {
        try Pipeline("fold," + pipeline).run(on: &hybrid, context: context, observers: [observer])
      }
      #expect(error?.diagnostic.message.contains(message) ?? false, "\(error?.description ?? "")")
      #expect(!begun && !observer.isCalled)
    }
    var hybrid = try model()
    let error = #expect(throws: VitError.self) {
      try Pipeline("head").run(on: &hybrid, context: PassContext(pool: SerialPool(), registry: .standard))
    }
    #expect(error?.diagnostic.message == "head needs data" && error?.kind == .usage)
  }

  @Test(
    "options that make no sense are refused",
    arguments: [
      "head{classes=1}", "head{classes=65537}", "head{images=0}", "head{ridge=0}", "head{ridge=nan}",
      "head{classes=few}",
    ])
  func options(_ pipeline: String) {
    #expect { try Pipeline(pipeline) } throws: { ($0 as? VitError)?.diagnostic.code == "option-value" }
  }

  @Test("a model without a linear map at its end says what is there")
  func obstacles() throws {
    let soft = "  %s = onnx.Softmax(%y) {axis = 1} : f32[batch, 2]"
    for (hybrid, message, help) in [
      (
        try model(soft, output: "%s"),
        "the output 'y' is the result of 'onnx.Softmax', expected a linear map", "export the model without it"
      ),
      (
        try model("  %m = onnx.Add(%y, @b) : f32[batch, 2]", output: "%m"), "is the result of 'onnx.Add'",
        "fold,raise,dce"
      ),
      (
        try model("  %m = onnx.Relu(%y) : f32[batch, 2]", output: "%m"), "is the result of 'onnx.Relu'",
        "a head takes the place"
      ),
      (try model(linear: "vit.linear(%f, @w, @b) {activation = \"gelu\"}"), "is 'gelu' of a linear map", nil),
      (try model(soft, output: "%y, s = %s"), "is read by 'onnx.Softmax', too", nil),
      (try model(output: "%y, z = %y"), "is read by another output, too", nil),
      (try model(output: "%x"), "is not the result of an operation", nil),
      (
        try TinyViT.tokens(), "has the type f32[batch, 17, 16], expected scores [batch, classes]",
        "a row of scores"
      ),
    ] as [(Hybrid, String, String?)] {
      var hybrid = hybrid
      let sample = hybrid.graph.inputs.map {
        hybrid.graph.type($0).shape.dropFirst().compactMap(\.fixedValue)
      }
      let error = #expect(throws: VitError.self) {
        try Pipeline("head").run(on: &hybrid, context: context(Clouds(count: 9, shape: sample[0])))
      }
      #expect(error?.diagnostic.code == "head-output")
      #expect(error?.diagnostic.message.contains(message) ?? false, "\(error?.description ?? "")")
      #expect(help.map { error?.diagnostic.help?.contains($0) ?? false } ?? (error?.diagnostic.help == nil))
    }
  }
}

/// Notes that a pass was begun.
private final class Watcher: PassObserver {
  private(set) var isCalled = false
  func before(_ pass: any Pass, _ hybrid: Hybrid) { isCalled = true }
  func after(_ pass: any Pass, _ hybrid: Hybrid, _ result: Result<PassResult, any Error>) {}
}

extension TinyViT {
  /// The model without its head: it gives tokens.
  fileprivate static func tokens() throws -> Hybrid {
    var graph = try graph()
    let last = try #require(graph.nodes.last { $0.name == "vit.layer_norm" }?.results.first)
    graph.outputs = [("tokens", last)]
    graph.removeDeadNodes()
    return Hybrid(finding: graph)
  }
}
