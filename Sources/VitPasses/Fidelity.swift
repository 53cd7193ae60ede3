public import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain
internal import Glibc

/// How far a model's outputs are from its teacher's, over a set of samples.
public struct Fidelity: Sendable, Hashable {
  /// How many samples.
  public var images = 0
  /// How many labelled samples are right; `nil` without classes.
  public var scores: Accuracy?
  /// The share of labelled samples whose class is right; `nil` without labels or classes.
  public var accuracy: Double? { scores?.rate }
  /// The teacher's.
  public var teacherAccuracy: Double?
  /// The share of samples for which both say the same class; `nil` without classes.
  public var agreement: Double?
  /// The mean of KL(teacher‖model) over samples; `nil` without classes.
  public var divergence: Double?
  /// The standard error of that mean.
  public var divergenceError: Double?
  /// The standard error of the difference of the two accuracies, of pairs on the same samples.
  public var dropError: Double?
  /// The largest part of samples by which the accuracy may really fall, nineteen times in twenty; see `DropBound`.
  public var dropBound: Double?
  /// Σ‖model − teacher‖² / Σ‖teacher‖², the mean over outputs.
  public var relativeError = 0.0
  /// For how many samples an output of the model is no number; they count as wrong.
  public var nonFinite = 0

  /// Nothing measured yet, of so many samples.
  init(images: Int) { self.images = images }

  /// What a model says of labelled samples, compared with no other.
  public init(images: Int, scores: Accuracy?, nonFinite: Int) {
    self.images = images
    self.scores = scores
    self.nonFinite = nonFinite
  }

  /// What selection and training compare by: the divergence, or the relative error.
  public var damage: Double { divergence ?? relativeError }
}

/// Compares models with one teacher on one set of samples; the teacher's outputs are computed once.
public final class FidelityMeter {
  private let data: any SampleSource
  private let samples: [Int]
  private var runner: SampleRunner
  private let kind: OutputKind
  private let context: PassContext
  /// The teacher's outputs: for each of them the values of all samples.
  private let reference: [[Float]]
  /// What each sample counts for in agreement and divergence; all the same where there are none.
  private let sampleWeights: [Double]
  /// For how many samples the teacher gives something that is no number.
  public let referenceNonFinite: Int

  /// A meter on `samples` of `data` (all by default); without those for which the teacher gives no numbers, where it is
  /// `screening`. Where it names classes and there is a `profile`, samples count for as much in agreement and divergence as makes
  /// the teacher so sure of them.
  ///
  /// `progress` hears of the samples done while the teacher runs. Throws where there are no samples, and where more than a
  /// tenth of them are left out.
  public init(
    teacher: Graph, data: any SampleSource, samples: [Int]? = nil, context: PassContext,
    screening: Bool = true, profile: MarginProfile? = nil, progress: (Int, Int) -> Void = { _, _ in }
  ) throws {
    let places = samples ?? Array(0..<data.count)
    guard !places.isEmpty else {
      throw VitError("there are no samples to measure on", code: "data-empty")
    }
    self.data = data
    self.context = context
    kind = context.outputs(of: teacher, data)
    let screen = SampleScreen(data, context: context)
    var reference: [[Float]] = []
    var kept: [Int] = []
    var nonFinite = 0
    try SampleRunner(teacher, data: data, samples: places, context: context)
      .run(teacher, context.weights(of: teacher), progress: progress) { first, outputs, count in
        if reference.isEmpty { reference = outputs.map { _ in [] } }
        for row in 0..<count {
          let isFinite = SampleScreen.isFinite(outputs, row: row, of: outputs[0].shape[0])
          if !isFinite { nonFinite += 1 }
          if screening { try screen.note(places[first + row], isFinite: isFinite) }
          guard isFinite || !screening else { continue }
          kept.append(places[first + row])
          for (index, output) in outputs.enumerated() {
            let size = output.count / output.shape[0]
            reference[index] += UnsafeBufferPointer(start: output.f32 + row * size, count: size)
          }
        }
      }
    if screening { try screen.finish() }
    referenceNonFinite = nonFinite
    self.samples = kept
    self.reference = reference
    sampleWeights =
      kind == .classes && !kept.isEmpty
      ? profile?.weights(
        MarginProfile.margins(reference.first ?? [], classes: (reference.first?.count ?? 0) / kept.count))
        ?? []
      : []
    runner = SampleRunner(teacher, data: data, samples: kept, context: context)
  }

  /// The teacher's own accuracy; `nil` without classes.
  public var teacherScores: Accuracy? {
    guard kind == .classes, let logits = reference.first else { return nil }
    return logits.withUnsafeBufferPointer { buffer in
      buffer.baseAddress.map {
        accuracy($0, classes: logits.count / samples.count, first: 0, count: samples.count)
      }
    }
  }

  /// How sure the teacher is of the samples; `nil` without classes, and of too few samples.
  package var profile: MarginProfile? {
    guard kind == .classes, let logits = reference.first, !samples.isEmpty else { return nil }
    return MarginProfile(of: MarginProfile.margins(logits, classes: logits.count / samples.count))
  }

  private func accuracy(
    _ logits: UnsafePointer<Float>, classes: Int, first: Int, count: Int
  ) -> Accuracy {
    var result = Accuracy(classes: classes)
    for row in 0..<count {
      if let label = data.label(samples[first + row]) { result.add(logits + row * classes, label: label) }
    }
    return result
  }

  /// The place of the largest of `count` numbers; of equal ones the first.
  public static func best(_ values: UnsafePointer<Float>, _ count: Int) -> Int {
    var best = 0
    for index in 0..<count where values[index] > values[best] { best = index }
    return best
  }

  /// Runs `graph` on the samples and compares its outputs with the teacher's.
  public func measure(_ graph: Graph, progress: (Int, Int) -> Void = { _, _ in }) throws -> Fidelity {
    try measure(graph, weights: context.weights(of: graph), progress: progress)
  }

  /// The same of a model that differs from `teacher` in a node, or behind it: where the residual stream has come as far, the
  /// rest alone is run, and the same again is fastest in the order of nodes.
  package func measure(_ graph: Graph, differingFrom teacher: Teacher, at node: Int?) throws -> Fidelity {
    let start = node.flatMap(teacher.stream)
    if let start { try runner.cut(teacher.graph, context.weights(of: teacher.graph), at: start) }
    return try samples(graph, fromCut: start != nil) { _, _ in }.fidelity
  }

  /// The same with weights that are in memory already.
  func measure(
    _ graph: Graph, weights: WeightStore, progress: (Int, Int) -> Void = { _, _ in }
  ) throws -> Fidelity {
    try samples(graph, weights: weights, progress: progress).fidelity
  }

  /// The same, and what is done to each sample.
  func samples(
    _ graph: Graph, weights: WeightStore? = nil, fromCut: Bool = false,
    progress: (Int, Int) -> Void = { _, _ in }
  ) throws -> (fidelity: Fidelity, each: SampleDamages) {
    let weights = try weights ?? context.weights(of: graph)
    var each = SampleDamages()
    var result = Fidelity(images: samples.count)
    var agreeing = 0.0
    var sums = TreeSum<BatchSums>()
    try runner.run(graph, weights, fromCut: fromCut, progress: progress) { first, outputs, count in
      guard outputs.count == reference.count else {
        throw VitError("expected \(reference.count) outputs as in the teacher, found \(outputs.count)")
      }
      for row in 0..<count where !SampleScreen.isFinite(outputs, row: row, of: outputs[0].shape[0]) {
        result.nonFinite += 1
      }
      var batch = BatchSums(outputs: reference.count)
      for (index, output) in outputs.enumerated() {
        let size = output.count / output.shape[0]
        guard reference[index].count == size * samples.count else {
          throw VitError("output \(index) has another size than the teacher's")
        }
        reference[index].withUnsafeBufferPointer { all in
          guard let base = all.baseAddress else { return }
          let teacher = base + first * size
          for row in 0..<count {
            var (error, square) = (0.0, 0.0)
            for place in row * size..<(row + 1) * size {
              let difference = Double(output.f32[place]) - Double(teacher[place])
              error += difference * difference
              square += Double(teacher[place]) * Double(teacher[place])
            }
            batch.errors[index] += error
            batch.squares[index] += square
            if index == 0, kind != .classes {
              each.damages.append(error / max(square, .leastNormalMagnitude))
            }
          }
          guard index == 0, kind == .classes else { return }
          let scores = accuracy(output.f32, classes: size, first: first, count: count)
          result.scores = result.scores.map { $0.adding(scores) } ?? scores
          for row in 0..<count {
            let (t, s) = (teacher + row * size, output.f32 + row * size)
            let weight = sampleWeights.isEmpty ? 1 : sampleWeights[first + row]
            if FidelityMeter.best(t, size) == FidelityMeter.best(s, size) { agreeing += weight }
            let divergence = weight * FidelityMeter.divergence(t, s, size)
            batch.divergence += divergence
            each.damages.append(divergence)
            if let label = data.label(samples[first + row]), (0..<size).contains(label) {
              let isRight = FidelityMeter.best(s, size) == label
              let wasRight = FidelityMeter.best(t, size) == label
              each.gains.append((isRight ? 1 : 0) - (wasRight ? 1 : 0))
            }
          }
        }
      }
      sums.add(batch)
    }
    let sum = sums.total ?? BatchSums(outputs: reference.count)
    let relative = zip(sum.errors, sum.squares).map { $0 / max($1, .leastNormalMagnitude) }
    result.relativeError = relative.reduce(0, +) / Double(max(relative.count, 1))
    if kind == .classes {
      result.teacherAccuracy = teacherScores?.rate
      result.agreement = agreeing / Double(samples.count)
      result.divergence = sum.divergence / Double(samples.count)
      result.divergenceError = SampleDamages.mean(each.damages)?.error
      result.dropError = SampleDamages.mean(each.gains)?.error
      result.dropBound = DropBound.bound(
        lost: each.gains.count { $0 < 0 }, gained: each.gains.count { $0 > 0 }, of: each.gains.count)
    }
    return (result, each)
  }

  /// What is summed over the samples, of a batch or of several.
  private struct BatchSums: TreeTerm {
    /// ‖student − teacher‖² and ‖teacher‖² of each output.
    var errors: [Double], squares: [Double]
    var divergence = 0.0

    init(outputs: Int) {
      errors = Array(repeating: 0, count: outputs)
      squares = errors
    }

    mutating func add(_ later: BatchSums) {
      errors.add(later.errors)
      squares.add(later.squares)
      divergence += later.divergence
    }
  }

  /// KL(softmax(a)‖softmax(b)).
  static func divergence(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int) -> Double {
    let (p, q) = (Loss.probabilities(a, count, 1), Loss.probabilities(b, count, 1))
    var sum = 0.0
    for index in 0..<count where p[index] > 0 {
      sum += p[index] * (log(p[index]) - log(max(q[index], .leastNormalMagnitude)))
    }
    return sum
  }
}
