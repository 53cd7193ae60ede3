import Foundation
import Testing
import VitIR
import VitOps
import VitRuntime
import VitTestSupport

/// Least squares that PyTorch solved: see tools/fixtures/make_tap_fixtures.py.
struct MixerFitFixture: Decodable {
  struct Numbers: Decodable {
    let shape: [Int]
    let values: [Double]
    var tensor: Tensor { Tensor(.f32, shape: shape, values: values) }
  }

  struct Fit: Decodable {
    let kind: String
    let options: [String: FixtureAttribute]
    let results: [Numbers]
  }

  let grid: [Int]
  let prefix, heads: Int
  /// The part of the attended values that the default taps, shared by heads, do not give.
  let missed: Double
  let x, wv, bv, context, maps: Numbers
  let fits: [Fit]

  static func load() throws -> MixerFitFixture {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let data = try Data(contentsOf: root.appending(path: "golden/operators/mixer_fits.json"))
    return try JSONDecoder().decode(MixerFitFixture.self, from: data)
  }
}

@Suite("fits of mixers")
struct MixerFitTests {
  /// Tensors in memory for as long as it lives.
  private final class Memory {
    let view: View

    init(_ tensor: Tensor) throws {
      view = View(
        base: .allocate(byteCount: max(64, tensor.count * 4), alignment: 64), element: .f32,
        shape: tensor.shape)
      for (index, value) in try tensor.doubles().enumerated() { view.f32[index] = Float(value) }
    }
    deinit { view.base.deallocate() }
  }

  private func layout(_ fixture: MixerFitFixture, width: Int? = nil) throws -> MixerLayout {
    let dim = fixture.wv.shape[1]
    return try MixerLayout(
      dim: dim, outputDim: dim, width: width ?? fixture.wv.shape[0], heads: fixture.heads,
      order: ScanOrder(
        .forward, grid: .init(rows: fixture.grid[0], columns: fixture.grid[1]), prefix: fixture.prefix))
  }

  /// What a fit gives on the images of the fixture, so many at a time.
  private func solve(
    _ fixture: MixerFitFixture, _ fit: MixerFitFixture.Fit, images: Int, pool: any WorkPool = SerialPool()
  ) throws -> [(operand: Int, tensor: Tensor)] {
    let layout = try layout(fixture)
    let mixer = try Mixers.named(fit.kind).make(
      layout, Attributes(fit.options.sorted { $0.key < $1.key }.map { ($0.key, $0.value.attribute) }))
    var random = SplitMix(seed: 1)
    var parameters = try mixer.initialise(layout, from: nil, random: &random)
    (parameters[0], parameters[1]) = (fixture.wv.tensor, fixture.bv.tensor)
    var found = try #require(try mixer.fit(layout, parameters))
    #expect(found.readsMaps)
    let memory = try [fixture.x, fixture.context, fixture.maps].map { try Memory($0.tensor) }
    for first in stride(from: 0, to: fixture.x.shape[0], by: images) {
      let range = first..<min(fixture.x.shape[0], first + images)
      try found.add(
        FitBatch(
          x: memory[0].view.slice(range), context: memory[1].view.slice(range),
          maps: memory[2].view.slice(range), pool: pool))
    }
    let solution = found.solve()
    let shapes = mixer.parameters(layout).map(\.shape)
    for (operand, tensor) in solution { #expect(tensor.shape == shapes[operand - 1]) }
    return solution
  }

  @Test("taps and maps are those that PyTorch finds, however the images are batched")
  func agreesWithPyTorch() throws {
    let fixture = try MixerFitFixture.load()
    for fit in fixture.fits {
      for images in [1, 2, 3] {
        let solution = try solve(fixture, fit, images: images)
        try #require(solution.count == fit.results.count)
        for ((_, tensor), expected) in zip(solution, fit.results) {
          let difference = try relativeDifference(tensor, expected.tensor)
          #expect(difference < 2e-4, "\(fit.kind) \(fit.options)")
        }
      }
    }
  }

  @Test("what taps miss is what PyTorch finds, however the images are cut")
  func missed() throws {
    let fixture = try MixerFitFixture.load()
    let (wv, bv, shape) = (fixture.wv, fixture.bv, fixture.context.shape)
    let dim = wv.shape[1]
    let values = (0..<shape.reduce(1, *)).map { index in
      let (row, channel) = (index / shape[2], index % shape[2])
      return (0..<dim).reduce(bv.values[channel]) {
        $0 + fixture.x.values[row * dim + $1] * wv.values[channel * dim + $1]
      }
    }
    let memory = (
      v: try Memory(Tensor(.f32, shape: shape, values: values)), c: try Memory(fixture.context.tensor)
    )
    let grid = ScanOrder.Grid(rows: fixture.grid[0], columns: fixture.grid[1])
    let none = try #require(TapError(grid: grid, prefix: fixture.prefix, heads: fixture.heads))
    #expect(none.relative == nil)
    var whole = none
    whole.add(memory.v.view, memory.c.view, pool: SerialPool())
    #expect(try abs(#require(whole.relative) - fixture.missed) < 1e-5)
    var (first, rest) = (none, none)
    first.add(memory.v.view.slice(0..<1), memory.c.view.slice(0..<1), pool: SerialPool())
    rest.add(memory.v.view.slice(1..<3), memory.c.view.slice(1..<3), pool: SerialPool())
    first.add(rest)
    #expect(try abs(#require(first.relative) - fixture.missed) < 1e-5)
    #expect(TapError(grid: .init(rows: 0, columns: 3), prefix: 1, heads: 2) == nil)
    #expect(TapError(grid: grid, prefix: 400, heads: 2) == nil)
  }

  @Test("one thread and three give the same bits")
  func sameBits() throws {
    let fixture = try MixerFitFixture.load()
    let pool = ThreadPool(threads: 3)
    for fit in fixture.fits {
      let (alone, together) = (
        try solve(fixture, fit, images: 2), try solve(fixture, fit, images: 2, pool: pool)
      )
      for (a, b) in zip(alone, together) { #expect(try relativeDifference(a.tensor, b.tensor) == 0) }
    }
  }

  @Test("a channel whose values are always zero gets no taps")
  func silentChannels() throws {
    let fixture = try MixerFitFixture.load()
    let layout = try layout(fixture)
    let mixer = try Mixers.named("conv").make(layout)
    var random = SplitMix(seed: 1)
    var parameters = try mixer.initialise(layout, from: nil, random: &random)
    parameters[0] = Tensor(.f32, shape: parameters[0].shape, values: [Double](repeating: 0, count: 12))
    parameters[1] = Tensor(.f32, shape: [4], values: [0, 1, 0, 1])
    var fit = try #require(try mixer.fit(layout, parameters))
    let memory = try [fixture.x, fixture.context, fixture.maps].map { try Memory($0.tensor) }
    try fit.add(
      FitBatch(x: memory[0].view, context: memory[1].view, maps: memory[2].view, pool: SerialPool()))
    let taps = try #require(fit.solve().first).tensor.doubles()
    for (index, tap) in taps.enumerated() { #expect((tap == 0) == (index / 9 % 2 == 0)) }
  }

  @Test("what was seen is what can be solved: nothing, where nothing was or the channels are others")
  func nothingToSolve() throws {
    let fixture = try MixerFitFixture.load()
    let memory = try [fixture.x, fixture.context, fixture.maps].map { try Memory($0.tensor) }
    for kind in ["conv", "static"] {
      let layout = try layout(fixture, width: 2)
      let mixer = try Mixers.named(kind).make(layout)
      var random = SplitMix(seed: 1)
      let parameters = try mixer.initialise(layout, from: nil, random: &random)
      var fit = try #require(try mixer.fit(layout, parameters))
      #expect(fit.solve().isEmpty)
      try fit.add(
        FitBatch(x: memory[0].view, context: memory[1].view, maps: memory[2].view, pool: SerialPool()))
      #expect(fit.solve().isEmpty)
      #expect(throws: VitError.self) {
        try fit.add(FitBatch(x: memory[1].view, context: memory[1].view, pool: SerialPool()))
      }
    }
  }

  @Test("numbers that are not finite are not solved for", arguments: ["conv", "static"])
  func notFinite(_ kind: String) throws {
    let fixture = try MixerFitFixture.load()
    let layout = try layout(fixture)
    let mixer = try Mixers.named(kind).make(layout)
    var random = SplitMix(seed: 1)
    var fit = try #require(
      try mixer.fit(layout, mixer.initialise(layout, from: nil, random: &random)))
    let memory = try [fixture.x, fixture.context, fixture.maps].map { try Memory($0.tensor) }
    for index in 0..<memory[0].view.count { memory[0].view.f32[index] = .nan }
    try fit.add(
      FitBatch(x: memory[0].view, context: memory[1].view, maps: memory[2].view, pool: SerialPool()))
    #expect(fit.solve().isEmpty)
  }
}
