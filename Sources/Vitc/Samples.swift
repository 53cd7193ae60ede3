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
  /// How pictures are prepared, as text.
  public var preprocessing: String { input.preprocess.text }
  /// How pictures are prepared, by key.
  public var settings: [(key: String, value: String)] { input.preprocess.settings }
  private let dataset: Dataset
  private let input: ImageInput
  /// How their classes are numbered, where they are labelled and the model has classes.
  private let classes: ClassMapping?
  private var indices: [Int]
  /// What a `variant` of a sample may be.
  private let augment: Augment

  /// Opens `PATH[:train|:test]` or `synthetic[:N]` for a model.
  ///
  /// `settings` override how pictures are prepared. Of more than `limit` picture files a random choice is taken, which the
  /// seed decides: each is read once to see whether it can be. Those that cannot are left out, each with a warning. Throws
  /// where nothing is left, or the model's input is no picture.
  public init(
    _ name: String, for model: Model, purpose: Purpose, settings: [(key: String, value: String)] = [],
    limit: Int = .max, seed: UInt64 = 0, threads: Int? = nil,
    report: @escaping @Sendable (Diagnostic) -> Void
  ) throws {
    input = try ImageInput(model, settings: settings)
    let preprocess = input.preprocess
    self.name = name
    let dataset = try Dataset.open(
      name, defaultSplit: purpose == .calibration ? .train : .test, channels: preprocess.channels,
      height: preprocess.height, width: preprocess.width, seed: seed, warn: report)
    self.dataset = dataset
    files = dataset.files
    isSynthetic = name == "synthetic" || name.hasPrefix("synthetic:")
    do throws(VitError) {
      classes = try Samples.classes(of: dataset, in: model, input.labels, report)
    } catch { throw error.at(Location(file: name)) }
    if let classes { report(Diagnostic(.note, classes.text, code: "classes")) }
    augment = Augment(flips: true, shift: max(1, min(preprocess.height, preprocess.width) / 14))
    indices = try dataset.readable(preprocess, limit: limit, seed: seed, pool: ThreadPool(threads: threads))
    for diagnostic in input.diagnostics { report(diagnostic) }
  }

  /// How the classes of `dataset` are numbered by `model`, whose classes are called `names`.
  private static func classes(
    of dataset: Dataset, in model: Model, _ names: [String]?, _ report: (Diagnostic) -> Void
  ) throws(VitError) -> ClassMapping? {
    guard let labels = dataset.labels, let outputs = OutputKind.width(of: model.graph) else { return nil }
    let count = dataset.classNames?.count ?? (labels.max() ?? 0) + 1
    if names == nil, count < outputs, OutputKind.isAsWideAsTokens(model.graph) {
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
    if let names = input.labels, names.indices.contains(number) { return names[number] }
    return classes?.name(of: number)
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
    try input.write(try dataset.sample(at: indices[index]), to: target) { planes in
      guard let variant else { return }
      augment.apply(
        to: planes, channels: input.preprocess.channels, height: input.preprocess.height,
        width: input.preprocess.width, SplitMix(seed: variant))
    }
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

/// The input of a model that takes pictures.
struct ImageInput {
  let preprocess: Preprocess
  let labels: [String]?
  /// Whether the input is [batch, height, width, channels].
  let isChannelsLast: Bool
  /// The files beside the model that were read.
  let consulted: [String]
  /// Whether nobody said how pictures are prepared.
  let isGuessed: Bool
  /// What the user should know: how pictures are prepared, who said so, and what is doubtful about it.
  let diagnostics: [Diagnostic]

  /// Takes what the model itself says, then what lies beside its file, then what is usual.
  init(_ model: Model, settings: [(key: String, value: String)] = []) throws {
    guard model.graph.inputs.count == 1, let id = model.graph.inputs.first else {
      throw VitError(
        "the model has \(model.graph.inputs.count) inputs, expected one that takes images",
        code: "no-image-input")
    }
    let type = model.graph.type(id)
    guard type.rank == 4, type.element.isFloat else {
      throw VitError(
        "input '\(model.graph[id].name)' is \(type), expected images [batch, channels, height, width]",
        code: "no-image-input")
    }
    let extents = type.shape.dropFirst().map(\.fixedValue)
    isChannelsLast = extents[0].map { $0 > 4 } ?? true && extents[2].map { $0 <= 4 } ?? false
    let (channels, height, width) =
      isChannelsLast ? (extents[2], extents[0], extents[1]) : (extents[0], extents[1], extents[2])
    var card = ModelCard()
    if model.card.preprocessing.isEmpty, let path = model.path {
      card = try ModelCard(besideModel: path)
    } else if !model.card.preprocessing.isEmpty {
      do { card.preprocess = try Preprocess(settings: model.card.preprocessing) } catch {
        throw error.at(Location(file: model.path))
      }
    }
    if !model.card.labels.isEmpty { card.labels = model.card.labels }
    isGuessed = card.preprocess == nil && settings.isEmpty
    labels = card.labels
    consulted = card.consulted
    let usual = Preprocess(channels: channels ?? 3, height: height ?? 224, width: width ?? 224)
    let given = card.preprocess ?? usual
    do {
      let wanted = try given.overriding(settings)
      try ImageInput.check(wanted, settings, channels: channels, height: height, width: width)
      preprocess = try wanted.fitted(channels: channels, height: height, width: width)
    } catch {
      // To blame is what the user said, unless what lies beside the model makes no sense either.
      let isUsage =
        !settings.isEmpty && (try? given.fitted(channels: channels, height: height, width: width)) != nil
      guard isUsage else { throw error.at(Location(file: card.files.first ?? model.path)) }
      throw VitError(
        error.diagnostic.message, kind: .usage, code: error.diagnostic.code, help: error.diagnostic.help)
    }
    diagnostics =
      isGuessed
      ? [
        Diagnostic(
          .warning,
          "nothing says how images are prepared for this model; what is usual is taken: \(preprocess.text)",
          code: "preprocess-guessed",
          help: "give --preprocess, or a preprocessor_config.json beside the model")
      ]
      : card.warnings + [
        Diagnostic(
          .note, "images are prepared as \(ImageInput.source(card, settings)) says: \(preprocess.text)",
          code: "preprocess")
      ]
  }

  /// Throws where pictures would be made of another size than the model takes.
  private static func check(
    _ preprocess: Preprocess, _ settings: [(key: String, value: String)], channels: Int?, height: Int?,
    width: Int?
  ) throws(VitError) {
    let isSaid = settings.contains { ["size", "resize"].contains($0.key) }
    // Where nothing is resized or cut out, nothing says which size there is.
    if isSaid || preprocess.resize != .none || preprocess.crop != .none,
      height ?? preprocess.height != preprocess.height || width ?? preprocess.width != preprocess.width
    {
      let size = "\(height ?? preprocess.height)x\(width ?? preprocess.width)"
      throw VitError(
        "images would be made of \(preprocess.height)x\(preprocess.width) pixels, the model takes \(size)",
        code: "preprocess", help: "--preprocess size=\(size) changes all sizes in proportion")
    }
    if let channels, channels != preprocess.channels, settings.contains(where: { $0.key == "channels" }) {
      throw VitError(
        "images would be made of \(preprocess.channels) channels, the model takes \(channels)",
        code: "preprocess")
    }
  }

  /// Who says how pictures are prepared.
  private static func source(_ card: ModelCard, _ settings: [(key: String, value: String)]) -> String {
    let file = card.preprocessFile.map { "'\($0)'" } ?? (card.preprocess == nil ? nil : "the model")
    return [file, settings.isEmpty ? nil : "--preprocess"].compactMap { $0 }.joined(separator: " with ")
  }

  /// The extents of one sample.
  var shape: [Int] {
    isChannelsLast
      ? [preprocess.height, preprocess.width, preprocess.channels]
      : [preprocess.channels, preprocess.height, preprocess.width]
  }

  /// Writes a sample in the order of the model's axes; `change` may change its planes first.
  func write(
    _ sample: Sample, to target: UnsafeMutableBufferPointer<Float>,
    changing change: (UnsafeMutablePointer<Float>) -> Void = { _ in }
  ) throws {
    guard let base = target.baseAddress else { return }
    precondition(target.count == preprocess.count)
    try preprocess.write(sample, to: base)
    change(base)
    guard isChannelsLast, preprocess.channels > 1 else { return }
    let planes = Array(target)
    let area = preprocess.height * preprocess.width
    for pixel in 0..<area {
      for channel in 0..<preprocess.channels {
        base[pixel * preprocess.channels + channel] = planes[channel * area + pixel]
      }
    }
  }
}
