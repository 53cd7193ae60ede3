public import VitIR
internal import Glibc

/// What halting costs beside the task, with its gradients (Mixers.md §4): tokens that go on for long, and halting elsewhere than at a
/// depth.
///
/// Layers count from 1. The score of token k behind layer l is h, that behind the last layer 1. N is the first layer at which the sum of a
/// token's scores reaches 1 − ε, r what is left of 1 before that; the token is masked behind N, which carries no gradient.
public struct HaltingLoss: Sendable {
  /// What the mean of N + r counts, over all tokens.
  public var ponder: Double
  /// What KL(target‖scores) counts.
  public var prior: Double
  /// The layer around which the target lies, a Gaussian of deviation 1.
  public var depth: Double
  /// How near to 1 a sum of scores has to come.
  public var epsilon: Double
  /// The tokens before the patches; the prior is not for them.
  public var prefix: Int

  /// A loss.
  public init(ponder: Double, prior: Double, depth: Double, epsilon: Double, prefix: Int) {
    (self.ponder, self.prior, self.depth) = (ponder, prior, depth)
    (self.epsilon, self.prefix) = (epsilon, prefix)
  }

  /// σ(x), a token's score.
  public static func score(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

  /// What it comes to.
  public struct Parts: Equatable, Sendable {
    /// The mean of N + r.
    public var ponder = 0.0
    /// KL(target‖scores).
    public var prior = 0.0
  }

  /// The least and the most that a layer's part of the scores counts as.
  private static let clamp = 0.01...0.99

  /// The parts for the scores behind each layer but the last, `[images, tokens, 1]` each; adds `weight` times the gradient of both, as
  /// they count, to `gradients`. The prior is for the images together.
  public func callAsFunction(_ scores: [View], weight: Double, adding gradients: [View?]) -> Parts {
    guard let first = scores.first else { return Parts() }
    return first.element == .f64
      ? parts(scores.map(\.f64), first.shape, weight, gradients.map { $0?.f64 })
      : parts(scores.map(\.f32), first.shape, weight, gradients.map { $0?.f32 })
  }

  private func parts<T: BinaryFloatingPoint>(
    _ h: [UnsafeMutablePointer<T>], _ shape: [Int], _ weight: Double,
    _ gradients: [UnsafeMutablePointer<T>?]
  ) -> Parts {
    let (images, tokens, layers) = (shape[0], shape[1], h.count + 1)
    let patches = tokens - prefix
    guard images > 0, tokens > 0 else { return Parts() }
    var result = Parts()
    var halting = [Int](repeating: layers, count: images * tokens)
    // The means over patches; a token that is masked does not halt again.
    var means = [Double](repeating: 0, count: layers)
    means[layers - 1] = 1
    for place in 0..<images * tokens {
      var (sum, rest) = (0.0, 1.0)
      let isPatch = place % tokens >= prefix
      for layer in 0..<layers - 1 {
        let score = Double(h[layer][place])
        if isPatch { means[layer] += score / Double(images * patches) }
        sum += score
        if sum >= 1 - epsilon {
          halting[place] = layer + 1
          break
        }
        rest = 1 - sum
      }
      result.ponder += (Double(halting[place]) + rest) / Double(images * tokens)
    }
    var ofMean = [Double](repeating: 0, count: layers)
    if patches > 0 { (result.prior, ofMean) = prior(of: means) }
    for layer in 0..<layers - 1 {
      guard let gradient = gradients[layer] else { continue }
      for place in 0..<images * tokens where layer + 1 <= halting[place] {
        var value = 0.0
        if layer + 1 < halting[place] { value -= ponder / Double(images * tokens) }
        if place % tokens >= prefix { value += prior * ofMean[layer] / Double(images * patches) }
        gradient[place] += T(weight * value)
      }
    }
    return result
  }

  /// The target, over layers.
  public func target(layers: Int) -> [Double] {
    let values = (1...layers).map { exp(-0.5 * (Double($0) - depth) * (Double($0) - depth)) }
    let sum = max(values.reduce(0, +), .leastNormalMagnitude)
    return values.map { $0 / sum }
  }

  /// KL(target‖means as a distribution), and its gradient with respect to the means.
  private func prior(of means: [Double]) -> (value: Double, gradient: [Double]) {
    let target = target(layers: means.count)
    let sum = max(means.reduce(0, +), .leastNormalMagnitude)
    var (value, free) = (0.0, 0.0)
    for (t, mean) in zip(target, means) where t > 0 {
      let part = min(max(mean / sum, Self.clamp.lowerBound), Self.clamp.upperBound)
      value += t * (log(t) - log(part))
      if Self.clamp.contains(mean / sum) { free += t }
    }
    return (
      value,
      zip(target, means).map { t, mean in free / sum - (Self.clamp.contains(mean / sum) ? t / mean : 0) }
    )
  }
}
