import Testing
import VitIR
import VitOps
import VitPasses
import VitRuntime

/// Attention of tokens [batch, 5, 10] in 6 heads of 4 channels, whose keys and values so many heads share.
struct SharedKeyFixture {
  static let (width, heads, channels, tokens) = (10, 6, 4, 5)
  static let shape = [tokens, width]
  let keys: Int
  let samples = RandomSamples(count: 32, shape: shape, seed: 3, classes: nil)

  func model(residual: Bool = false, scales: [Double]? = nil) throws -> Hybrid {
    var model = ModelBuilder(seed: 9)
    let (width, own, shared) = (Self.width, Self.heads * Self.channels, keys * Self.channels)
    let x = model.input([.symbol("batch"), .fixed(Self.tokens), .fixed(width)])
    func map(_ outputs: Int, _ inputs: Int) -> [ValueID?] {
      [model.weight([outputs, inputs]), model.weight([outputs], name: "bias", scale: 0.4)]
    }
    var y = try model.add(
      "vit.attention", [x] + map(own, width) + map(shared, width) + map(shared, width) + map(width, own),
      [("heads", .int(Self.heads)), ("kv_heads", .int(keys))])
    if let scales {
      y = try model.add("vit.scale", [y, model.builder.constant(scales, shape: [width], name: "scales")])
    }
    return Hybrid(finding: model.finish(residual ? try model.add("vit.add", [x, y]) : y))
  }

  func context(threads: Int = 1) -> PassContext {
    let context = PassContext(
      pool: threads == 1 ? SerialPool() : ThreadPool(threads: threads), registry: .standard, data: samples)
    context.heldOut = RandomSamples(count: 16, shape: Self.shape, seed: 4, classes: nil)
    return context
  }

  /// The maps of a model's attention: queries and output, those of keys and values, with their biases.
  struct Maps {
    let q, k, v, o: DoubleMatrix
    let bq, bv, bo: [Double]

    init(_ hybrid: Hybrid) throws {
      let node = try #require(hybrid.graph.nodes.first { $0.operation is VitAttention })
      func tensor(_ index: Int) -> Tensor? {
        index < node.operands.count ? node.operands[index].flatMap(hybrid.graph.tensor) : nil
      }
      func map(_ index: Int) throws -> DoubleMatrix { try DoubleMatrix(try #require(tensor(index))) }
      func bias(_ index: Int, _ count: Int) throws -> [Double] {
        try tensor(index)?.doubles() ?? [Double](repeating: 0, count: count)
      }
      (q, k, v, o) = (try map(1), try map(3), try map(5), try map(7))
      (bq, bv, bo) = (try bias(2, q.rows), try bias(6, v.rows), try bias(8, o.rows))
    }

    /// The rows of a head.
    func head(_ index: Int, of map: DoubleMatrix, _ count: Int) -> DoubleMatrix {
      let width = map.rows / count
      return map.rows(index * width..<(index + 1) * width)
    }
  }
}

@Suite("Fewer channels for heads that share keys and values")
struct SharedKeyTests {
  @Test(
    "scores miss what the dropped singular values say, and no more than without the channels that matter least",
    arguments: [1, 2, 3, 6])
  func scores(_ keys: Int) throws {
    let fixture = SharedKeyFixture(keys: keys)
    let teacher = try fixture.model()
    let old = try SharedKeyFixture.Maps(teacher)
    let moments = try momentsWithOne(fixture.samples, width: SharedKeyFixture.width)
    let heads = SharedKeyFixture.heads
    let zero = [Double](repeating: 0, count: SharedKeyFixture.channels)
    for rank in 1...3 {
      let reduced = try apply("factorise{scores=[\(rank)]}", to: teacher, fixture.context())
      let new = try SharedKeyFixture.Maps(reduced)
      #expect(new.q.rows == heads * rank && new.k.rows == keys * rank && new.v.rows == old.v.rows)
      for key in 0..<keys {
        let k = old.head(key, of: old.k, keys).beside(zero)
        let own = (key * heads / keys..<(key + 1) * heads / keys)
        func queries(_ maps: SharedKeyFixture.Maps, _ head: Int) -> DoubleMatrix {
          let width = maps.q.rows / heads
          return maps.head(head, of: maps.q, heads).beside(Array(maps.bq[head * width..<(head + 1) * width]))
        }
        /// What products miss if queries and keys are others.
        func error(_ keys: DoubleMatrix, _ other: (Int) -> DoubleMatrix) -> Double {
          let v = k.above(-1 * keys)
          return own.reduce(0) { sum, head in
            let u = queries(old, head).above(other(head))
            return sum + ((u * moments * u.transposed) * (v * moments * v.transposed)).trace
          }
        }
        let found = error(new.head(key, of: new.k, keys).beside(zero.dropLast(zero.count - rank))) {
          queries(new, $0)
        }
        let all = own.map { queries(old, $0) }.map { $0 * moments * $0.transposed }
        let sum = all.dropFirst().reduce(all[0], +)
        let root = try #require((k * moments * k.transposed).root)
        let squares = (root.transposed * sum * root).eigenvalues
        let expected = squares.dropFirst(rank).reduce(0, +)
        #expect(abs(found - expected) < 1e-4 * squares.reduce(0, +), "\(found), \(expected)")
        let order = (0..<k.rows).sorted { a, b in
          let (x, y) = (k * moments * k.transposed, sum)
          return x[a, a] * y[a, a] > x[b, b] * y[b, b]
        }
        func kept(_ map: DoubleMatrix) -> DoubleMatrix {
          let rows = order.prefix(rank).map { map.rows($0..<$0 + 1) }
          return rows.dropFirst().reduce(rows[0]) { $0.above($1) }
        }
        #expect(found < error(kept(k)) { kept(queries(old, $0)) })
      }
    }
  }

  @Test("so does what the layer gives, whose mean stays", arguments: [1, 2, 3, 6], [nil, 0.3])
  func values(_ keys: Int, _ scale: Double?) throws {
    let fixture = SharedKeyFixture(keys: keys)
    let width = SharedKeyFixture.width
    let scales = scale.map { scale in (0..<width).map { scale + 0.2 * Double($0) } }
    let teacher = try fixture.model(scales: scales)
    let old = try SharedKeyFixture.Maps(teacher)
    let moments = try momentsWithOne(fixture.samples, width: width)
    let mean = DoubleMatrix(width, 1, (0..<width).map { moments[$0, width] })
    let covariance = moments.rows(0..<width).columns(0..<width) - mean * mean.transposed
    let heads = SharedKeyFixture.heads
    for rank in 1...3 {
      let reduced = try apply("factorise{scores=1.0,values=[\(rank)]}", to: teacher, fixture.context())
      let new = try SharedKeyFixture.Maps(reduced)
      #expect(new.v.rows == keys * rank && new.o.columns == heads * rank && new.q.rows == old.q.rows)
      var (found, expected, all) = (0.0, 0.0, 0.0)
      var bias = DoubleMatrix(width, 1, old.bo)
      for key in 0..<keys {
        let values = (old.head(key, of: old.v, keys), new.head(key, of: new.v, keys))
        var squares: DoubleMatrix?
        for head in key * heads / keys..<(key + 1) * heads / keys {
          func output(_ maps: SharedKeyFixture.Maps) -> DoubleMatrix {
            let channels = maps.o.columns / heads
            return maps.o.columns(head * channels..<(head + 1) * channels)
          }
          let channels = values.0.rows
          let shift = DoubleMatrix(channels, 1, Array(old.bv[key * channels..<(key + 1) * channels]))
          bias = bias + output(old) * (values.0 * mean + shift) - output(new) * (values.1 * mean)
          let scaled = DoubleMatrix(
            width, channels,
            output(old).values.enumerated().map { $0.element * (scales?[$0.offset / channels] ?? 1) })
          let missing = output(old) * values.0 - output(new) * values.1
          let weighted = DoubleMatrix(
            width, width, missing.values.enumerated().map { $0.element * (scales?[$0.offset / width] ?? 1) })
          found += (weighted * covariance * weighted.transposed).trace
          squares = squares.map { $0 + scaled.transposed * scaled } ?? scaled.transposed * scaled
        }
        let root = try #require((values.0 * covariance * values.0.transposed).root)
        let singular = (root.transposed * (try #require(squares)) * root).eigenvalues
        expected += singular.dropFirst(rank).reduce(0, +)
        all += singular.reduce(0, +)
      }
      #expect(abs(found - expected) < 1e-4 * all, "\(found), \(expected)")
      for (a, b) in zip(bias.values, new.bo) { #expect(abs(a - b) < 1e-5) }
    }
  }

  @Test(
    "nothing is lost where the maps have no higher rank, and all channels change nothing", arguments: [1, 2])
  func exact(_ keys: Int) throws {
    let fixture = SharedKeyFixture(keys: keys)
    var teacher = try fixture.model()
    #expect(
      try apply("factorise{scores=1.0,values=1.0}", to: teacher, fixture.context()).graph
        .firstDifference(from: teacher.graph) == nil)
    let node = try #require(teacher.graph.nodes.first { $0.operation is VitAttention })
    for operand in [3, 4, 5, 6] {
      let id = try #require(node.operands[operand])
      let tensor = try #require(teacher.graph.tensor(id))
      var numbers = try tensor.doubles()
      // Of each head half the channels are copies of the others.
      let row = numbers.count / tensor.shape[0]
      for channel in 0..<tensor.shape[0] where channel % 4 >= 2 {
        for column in 0..<row { numbers[channel * row + column] = numbers[(channel - 2) * row + column] }
      }
      teacher.graph.setTensor(Tensor(.f32, shape: tensor.shape, values: numbers), of: id)
    }
    let reduced = try apply("factorise{scores=0.5,values=0.5,tile=1}", to: teacher, fixture.context())
    #expect(reduced.graph.parameterCount < teacher.graph.parameterCount * 2 / 3)
    #expect(try outputDifference(reduced.graph, teacher.graph, [[3] + SharedKeyFixture.shape]) < 1e-4)
  }

  @Test("what is left can be solved, written, read and lowered; two threads give the same bytes")
  func whole() throws {
    let fixture = SharedKeyFixture(keys: 2)
    let teacher = try fixture.model(residual: true)
    let passes = "factorise{scores=0.5,values=0.5,tile=1}"
    let reduced = try [1, 2].map { try apply(passes, to: teacher, fixture.context(threads: $0)) }
    #expect(try reduced[0].weightBytes() == reduced[1].weightBytes())
    let layer = try #require(reduced[0].layers.first)
    #expect(layer.heads == SharedKeyFixture.heads && layer.parameters < teacher.layers[0].parameters)
    try expectWhole(reduced[0], [[3] + SharedKeyFixture.shape])
    let solved = try apply(passes + ",solve{images=32}", to: teacher, fixture.context())
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: fixture.samples, context: fixture.context())
    #expect(try meter.measure(solved.graph).damage < meter.measure(reduced[0].graph).damage)
  }
}
