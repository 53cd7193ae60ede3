internal import VitData
internal import VitFormats
internal import VitRuntime
public import VitIR
public import VitPasses

/// Images prepared for one model: what it is scored, trained and measured on.
public struct Samples: SampleSource {
  /// What the samples are for: which split is taken where a data set has two and its name asks for none.
  public enum Purpose: Sendable {
    /// Scoring and training: the training split.
    case calibration
    /// Measuring: the test split.
    case evaluation
  }

  /// Whose numbers classes have.
  public enum Numbering: Sendable {
    /// The model's, as far as names or ids say which they are.
    case model
    /// The data's own: for a model that is to have the data's classes.
    case data
  }

  /// The data as the user named them.
  public let name: String
  /// All files that they come from.
  public let files: [String]
  /// All files and folders that decide what they are: those that they come from, the folders that hold them, and what says
  /// beside the model how they are prepared.
  public var sources: [String] { files + dataset.surroundings + input.consulted }
  /// Whether nobody took these pictures.
  public let isSynthetic: Bool
  /// The shape of one sample, as the model's input wants it.
  public var shape: [Int] { input.shape }
  /// How pictures are prepared, as text; empty where the model takes arrays.
  public var preprocessing: String { input.preprocess?.text ?? "" }
  /// How pictures are prepared, by key; empty where the model takes arrays.
  public var settings: [(key: String, value: String)] { input.preprocess?.settings ?? [] }
  private let dataset: Dataset
  private let input: ImageInput
  private let further: FurtherInputs
  /// How their classes are numbered, where they are labelled and the model has classes.
  private let classes: ClassMapping?
  /// Whose numbers they have.
  public let numbering: Numbering
  private var indices: [Int]
  /// What a `variant` of a sample may be.
  private let augment: Augment

  /// Opens `PATH[:train|:test]` or `synthetic[:N]` for a model.
  ///
  /// `settings` override how pictures are prepared, `numbering` says whose numbers classes have. Of more than `limit` picture files a random choice is taken, which the
  /// seed decides: each is read once to see whether it can be. Those that cannot are left out, each with a warning. Throws
  /// where nothing is left, or the model's input is no picture.
  public init(
    _ name: String, for model: Model, purpose: Purpose, settings: [(key: String, value: String)] = [],
    limit: Int = .max, numbering: Numbering = .model, seed: UInt64 = 0, threads: Int? = nil,
    report: @escaping @Sendable (Diagnostic) -> Void
  ) throws {
    self.name = name
    self.numbering = numbering
    isSynthetic = name == "synthetic" || name.hasPrefix("synthetic:")
    // Data may say what the model leaves open; made up, they are what it takes.
    let expected = try ImageInput(model, settings: settings)
    let dataset = try Dataset.open(
      name, for: expected.wanted, defaultSplit: purpose == .calibration ? .train : .test, seed: seed,
      warn: report)
    let input = try dataset.extents.map { try ImageInput(model, settings: settings, data: $0) } ?? expected
    self.input = input
    self.dataset = dataset
    further = try FurtherInputs(
      model, data: isSynthetic ? nil : dataset.files, count: dataset.count, seed: seed)
    files = dataset.files
    do throws(VitError) {
      classes =
        numbering == .data
        ? ClassMapping(own: dataset) : try Samples.classes(of: dataset, in: model, input.labels, report)
    } catch { throw error.at(Location(file: name)) }
    if let classes { report(Diagnostic(.note, classes.text, code: "classes")) }
    let edge = input.preprocess.map { min($0.height, $0.width) } ?? 0
    augment = Augment(flips: true, shift: max(1, edge / 14))
    indices = try dataset.readable(limit: limit, seed: seed, pool: ThreadPool.shared(threads: threads)) {
      sample in
      try withUnsafeTemporaryAllocation(of: Float.self, capacity: input.count) {
        try input.write(sample, to: $0)
      }
    }
    for diagnostic in input.diagnostics { report(diagnostic) }
  }

  /// How the classes of `dataset` are numbered by `model`, whose classes are called `names`.
  private static func classes(
    of dataset: Dataset, in model: Model, _ names: [String]?, _ report: (Diagnostic) -> Void
  ) throws(VitError) -> ClassMapping? {
    guard let labels = dataset.labels, let outputs = OutputKind.width(of: model.graph) else { return nil }
    let isLess = dataset.classNames.map { $0.count < outputs } ?? (labels.allSatisfy { $0 < outputs - 1 })
    if names == nil, isLess, OutputKind.isAsWideAsTokens(model.graph) {
      report(
        Diagnostic(
          .note,
          "the model's output is as wide as its tokens and nothing names its \(outputs) numbers: it is taken as an embedding, and labels are not looked at",
          code: "embedding"))
      return nil
    }
    return try ClassMapping(of: dataset, outputs: outputs, modelNames: names, warn: report)
  }

  /// Throws a usage error for settings of how pictures are prepared that no model can be given.
  public static func check(_ settings: [(key: String, value: String)]) throws(VitError) {
    do throws(VitError) { _ = try Preprocess(settings: settings) } catch {
      throw VitError(
        error.diagnostic.message, kind: .usage, code: error.diagnostic.code, help: error.diagnostic.help)
    }
  }

  /// Synthetic images for a model that nobody gave data for, with a warning.
  public static func synthetic(
    for model: Model, seed: UInt64 = 0, threads: Int? = nil,
    report: @escaping @Sendable (Diagnostic) -> Void
  ) throws -> Samples {
    report(
      Diagnostic(
        .warning, "no data given, synthetic images are used", code: "synthetic-data",
        help:
          "--data PATH with images of the kind that the model is for makes scores and hybrids that fit them"))
    return try Samples(
      "synthetic", for: model, purpose: .calibration, seed: seed, threads: threads, report: report)
  }

  /// How many there are.
  public var count: Int { indices.count }

  /// Whether each is a picture in a file of its own.
  var areFiles: Bool { files.count >= dataset.count }

  /// How many could not be read.
  public var skipped: Int { dataset.skipped }

  /// How the classes of the data are numbered, as text; `nil` where they are not labelled or the model has no classes.
  public var classesText: String? { classes?.text }

  /// The name of the class `number` of the model, where the model or the data say so.
  public func className(_ number: Int) -> String? {
    if numbering == .model, let names = input.labels, names.indices.contains(number) { return names[number] }
    return classes?.name(of: number)
  }

  /// How many classes the data name, where they do and their own numbers are taken.
  public var classCount: Int? {
    numbering == .data ? classes.map(\.names.count).flatMap { $0 > 0 ? $0 : nil } : nil
  }

  /// The class of a sample, or `nil` where it has no label.
  public func label(_ index: Int) -> Int? {
    guard let classes, let label = dataset.labels?[indices[index]] else { return nil }
    return classes.number(of: label)
  }

  /// The file of a sample, or its number in the data.
  public func name(of index: Int) -> String { dataset.name(of: indices[index]) }

  /// Writes sample `index`; with a `variant`, mirrored and shifted as the number decides.
  public func read(_ index: Int, variant: UInt64?, into target: UnsafeMutableBufferPointer<Float>) throws {
    try input.write(try dataset.sample(at: indices[index]), to: target) { preprocess, planes in
      guard let variant else { return }
      augment.apply(
        to: planes, channels: preprocess.channels, height: preprocess.height, width: preprocess.width,
        SplitMix(seed: variant))
    }
  }

  /// The shapes of what a sample gives to further inputs.
  public var furtherShapes: [[Int]] { further.shapes }

  /// Writes what sample `index` gives to a further input.
  public func readFurther(_ index: Int, input: Int, into target: UnsafeMutableBufferPointer<Float>) throws {
    try further.read(indices[index], input: input, into: target)
  }

  /// Divides the samples at random into those to train on and `count` to judge by. A single sample has to do for both; of
  /// several some must be left to train on, else this throws a usage error.
  public func holdingOut(
    _ count: Int, seed: UInt64
  ) throws(VitError) -> (training: Samples, heldOut: Samples) {
    guard self.count > 1 else { return (self, self) }
    guard (1..<self.count).contains(count) else {
      throw VitError(
        "\(count) of \(self.count) samples cannot be held out", kind: .usage, code: "held-out",
        help: "give --held-out a number below that of the samples")
    }
    let parts = Dataset.holdOut(count, of: indices, seed: seed)
    var (training, heldOut) = (self, self)
    training.indices = parts.training
    heldOut.indices = parts.heldOut
    return (training, heldOut)
  }

  /// `count` of them, picked at random, or all where there are fewer.
  func sampled(_ count: Int, seed: UInt64) -> Samples {
    guard count < indices.count else { return self }
    var copy = self
    var random = SplitMix(seed: seed).split("evaluation")
    copy.indices = random.shuffled(indices).prefix(count).sorted()
    return copy
  }

  /// The first `count` of them.
  public func prefix(_ count: Int) -> Samples {
    var copy = self
    copy.indices = Array(indices.prefix(count))
    return copy
  }
}
