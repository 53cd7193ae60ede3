import Foundation
import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

/// A chain of merges that Python and PyTorch computed: see tools/fixtures/make_merge_fixtures.py.
struct MergeFixture: Decodable, Sendable, CustomTestStringConvertible {
  struct Merge: Decodable {
    let count: Int
    let table: [[Int]]
    let result, upstream, gradient, whole, spread, back: [[[Double]]]
    let sizes: [[Double]]
  }

  let name: String
  let prefix, heads: Int
  let x: [[[Double]]]
  let weight: [[Double]]?
  let bias: [Double]?
  let merges: [Merge]

  var testDescription: String { name }

  static let all: [MergeFixture] = {
    struct File: Decodable { let cases: [MergeFixture] }
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    do {
      let data = try Data(contentsOf: root.appending(path: "golden/operators/merging.json"))
      return try JSONDecoder().decode(File.self, from: data).cases
    } catch { fatalError("the fixtures cannot be read: \(error)") }
  }()
}

extension Tensor {
  fileprivate static func of(_ rows: [[[Double]]]) -> Tensor {
    Tensor(
      .f64, shape: [rows.count, rows[0].count, rows[0].first?.count ?? 0],
      values: rows.flatMap { $0.flatMap { $0 } })
  }

  fileprivate static func table(_ rows: [[Int]]) -> Tensor {
    Tensor(shape: [rows.count, rows[0].count], integers: rows.flatMap { $0 })
  }
}

extension OpCase {
  /// The whole numbers of the only result.
  fileprivate func integers(_ pool: any WorkPool = SerialPool()) throws -> [Int] {
    try #require(try run(pool: pool)[0].integers())
  }
}

@Suite("merging tokens")
struct MergingTests {
  private func match(_ fixture: MergeFixture, _ x: Tensor, _ count: Int, before: Tensor?) throws -> OpCase {
    let weight = fixture.weight.map {
      Tensor(.f64, shape: [$0.count, $0[0].count], values: $0.flatMap { $0 })
    }
    let bias = fixture.bias.map { Tensor(.f64, shape: [$0.count], values: $0) }
    return OpCase(
      TokenMatch(count: count, prefix: fixture.prefix, heads: fixture.heads),
      inputs: [x, weight, bias, before])
  }

  @Test("patches are matched, merged and brought back as the reference does", arguments: MergeFixture.all)
  func reference(_ fixture: MergeFixture) throws {
    var x = Tensor.of(fixture.x)
    var before: Tensor?
    for merge in fixture.merges {
      let matching = try match(fixture, x, merge.count, before: before)
      let table = try matching.run()[0]
      let places = try #require(try table.integers())
      #expect(places == merge.table.flatMap { $0 })
      #expect(try matching.runLowered()[0].integers() == places)
      let wanted = Tensor.of(merge.result)
      let pool = OpCase(
        TokenMerge(tokens: wanted.shape[1], prefix: fixture.prefix), inputs: [x, table, before])
      let result = try pool.run()[0]
      #expect(try relativeDifference(result, wanted) < 1e-9)
      #expect(try relativeDifference(pool.runLowered()[0], wanted) < 1e-9)
      let gradient = try gradients(pool.operation, pool.inputs, upstream: .of(merge.upstream))
      #expect(try relativeDifference(gradient, .of(merge.gradient)) < 1e-9)
      let back = OpCase(TokenUnmerge(prefix: fixture.prefix), inputs: [wanted, table])
      #expect(try relativeDifference(back.run()[0], .of(merge.whole)) < 1e-9)
      let returned = try gradients(back.operation, back.inputs, upstream: .of(merge.spread))
      #expect(try relativeDifference(returned, .of(merge.back)) < 1e-9)
      let sizes = OpCase(
        LogSize(tokens: wanted.shape[1], prefix: fixture.prefix, precision: .f64), inputs: [table])
      let logs = try sizes.run()[0].doubles()
      let expected = merge.sizes.flatMap { $0 }
      #expect(zip(logs, expected).allSatisfy { abs($0 - Foundation.log($1)) < 1e-12 })
      (x, before) = (result, table)
    }
  }

  /// The gradient of operand 0 where the tables are constants.
  private func gradients(_ operation: any VitIR.Operation, _ inputs: [Tensor?], upstream: Tensor) throws
    -> Tensor
  {
    try #require(
      try tokenGradient(of: operation, inputs, upstream: upstream), "the tokens have no gradient")
  }

  @Test(
    "one image alone is matched as in a batch, by any number of threads",
    arguments: [Tensor.random([7, 50, 24], seed: 3)])
  func batches(_ x: Tensor) throws {
    let weight = Tensor.random([16, 24], seed: 5)
    let operation = TokenMatch(count: 9, prefix: 1, heads: 2)
    let all = try OpCase(operation, inputs: [x, weight]).integers(ThreadPool(threads: 3))
    #expect(try OpCase(operation, inputs: [x, weight]).integers() == all)
    let values = try x.doubles()
    for image in 0..<7 {
      let one = Tensor(.f32, shape: [1, 50, 24], values: Array(values[image * 1200..<(image + 1) * 1200]))
      let alone = try OpCase(operation, inputs: [one, weight]).integers(ThreadPool(threads: 2))
      #expect(alone == Array(all[image * 49..<(image + 1) * 49]))
    }
  }

  @Test("attention with the sizes of merged copies gives what it gives with the copies", arguments: [0, 1])
  func duplicates(_ prefix: Int) throws {
    // Seven places of three kinds.
    let kinds = [0, 1, 0, 2, 1, 0, 0]
    let tokens = prefix + 3
    let few = Tensor.random([2, tokens, 6], seed: 2, element: .f64)
    let table = Tensor(shape: [2, 7], integers: (kinds + kinds).map { prefix + $0 })
    let many = try OpCase(TokenUnmerge(prefix: prefix), inputs: [few, table]).run()[0]
    let sizes = try OpCase(
      LogSize(tokens: tokens, prefix: prefix, precision: .f64), inputs: [table]
    ).run()[0]
    let maps = (0..<4).flatMap { seed -> [Tensor?] in
      [
        Tensor.random([6, 6], seed: UInt64(10 + seed), element: .f64),
        Tensor.random([6], seed: UInt64(20 + seed), element: .f64),
      ]
    }
    let attention = VitAttention(heads: 2)
    let whole = try OpCase(attention, inputs: [many] + maps).run()[0]
    let merged = try OpCase(attention, inputs: [few] + maps + [sizes]).run()[0]
    let back = try OpCase(TokenUnmerge(prefix: prefix), inputs: [merged, table]).run()[0]
    #expect(try relativeDifference(back, whole) < 1e-12)
    guard prefix > 0 else { return }
    let rows = PrefixAttention(heads: 2, kvHeads: 2, prefix: prefix, scale: 0.4)
    let operands = [maps[0], maps[1], maps[2], maps[4], maps[5], maps[6], maps[7]]
    let long = try OpCase(rows, inputs: [many, nil] + operands).run()[0]
    let short = try OpCase(rows, inputs: [few, nil] + operands + [sizes]).run()[0]
    #expect(try relativeDifference(short, long) < 1e-12)
  }

  @Test("a gated scan of sizes gives what it gives behind the last of the copies", arguments: [0, 1])
  func scannedDuplicates(_ prefix: Int) throws {
    let kinds = [0, 1, 1, 1, 2, 3, 3]
    let order = try ScanOrder(.forward, grid: .init(rows: 1, columns: 7), prefix: prefix)
    let layout = try MixerLayout(dim: 6, outputDim: 5, width: 4, heads: 2, order: order)
    let mixer = try Mixers.named("glr").make(layout)
    var random = SplitMix(seed: 3)
    let parameters = try mixer.initialise(layout, from: nil, random: &random)
    let few = Tensor.random([2, prefix + 4, 6], seed: 2, scale: 2)
    let table = Tensor(shape: [2, 7], integers: (kinds + kinds).map { prefix + $0 })
    let many = try OpCase(TokenUnmerge(prefix: prefix), inputs: [few, table]).run()[0]
    let whole = try OpCase(mixer, inputs: [many] + parameters).run()[0].doubles()
    let sizes = try OpCase(LogSize(tokens: prefix + 4, prefix: prefix), inputs: [table]).run()[0]
    let merged = try #require(try mixer.merged(patches: 4))
    let short = try OpCase(merged, inputs: [few] + parameters + [sizes]).run()[0].doubles()
    // The prefix is read last.
    let lasts = Array(0..<prefix) + [0, 3, 4, 6].map { prefix + $0 }
    for image in 0..<2 {
      for (token, last) in lasts.enumerated() {
        for channel in 0..<5 {
          let a = short[(image * (prefix + 4) + token) * 5 + channel]
          let b = whole[(image * (prefix + 7) + last) * 5 + channel]
          #expect(abs(a - b) < 2e-6 * max(1, abs(b)))
        }
      }
    }
  }

  @Test("taps of merged tokens are those of all places, and means of them", arguments: [false, true])
  func taps(_ ownsPrefix: Bool) throws {
    let order = try ScanOrder(.forward, grid: .init(rows: 3, columns: 3), prefix: 2)
    let layout = try MixerLayout(
      dim: 6, outputDim: 5, width: 4, heads: 2, order: order, ownsPrefix: ownsPrefix, splitsHeads: false)
    let mixer = try Mixers.named("conv").make(layout)
    var random = SplitMix(seed: 3)
    let parameters = try mixer.initialise(layout, from: nil, random: &random)
    let table = Tensor(shape: [2, 9], integers: [2, 3, 3, 4, 2, 5, 3, 5, 2, 4, 4, 4, 2, 3, 3, 5, 3, 2])
    let few = Tensor.random([2, 6, 6], seed: 2)
    let whole = try OpCase(TokenUnmerge(prefix: 2), inputs: [few, table]).run()[0]
    let mixed = try OpCase(mixer, inputs: [whole] + parameters).run()[0]
    let wanted = try OpCase(TokenMerge(tokens: 6, prefix: 2), inputs: [mixed, table]).run()[0]
    let found = try OpCase(mixer, inputs: [few] + parameters + [table]).run()[0]
    #expect(try relativeDifference(found, wanted) < 1e-6)
  }

  @Test("numbers in a table that name no token are taken for none") func strayNumbers() throws {
    let table = Tensor(shape: [1, 4], integers: [1, 7, -3, 0])
    let x = Tensor.random([1, 5, 2], seed: 1)
    let merged = try OpCase(TokenMerge(tokens: 3, prefix: 1), inputs: [x, table]).run()[0].doubles()
    let numbers = try x.doubles()
    #expect(merged == Array(numbers[0..<4]) + [0, 0])
    let back = try OpCase(TokenUnmerge(prefix: 1), inputs: [x, table]).run()[0].doubles()
    #expect(back == Array(numbers[0..<4]) + [0, 0, 0, 0, 0, 0])
    let sizes = try OpCase(LogSize(tokens: 3, prefix: 1), inputs: [table]).run()[0].doubles()
    #expect(sizes == [0, 0, -.infinity])
    let again = try OpCase(TokenMatch(count: 1, prefix: 1), inputs: [x, nil, nil, table]).integers()
    #expect(again[1] == -1 && again[2] == -1 && again[3] == -1)
  }

  @Test("numbers that are none merge something, and trap nowhere") func notANumber() throws {
    let x = Tensor(.f32, shape: [1, 6, 1], values: [.nan, .infinity, .nan, -.infinity, 0, .nan])
    let table = try OpCase(TokenMatch(count: 3, prefix: 0), inputs: [x]).integers()
    #expect(Set(table) == [0, 1, 2])
  }

  @Test(
    "what does not fit is refused",
    arguments: [
      ("vit.match", "(f32[1, 2, 4]) {count = 1, prefix = 3}", "expected a known number of channels"),
      ("vit.match", "(f32[1, 6, 4], f32[5, 4]) {count = 1, heads = 2}", "5 channels do not make 2 heads"),
      ("vit.match", "(f32[1, 6, 4], _, f32[5]) {count = 1}", "without 'wv'"),
      ("vit.match", "(f32[1, 6, 4], _, _, i64[2, 6]) {count = 1}", "expected i64[1, places]"),
      ("vit.match", "(f32[1, 6, 4]) {count = -1}", "expected 0 to 65536"),
      (
        "vit.keep",
        "(f32[1, 6, 4], f32[0, 4], _, f32[0, 4]) {count = 1, heads = 9223372036854775807, kv_heads = 1, scale = 1.0}",
        "cannot share"
      ),
      ("vit.keep", "(f32[1, 6, 4], f32[4, 4], _, f32[4, 4]) {count = 7, heads = 2, scale = 1.0}", "from 7"),
      (
        "vit.keep", "(f32[1, 6, 4], f32[4, 4], _, f32[3, 4]) {count = 2, heads = 2, scale = 1.0}",
        "expected keys"
      ),
      (
        "vit.keep", "(f32[1, 6, 4], f32[4, 4], _, f32[4, 4]) {count = 2, heads = 2, rows = 3, scale = 1.0}",
        "0 for all"
      ),
      ("vit.merge", "(f32[1, 6, 4], i64[1, 4]) {tokens = 3}", "does not make 3 tokens"),
      ("vit.merge", "(f32[1, 6, 4], i64[1, 6]) {tokens = 7}", "does not make 7 tokens"),
      ("vit.merge", "(f32[1, 6, 4], i64[1, 6]) {tokens = 1, prefix = 2}", "expected 2 to 65536"),
      ("vit.unmerge", "(f32[1, 6, 4], f32[1, 6])", "expected i64[1, places]"),
      ("vit.unmerge", "(f32[1, 2, 4], i64[1, 6]) {prefix = 3}", "expected at least 3 tokens"),
      ("vit.log_size", "(i64[1, 6]) {tokens = 3, element = \"f16\"}", "element"),
    ])
  func refusals(_ name: String, _ use: String, _ message: String) throws {
    let text = "graph \"g\" (\(parameters(use))) -> (y = %y) {\n  %y = \(name)\(call(use)) : f32[1]\n}\n"
    let error = #expect(throws: VitError.self) {
      try Graph(text: Array(text.utf8), file: "g.vit", registry: .standard)
    }
    let found = "\(error?.diagnostic.message ?? "")"
    #expect(found.contains(message), "\(found)")
  }

  /// The operands of a use as parameters of a graph.
  private func parameters(_ use: String) -> String {
    types(use).enumerated().filter { $0.element != "_" }.map { "%x\($0.offset): \($0.element)" }
      .joined(separator: ", ")
  }

  private func call(_ use: String) -> String {
    let names = types(use).enumerated().map { $0.element == "_" ? "_" : "%x\($0.offset)" }
    let attributes = use.split(separator: "{", maxSplits: 1).dropFirst().first.map { " {\($0)" } ?? ""
    return "(\(names.joined(separator: ", ")))\(attributes)"
  }

  private func types(_ use: String) -> [String] {
    let inner = use.drop { $0 != "(" }.dropFirst().prefix { $0 != ")" }
    var result: [String] = []
    var depth = 0
    var current = ""
    for character in inner {
      if character == "[" { depth += 1 }
      if character == "]" { depth -= 1 }
      if character == ",", depth == 0 {
        result.append(current)
        current = ""
      } else if character != " " || !current.isEmpty {
        current.append(character)
      }
    }
    return result + [current]
  }
}
