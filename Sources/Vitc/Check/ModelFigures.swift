internal import VitIR
public import VitPasses

/// What a model costs and how well it does: what limits are held against.
public struct ModelFigures: Sendable {
  /// A number, and where it comes from.
  public struct Figure: Sendable, Hashable {
    /// The number.
    public let value: Double
    /// Where it comes from, in words; empty where it is a property of the file.
    public let source: String

    init(_ value: Double, _ source: String = "") {
      self.value = value
      self.source = source
    }

    /// The number as a text, with where it comes from.
    func described(_ number: String) -> String { source.isEmpty ? number : "\(number), \(source)" }
  }

  /// Weights.
  public let parameters: Int
  /// Floating-point operations for one sample.
  public let flops: Int
  /// Bytes of its files.
  public let bytes: Int
  /// The time of a sample as a part of the teacher's.
  public var timeRatio: Figure?
  /// The part of labelled images whose class is right.
  public var accuracy: Figure?
  /// Points of accuracy below the teacher's.
  public var drop: Figure?
  /// The part of images of which the teacher says the same.
  public var agreement: Figure?
  /// The mean divergence from the teacher's outputs.
  public var divergence: Figure?
  /// What was measured here, where something was.
  public var fidelity: Fidelity?

  /// The figures that `model` has of itself: its size, and what its file says was measured when it was compiled.
  public init(_ model: Model) throws {
    let inspection = try Inspection(model)
    (parameters, flops, bytes) = (inspection.parameters, inspection.flops, model.byteCount)
    guard let report = model.report else { return }
    let source = "as measured when it was compiled"
    let fidelity = report["fidelity"]
    func figure(_ value: Double?) -> Figure? { value.map { Figure($0, source) } }
    accuracy = figure(fidelity?["accuracy"]?.number)
    agreement = figure(fidelity?["agreement"]?.number)
    divergence = figure(fidelity?["kl"]?.number)
    let (own, teachers) = (accuracy?.value, fidelity?["teacher"]?["accuracy"]?.number)
    drop = figure(own.flatMap { own in teachers.map { ($0 - own) * 100 } })
    let (ms, base) = (report["hybrid"]?["ms"]?.number, report["teacher"]?["ms"]?.number)
    timeRatio = figure(ms.flatMap { ms in base.flatMap { $0 > 0 ? ms / $0 : nil } })
  }

  /// Each of the limits beside what the model has.
  public func results(_ budgets: Budgets) -> [CheckResult] { budgets.results(self) }

  /// A failure where outputs of the model are no numbers.
  public var nonFinite: [CheckResult] {
    guard let count = fidelity?.nonFinite, count > 0, let images = fidelity?.images else { return [] }
    return [
      CheckResult(
        name: "scores", place: "finite", verdict: .fails, expected: "numbers for all images",
        found: "none for \(count.grouped) of \(images.grouped)")
    ]
  }

  /// Measures the model on `data`, where there are some, and beside its `teacher`, where it is given: the time too where that is
  /// `timed`.
  public mutating func measure(
    _ model: Model, on data: Samples?, teacher: Model?, timed: Bool, threads: Int? = nil,
    progress: Progress = Progress()
  ) throws {
    if let data {
      let found = try Evaluation.fidelity(
        of: model, against: teacher, on: data, threads: threads, progress: progress)
      let source = "on \(found.images.grouped) images"
      func figure(_ value: Double?) -> Figure? { value.map { Figure($0, source) } }
      (accuracy, drop) = (figure(found.accuracy), nil)
      (agreement, divergence) = (figure(found.agreement), figure(found.divergence))
      if let own = found.accuracy, let teachers = found.teacherAccuracy {
        drop = figure((teachers - own) * 100)
      }
      fidelity = found
    }
    if timed, let teacher {
      let times = try Evaluation.benchmark([model, teacher], threads: threads, progress: progress)
      timeRatio = Figure(
        times[0].timing.median / times[1].timing.median,
        "\(times[0].timing.median.short) ms against \(times[1].timing.median.short) ms, timed in turn")
    }
  }
}
