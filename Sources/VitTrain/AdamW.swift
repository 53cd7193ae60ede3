public import VitIR
internal import Glibc
internal import VitRuntime

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), over a set of parameters.
///
/// `w ← w(1 − ηλ) − η m̂ / (√v̂ + ε)`, decay on the parameters marked for it only (Mixers.md §3). Also holds
/// the running average of the weights, which often serves better than the last ones.
public final class AdamW {
  /// The constants of the method.
  public struct Options: Sendable {
    /// Decay of the first moment.
    public var beta1 = 0.9
    /// Decay of the second moment.
    public var beta2 = 0.98
    /// Added to the root of the second moment.
    public var epsilon = 1e-8
    /// Weight decay.
    public var decay = 0.05
    /// The largest decay of the running average of the weights.
    public var averaging = 0.99

    /// The defaults of Mixers.md §3.
    public init() {}
  }

  private let parameters: [View]
  private let gradients: [View]
  private let decays: [Bool]
  /// Each parameter's rate as a multiple of the schedule's.
  private let factors: [Double]
  private let options: Options
  private let pool: any WorkPool
  private let arena: Arena
  private let first: [View]
  private let second: [View]
  private let average: [View]
  /// The steps taken.
  public private(set) var steps = 0

  /// An optimiser of `parameters`, all `f32`, by their `gradients`. Throws where its state does not fit into memory.
  public init(
    parameters: [View], gradients: [View], decays: [Bool], factors: [Double]? = nil,
    options: Options = Options(),
    pool: any WorkPool
  ) throws(VitError) {
    precondition(parameters.count == gradients.count && parameters.count == decays.count)
    self.parameters = parameters
    self.gradients = gradients
    self.decays = decays
    self.factors = factors ?? parameters.map { _ in 1 }
    self.options = options
    self.pool = pool
    let arena = try Arena(
      byteCount: parameters.reduce(0) { $0 + 3 * AdamW.room($1) }, for: "the optimiser")
    self.arena = arena
    var offset = 0
    func views() -> [View] {
      parameters.map { parameter in
        defer { offset += AdamW.room(parameter) }
        return arena.view(TensorType(.f32, fixed: parameter.shape), at: offset)
      }
    }
    (first, second, average) = (views(), views(), views())
    resetAverage()
  }

  /// The bytes that a parameter's like takes in the arena.
  private static func room(_ view: View) -> Int {
    (view.byteCount + Arena.alignment - 1) / Arena.alignment * Arena.alignment
  }

  /// The Euclidean norm of all gradients, summed in double in a fixed order.
  public func gradientNorm() -> Double {
    var total = 0.0
    for view in gradients { total += SquaredNorm.squared(view, pool: pool) }
    return total.squareRoot()
  }

  /// One step at `rate`, the gradients scaled down where their norm is above `clip`. A step whose gradients
  /// are no finite numbers is left out. Returns the norm.
  @discardableResult
  public func step(rate: Double, clip: Double) -> Double {
    let norm = gradientNorm()
    guard norm.isFinite else { return norm }
    steps += 1
    let scale = norm > clip ? clip / norm : 1
    let correction1 = 1 - pow(options.beta1, Double(steps))
    let correction2 = 1 - pow(options.beta2, Double(steps))
    let keep = min(options.averaging, (1 + Double(steps)) / (10 + Double(steps)))
    for index in parameters.indices {
      let rate = rate * factors[index]
      let update = AdamWStep(
        scale: Float(scale), beta1: Float(options.beta1), beta2: Float(options.beta2),
        rate: Float(rate / correction1), rootCorrection: Float(1 / correction2.squareRoot()),
        epsilon: Float(options.epsilon), shrink: Float(decays[index] ? 1 - rate * options.decay : 1),
        keep: Float(keep))
      let (weights, gradient) = (parameters[index].f32, gradients[index].f32)
      let (m, v, mean) = (first[index].f32, second[index].f32, average[index].f32)
      let count = parameters[index].count
      let block = 1 << 14
      pool.run(tasks: (count + block - 1) / block) { task, _ in
        let start = task * block
        update.apply(
          weights + start, gradient + start, m + start, v + start, mean + start,
          count: min(block, count - start))
      }
    }
    return norm
  }

  /// Exchanges the weights and their running average.
  public func exchangeAverage() {
    for index in parameters.indices {
      let (weights, mean) = (parameters[index].f32, average[index].f32)
      for place in 0..<parameters[index].count { swap(&weights[place], &mean[place]) }
    }
  }

  /// Starts the running average anew from the weights as they are.
  public func resetAverage() {
    for (mean, weights) in zip(average, parameters) { mean.copy(from: weights) }
  }

  /// Forgets moments and steps, and starts the running average from the weights as they are.
  public func resetState() {
    steps = 0
    for view in first + second { view.zero() }
    resetAverage()
  }

  // MARK: State

  /// The bytes of a state.
  public var stateByteCount: Int { 8 + parameters.reduce(0) { $0 + 4 * $1.byteCount } }

  /// Hands over weights, moments, average and step count, for a checkpoint, part by part.
  public func writeState(to write: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    try withUnsafeBytes(of: Int64(steps).littleEndian, write)
    for index in parameters.indices {
      for view in [parameters[index], first[index], second[index], average[index]] {
        try write(UnsafeRawBufferPointer(start: view.base, count: view.byteCount))
      }
    }
  }

  /// Takes up a state that `writeState` gave, part by part, and all that `reader` has left; throws where it belongs to other
  /// parameters.
  public func restore(from reader: inout StateReader) throws(VitError) {
    let (found, wanted) = (reader.remaining, stateByteCount)
    guard found == wanted else {
      throw VitError("the training state has \(found) bytes, expected \(wanted)", code: "checkpoint")
    }
    steps = try reader.integer(in: 0...1 << 40, "the optimiser's steps")
    for index in parameters.indices {
      for view in [parameters[index], first[index], second[index], average[index]] {
        try reader.read(into: UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount))
      }
    }
  }
}

/// The arithmetic of one step on a run of weights.
private struct AdamWStep {
  let scale: Float
  let beta1: Float
  let beta2: Float
  let rate: Float
  let rootCorrection: Float
  let epsilon: Float
  let shrink: Float
  let keep: Float

  func apply(
    _ w: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ m: UnsafeMutablePointer<Float>,
    _ v: UnsafeMutablePointer<Float>, _ mean: UnsafeMutablePointer<Float>, count: Int
  ) {
    for index in 0..<count {
      let gradient = g[index] * scale
      let first = beta1 * m[index] + (1 - beta1) * gradient
      let second = beta2 * v[index] + (1 - beta2) * (gradient * gradient)
      m[index] = first
      v[index] = second
      let weight = w[index] * shrink - rate * first / (second.squareRoot() * rootCorrection + epsilon)
      w[index] = weight
      mean[index] = keep * mean[index] + (1 - keep) * weight
    }
  }
}
