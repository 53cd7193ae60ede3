internal import VitIR
public import VitPasses
internal import VitRuntime

/// A study of a teacher: the paper's experiments and the questions that it leaves, as a protocol says.
public struct Study: Sendable {
  private let teacher: Model
  private let bench: StudyBench
  private let samples: [Samples]
  private let identity: StudyIdentity
  /// What it does.
  public let plan: StudyProtocol

  /// A job, with the minutes that it takes at 150 GFLOP/s.
  public struct Job: Sendable {
    /// Its name.
    public let name: String
    /// The minutes.
    public let minutes: Double
  }

  /// A study of `teacher`, trained on `data` and measured on `evaluation` (by default on what is held out of the data).
  ///
  /// Throws where the protocol makes no sense, the teacher has fewer than two layers that can be replaced, or there are too few data.
  public init(
    _ plan: StudyProtocol, of original: Model, on data: Samples, evaluation: Samples? = nil,
    threads: Int? = nil,
    progress: Progress = Progress()
  ) throws {
    try plan.check()
    let floats = try original.inFloats(threads: threads)
    for note in floats?.diagnostics ?? [] where note.code == "dequantised" { progress.report(note) }
    var teacher = floats ?? original
    if let weight = original.nonFiniteWeights.first {
      throw VitError(
        weight.message, code: "non-finite-weight", help: "a model with such weights cannot be distilled")
    }
    let pool = ThreadPool.shared(threads: threads)
    let context = PassContext(pool: pool, registry: .vitc, seed: UInt64(plan.seed), progress: progress)
    _ = try FixSize(sample: data.shape).run(on: &teacher.hybrid, context: context)
    let layers = teacher.hybrid.layers.filter(\.isReplaceable)
    guard layers.count > 1 else {
      throw VitError(
        "a study compares layers, and \(layers.count) of the model's can be replaced", code: "no-attention",
        location: Location(file: original.path), help: "vitc inspect lists the layers and the reasons")
    }
    guard data.count > 1 else {
      throw VitError("a study needs several samples, found \(data.count)", kind: .usage, code: "data-missing")
    }
    let parts = try data.holdingOut(min(plan.heldOut, data.count / 2), seed: UInt64(plan.seed))
    self.plan = plan
    self.teacher = teacher
    samples = [data, evaluation].compactMap { $0 }
    identity = try StudyIdentity(plan, teacher: original, data: [data, evaluation])
    bench = StudyBench(
      Teacher(teacher.hybrid), training: parts.training, heldOut: parts.heldOut,
      evaluation: evaluation ?? parts.heldOut, plan: plan, pool: pool, progress: progress)
  }

  /// The jobs, in their order.
  public func jobs() throws -> [Job] {
    let cost = try StudyCost(bench)
    return StudyJob.all(of: plan, layers: teacher.hybrid.layers).map {
      Job(name: $0.name, minutes: cost.seconds(of: $0) / 60)
    }
  }

  /// The names of the jobs of a study of `teacher`, in their order.
  public static func jobs(of plan: StudyProtocol, on teacher: Model) throws -> [String] {
    try plan.check()
    return StudyJob.all(of: plan, layers: try (teacher.inFloats() ?? teacher).hybrid.layers).map(\.name)
  }

  /// Does one job, whether it was done before or not, and keeps it in the folder at `path`. Throws a usage error where there is
  /// no job of that name.
  public func run(_ name: String, in path: String) throws {
    guard let job = StudyJob.all(of: plan, layers: teacher.hybrid.layers).first(where: { $0.name == name })
    else {
      throw VitError("the study has no job '\(name)'", kind: .usage, code: "study-job")
    }
    let folder = StudyFolder(path, identity)
    try folder.make()
    try folder.keep(outcome(of: job), of: job)
  }

  /// Does the jobs that are not done yet, keeps each in the folder at `path`, and gives what all found. `each` hears of every job: its
  /// name, and whether it was done before.
  public func run(in path: String, each: (String, Bool) -> Void = { _, _ in }) throws -> StudyResult {
    let folder = StudyFolder(path, identity)
    try folder.make()
    let jobs = StudyJob.all(of: plan, layers: teacher.hybrid.layers)
    // What belongs to another study is refused before any work.
    let known = try jobs.map { try folder.records(of: $0) }
    var records: [StudyRecord] = []
    for (job, found) in zip(jobs, known) {
      each(job.name, found != nil)
      if let found {
        records += found
        continue
      }
      try folder.keep(outcome(of: job), of: job)
      // As they will be read when a study goes on.
      records += try folder.records(of: job) ?? []
    }
    return StudyResult(
      plan, identity, name: teacher.path.map(GoldenFolder.stem) ?? "teacher",
      layers: teacher.hybrid.layers.filter(\.isReplaceable).map(\.index), cost: try bench.cost(teacher.graph),
      records)
  }

  /// What a job finds; where it asks more of the model than it has, as a fixed number of tokens, why it was left out.
  private func outcome(of job: StudyJob) throws -> [StudyRecord] {
    do { return try job.run(on: bench) } catch let error as VitError where StudyJob.isLeftOut(error) {
      bench.progress.report(
        Diagnostic(.note, "\(job.name) is left out: \(error.diagnostic.message)", code: "study-left-out"))
      return [
        StudyRecord("omitted", [("job", .text(job.name)), ("reason", .text(error.diagnostic.message))])
      ]
    }
  }
}
