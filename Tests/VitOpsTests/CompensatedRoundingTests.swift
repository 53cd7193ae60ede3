import Testing
import VitIR
import VitOps
import VitRuntime

@Suite("Rounding that makes up")
struct CompensatedRoundingTests {
  private static let (outputs, inputs) = (9, 70)

  /// The covariance of inputs that depend on each other.
  private static func covariance(_ inputs: Int, rows: Int = 300) -> [Double] {
    var random = SplitMix(seed: 8)
    let mixing = (0..<inputs * inputs).map { _ in random.normal() }
    var sums = [Double](repeating: 0, count: inputs * inputs)
    for _ in 0..<rows {
      let source = (0..<inputs).map { _ in random.normal() }
      let row = (0..<inputs).map { index in
        source[index] + 0.3 * (0..<8).reduce(0.0) { $0 + mixing[index * inputs + $1] * source[$1] }
      }
      for i in 0..<inputs { for j in 0..<inputs { sums[i * inputs + j] += row[i] * row[j] / Double(rows) } }
    }
    return sums
  }

  private static func weight(_ outputs: Int = outputs, _ inputs: Int = inputs) -> [Float] {
    var random = SplitMix(seed: 2)
    return (0..<outputs * inputs).map { _ in Float(random.normal()) }
  }

  /// The mean squared error of what a map gives, whose weight is wrong by so much.
  private static func error(_ errors: [Double], _ covariance: [Double], _ inputs: Int) -> Double {
    stride(from: 0, to: errors.count, by: inputs).reduce(0) { sum, first in
      (0..<inputs).reduce(sum) { sum, i in
        (0..<inputs).reduce(sum) { sum, j in
          sum + errors[first + i] * covariance[i * inputs + j] * errors[first + j]
        }
      }
    }
  }

  @Test(
    "what a map gives is much nearer than where each weight is rounded by itself",
    arguments: [ElementType.w4, .w8])
  func nearer(_ element: ElementType) throws {
    let (weight, covariance) = (Self.weight(), Self.covariance(Self.inputs))
    let shape = [Self.outputs, Self.inputs]
    let rounded = try #require(
      try CompensatedRounding(
        weight, shape: shape, to: element, covariance: covariance, pool: ThreadPool(threads: 2)))
    let plain = try #require(try Tensor(shape: shape, floats: weight).quantised(to: element)).floats()
    let found = try rounded.tensor.floats()
    // What it says is wrong is what is wrong.
    for (place, error) in rounded.errors.enumerated() {
      #expect(abs(Double(weight[place]) - Double(found[place]) - error) < 1e-6)
    }
    let before = Self.error(zip(weight, plain).map { Double($0) - Double($1) }, covariance, Self.inputs)
    let after = Self.error(rounded.errors, covariance, Self.inputs)
    #expect(after < 0.7 * before, "\(element): \(before) to \(after)")
  }

  @Test("where inputs do not depend on each other it is rounding by itself") func independent() throws {
    let shape = [Self.outputs, Self.inputs]
    let identity = (0..<Self.inputs * Self.inputs).map { $0 % (Self.inputs + 1) == 0 ? 1.0 : 0 }
    let rounded = try #require(
      try CompensatedRounding(Self.weight(), shape: shape, to: .w4, covariance: identity, pool: SerialPool()))
    let plain = try #require(try Tensor(shape: shape, floats: Self.weight()).quantised(to: .w4))
    #expect(try rounded.tensor.floats() == plain.floats())
  }

  @Test("two columns, by hand: the second makes up for what the first lost") func pair() throws {
    // C + λtI = U·Uᵀ with U = [[a, b], [0, d]]: the second column is asked for w₁ + e₀·b/d.
    let covariance = [2.0, 1, 1, 1]
    let (weight, ridge) = ([Float(1), 0.63], 1e-12)
    let rounded = try #require(
      try CompensatedRounding(
        weight, shape: [1, 2], to: .w8, covariance: covariance, ridge: ridge, pool: SerialPool()))
    let found = try rounded.tensor.floats()
    let wanted = Double(weight[1]) + rounded.errors[0] * 1
    let step = abs(Double(try #require(found.first)) / 127)
    #expect(abs(Double(found[1]) - wanted) <= 0.51 * step)
  }

  @Test("any number of threads gives the same bits, and what does not vary or is no number is none")
  func edges() throws {
    let (weight, covariance) = (Self.weight(), Self.covariance(Self.inputs))
    let shape = [Self.outputs, Self.inputs]
    let found = try [1, 2, 3].map { threads in
      try CompensatedRounding(
        weight, shape: shape, to: .w4, covariance: covariance, pool: ThreadPool(threads: threads))?.tensor
        .floats()
    }
    #expect(found[0] != nil && found[0] == found[1] && found[1] == found[2])
    func isNone(_ weight: [Float], _ covariance: [Double]) throws -> Bool {
      try CompensatedRounding(weight, shape: shape, to: .w4, covariance: covariance, pool: SerialPool())
        == nil
    }
    #expect(try isNone([.infinity] + weight.dropFirst(), covariance))
    #expect(try isNone(weight, [.nan] + covariance.dropFirst()))
    // Inputs that are always zero leave nothing to make up with, and are rounded by themselves.
    let nothing = [Double](repeating: 0, count: covariance.count)
    _ = try isNone(weight, nothing)
  }
}
