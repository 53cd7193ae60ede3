import Foundation
import Testing
import VitIR
import VitRuntime
import VitTrain

@Suite("halting")
struct HaltingLossTests {
  private static let (images, tokens, layers) = (2, 5, 4)

  /// Scores behind three layers, decided by a seed: some tokens halt early, some behind the last layer.
  private func scores(seed: UInt64, scale: Double) -> [[Double]] {
    var random = SplitMix(seed: seed)
    return (0..<Self.layers - 1).map { _ in
      (0..<Self.images * Self.tokens).map { _ in scale * HaltingLoss.score(random.normal()) }
    }
  }

  /// The parts, and with `gradients` what is added to them.
  private func run(
    _ loss: HaltingLoss, _ scores: [[Double]], weight: Double = 1, gradients: inout [[Double]]
  ) throws -> HaltingLoss.Parts {
    let shape = [Self.images, Self.tokens, 1]
    let size = (8 * Self.images * Self.tokens / Arena.alignment + 1) * Arena.alignment
    let arena = try Arena(byteCount: 2 * (Self.layers - 1) * size, for: "a test")
    let type = TensorType(.f64, fixed: shape)
    let views = (0..<2 * (Self.layers - 1)).map { arena.view(type, at: $0 * size) }
    let (h, g) = (Array(views.prefix(Self.layers - 1)), Array(views.suffix(Self.layers - 1)))
    for (view, values) in zip(h, scores) {
      for (index, value) in values.enumerated() { view.f64[index] = value }
    }
    for view in g { view.zero() }
    let parts = loss(h, weight: weight, adding: g)
    gradients = g.map { view in (0..<view.count).map { view.f64[$0] } }
    return parts
  }

  @Test("gradients are those of central differences", arguments: [(1, 0.9), (2, 0.5), (3, 0.2), (4, 1)])
  func gradients(seed: Int, scale: Double) throws {
    let loss = HaltingLoss(ponder: 0.3, prior: 0.7, depth: 2.5, epsilon: 0.01, prefix: 1)
    let h = scores(seed: UInt64(seed), scale: scale)
    var (gradient, unused): ([[Double]], [[Double]]) = ([], [])
    _ = try run(loss, h, weight: 0.5, gradients: &gradient)
    for layer in h.indices {
      for place in h[layer].indices {
        var values: [Double] = []
        for step in [1e-6, -1e-6] {
          var moved = h
          moved[layer][place] += step
          let parts = try run(loss, moved, gradients: &unused)
          values.append(0.5 * (loss.ponder * parts.ponder + loss.prior * parts.prior))
        }
        let difference = (values[0] - values[1]) / 2e-6
        #expect(abs(gradient[layer][place] - difference) < 1e-8, "layer \(layer), place \(place)")
      }
    }
  }

  @Test("a token counts until the sum of its scores is nearly one, and what is left of that")
  func ponder() throws {
    let loss = HaltingLoss(ponder: 1, prior: 0, depth: 2, epsilon: 0.01, prefix: 1)
    var unused: [[Double]] = []
    // The first halts behind layer 1, the second behind 2 with a half left, the others behind the last.
    var h = [[Double]](repeating: [Double](repeating: 0, count: 10), count: 3)
    (h[0][0], h[0][1], h[1][1]) = (1, 0.5, 0.5)
    let parts = try run(loss, h, gradients: &unused)
    #expect(abs(parts.ponder - ((1 + 1) + (2 + 0.5) + 8 * (4 + 1)) / 10) < 1e-12)
  }

  @Test("scores that are distributed as the target cost nothing more") func prior() throws {
    let loss = HaltingLoss(ponder: 0, prior: 1, depth: 3, epsilon: 0.01, prefix: 1)
    let target = loss.target(layers: 4)
    #expect(abs(target.reduce(0, +) - 1) < 1e-12)
    var unused: [[Double]] = []
    // Behind the last layer the score is 1, so the others are parts of that; small, so that nothing halts.
    let small = HaltingLoss(ponder: 0, prior: 1, depth: 6, epsilon: 0.01, prefix: 1)
    let wanted = small.target(layers: 4)
    let h = (0..<3).map { layer in
      [Double](repeating: wanted[layer] / wanted[3], count: 10)
    }
    let parts = try run(small, h, gradients: &unused)
    // The first layers' parts are below what is counted as least.
    let clamped = zip(wanted, wanted.map { max($0, 0.01) }).reduce(0.0) { sum, pair in
      sum + pair.0 * (log(pair.0) - log(pair.1))
    }
    #expect(abs(parts.prior - clamped) < 1e-9)
  }
}
