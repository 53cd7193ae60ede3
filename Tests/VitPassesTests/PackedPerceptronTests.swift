import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

@Suite("Gated perceptrons whose two maps are one")
struct PackedPerceptronTests {
  /// How the two halves of what the map gives are taken apart; `apart`: two maps.
  enum Form: String, CaseIterable, Sendable {
    case sizes, attribute, count, slices, clamped, apart
  }

  private static let (width, hidden) = (6, 16)
  private static let shape = [5, width]

  /// Two perceptrons on tokens [batch, 5, 6], each `x + silu(a)·b` with [a, b] of one map; they share what says where to cut.
  private func graph(_ form: Form, biases: Bool = true) throws -> Graph {
    var model = ModelBuilder(seed: 5)
    let (width, hidden) = (Self.width, Self.hidden)
    var x = model.input([.symbol("batch"), 5, .fixed(width)])
    let sizes = model.integers([hidden, hidden])
    let cuts = [
      [0], [hidden], form == .clamped ? [-hidden] : [hidden], [form == .clamped ? .max : 2 * hidden],
    ]
    .map { model.integers($0) }
    let (last, step) = (model.integers([-1]), model.integers([1]))
    for _ in 0..<2 {
      let weight = model.weight([2 * hidden, width])
      let bias = biases ? model.weight([2 * hidden], name: "bias", scale: 0.5) : nil
      let down = model.weight([width, hidden])
      let offset = biases ? model.weight([width], name: "offset", scale: 0.2) : nil
      var halves: [ValueID] = []
      if form == .apart {
        for part in 0..<2 {
          func half(_ id: ValueID, _ name: String) throws -> ValueID {
            let tensor = try #require(model.builder.graph.tensor(id))
            let numbers = try tensor.doubles()
            let count = numbers.count / 2
            return model.builder.graph.addConstant(
              Tensor(
                .f32, shape: [hidden] + tensor.shape.dropFirst(),
                values: Array(numbers[part * count..<(part + 1) * count])), name: name)
          }
          let own = try bias.map { try half($0, "half.bias") }
          halves.append(try model.add("vit.linear", [x, half(weight, "half"), own]))
        }
      } else {
        let both = try model.add("vit.linear", [x, weight, bias])
        func split(_ attributes: [(String, Attribute)], _ more: [ValueID]) throws -> [ValueID] {
          try model.builder.add(
            model.builder.registry.make("onnx.Split", Attributes([("axis", .int(-1))] + attributes)),
            [both] + more, resultCount: 2)
        }
        switch form {
        case .sizes: halves = try split([], [sizes])
        case .attribute: halves = try split([("split", .ints([hidden, hidden]))], [])
        case .count: halves = try split([("num_outputs", .int(2))], [])
        case .slices, .clamped:
          halves = try [(0, 1), (2, 3)].map {
            try model.add("onnx.Slice", [both, cuts[$0.0], cuts[$0.1], last, step])
          }
        case .apart: break
        }
      }
      let open = try model.add("onnx.Mul", [halves[0], try model.add("onnx.Sigmoid", [halves[0]])])
      let gated = try model.add("onnx.Mul", [open, halves[1]])
      x = try model.add("vit.add", [x, try model.add("vit.linear", [gated, down, offset])])
    }
    var graph = model.finish(x)
    graph.removeDeadNodes()
    return graph
  }

  private func context(threads: Int = 1) -> PassContext {
    let context = PassContext(
      pool: threads == 1 ? SerialPool() : ThreadPool(threads: threads), registry: .standard,
      data: RandomSamples(count: 64, shape: Self.shape, seed: 3, classes: nil))
    context.heldOut = RandomSamples(count: 16, shape: Self.shape, seed: 4, classes: nil)
    return context
  }

  @Test(
    "the same channels go as from two maps, and what is left computes the same",
    arguments: Form.allCases.filter { $0 != .apart }, [true, false])
  func sameAsApart(_ form: Form, _ biases: Bool) throws {
    let apart = try Hybrid(graph(.apart, biases: biases))
    let packed = try Hybrid(graph(form, biases: biases))
    for passes in [
      "prune{counts=[5,12]}", "prune{mlp=0.5,tile=4,compensate=none}",
      "prune{mlp=0.5,tile=4,allocate=damage}",
      "prune{counts=[5,0]},solve{reach=behind}",
    ] {
      let (a, b) = (try apply(passes, to: apart, context()), try apply(passes, to: packed, context()))
      #expect(b.graph.parameterCount == a.graph.parameterCount, "\(passes)")
      #expect(b.graph.parameterCount < packed.graph.parameterCount, "\(passes)")
      #expect(try outputDifference(a.graph, b.graph, [[3] + Self.shape]) < 1e-5, "\(passes)")
      #expect(b.graph.operations == packed.graph.operations)
      try expectWhole(b, [[3] + Self.shape])
    }
  }

  @Test("what least squares makes up for is nearer to the teacher than nothing, and solving than that")
  func compensation() throws {
    let teacher = try Hybrid(graph(.sizes))
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: context().samples(for: "test"), context: context())
    let found = try ["compensate=none}", "compensate=ridge}", "compensate=ridge},solve"].map {
      try meter.measure(apply("prune{counts=[8,8],\($0)", to: teacher, context()).graph).damage
    }
    #expect(found[0] > found[1] && found[1] > found[2] && found[2] > 0, "\(found)")
  }

  @Test("one thread and two give the same bytes")
  func threads() throws {
    let bytes = try [1, 2].map {
      try apply("prune{mlp=0.5,tile=4},solve", to: Hybrid(graph(.slices)), context(threads: $0)).weightBytes()
    }
    #expect(bytes[0] == bytes[1])
  }

  @Test("a half that something else reads, too, or that is no whole half, keeps its channels")
  func refused() throws {
    var read = try graph(.slices)
    let cut = try #require(read.nodes.first { $0.name == "onnx.Slice" })
    read.outputs.append(("half", cut.results[0]))
    let one = try apply("prune{mlp=0.5,tile=4,allocate=uniform}", to: Hybrid(read), context())
    let whole = try apply("prune{mlp=0.5,tile=4,allocate=uniform}", to: Hybrid(graph(.slices)), context())
    #expect(one.graph.parameterCount > whole.graph.parameterCount)
    #expect(one.graph.parameterCount < read.parameterCount)
  }
}
