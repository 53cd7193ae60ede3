internal import VitData
internal import VitFormats
internal import VitIR
internal import VitPasses

/// The first input of a model, which takes samples: pictures, or arrays of any other shape as they are.
struct ImageInput {
  /// How pictures are prepared; `nil` where the model takes arrays.
  let preprocess: Preprocess?
  /// The extents of one sample.
  let shape: [Int]
  let labels: [String]?
  /// The type of the input's elements.
  private let element: ElementType
  /// Whether a picture is [height, width, channels].
  let isChannelsLast: Bool
  /// Whether the input holds one sample and has no axis that counts them.
  let isSingle: Bool
  /// The files beside the model that were read.
  let consulted: [String]
  /// Whether nobody said how pictures are prepared.
  let isGuessed: Bool
  /// What the user should know: how pictures are prepared, who said so, and what is doubtful about it.
  let diagnostics: [Diagnostic]

  /// Takes what the model itself says, then what lies beside its file, then what is usual. Extents that the model leaves open
  /// are those of tensors in `data`; of pictures those that preparing gives, else, where all are alike, their own.
  init(
    _ model: Model, settings: [(key: String, value: String)] = [], data: Dataset.Extents? = nil
  ) throws {
    let graph = model.graph
    guard let id = graph.inputs.first else {
      throw VitError("the model has no inputs, expected one that takes images", code: "no-image-input")
    }
    let type = graph.type(id)
    element = type.element
    let form = BatchForm(graph, sample: data?.tensor?.count == type.rank ? data?.tensor : nil)
    isSingle = !form.isCounted
    let extents = type.shape.dropFirst(form.isCounted ? 1 : 0).map(\.fixedValue)
    var card = ModelCard()
    if model.card.preprocessing.isEmpty, let path = model.path {
      card = try ModelCard(besideModel: path)
    } else if !model.card.preprocessing.isEmpty {
      do { card.preprocess = try Preprocess(settings: model.card.preprocessing) } catch {
        throw error.at(Location(file: model.path))
      }
    }
    if !model.card.labels.isEmpty { card.labels = model.card.labels }
    labels = card.labels
    consulted = card.consulted
    guard extents.count == 3 else {
      guard settings.isEmpty else {
        throw VitError(
          "preprocessing is for images, input '\(graph[id].name)' takes arrays: \(type)", kind: .usage,
          code: "preprocess")
      }
      preprocess = nil
      (isChannelsLast, isGuessed) = (false, false)
      shape = try ImageInput.arrayShape(model, extents, data)
      diagnostics = [
        Diagnostic(
          .note, "the model takes arrays \(shape), which are given to it as they are", code: "preprocess")
      ]
      return
    }
    isChannelsLast = ImageInput.isChannelsLast(extents)
    let order = isChannelsLast ? [2, 0, 1] : [0, 1, 2]
    let fixed = Size(extents, order)
    // Tensors are pictures that somebody has prepared.
    let prepared = data?.tensor.flatMap { $0.count == 3 ? Size($0.map(Optional.init), order) : nil }
    let usual = ImageInput.usual(model, fixed, order, data?.picture)
    isGuessed = card.preprocess == nil && settings.isEmpty
    var given = card.preprocess ?? usual
    // Whole numbers are the pixels' own.
    if type.element.isInteger { (given.scale, given.mean, given.deviation) = (1, [0], [1]) }
    let fitted: Preprocess
    do {
      let wanted = try given.overriding(settings)
      try ImageInput.check(wanted, settings, fixed)
      fitted = try wanted.fitted(
        channels: fixed.channels ?? prepared?.channels, height: fixed.height ?? prepared?.height,
        width: fixed.width ?? prepared?.width)
    } catch {
      // To blame is what the user said, unless what lies beside the model makes no sense either.
      let own = try? given.fitted(channels: fixed.channels, height: fixed.height, width: fixed.width)
      guard !settings.isEmpty, own != nil else {
        throw error.at(Location(file: card.files.first ?? model.path))
      }
      throw VitError(
        error.diagnostic.message, kind: .usage, code: error.diagnostic.code, help: error.diagnostic.help)
    }
    preprocess = fitted
    let planes = [fitted.channels, fitted.height, fitted.width]
    shape = isChannelsLast ? [planes[1], planes[2], planes[0]] : planes
    diagnostics =
      isGuessed
      ? [
        Diagnostic(
          .warning,
          "nothing says how images are prepared for this model; what is usual is taken: \(fitted.text)",
          code: "preprocess-guessed",
          help: "give --preprocess, or a preprocessor_config.json beside the model")
      ]
      : card.warnings + [
        Diagnostic(
          .note, "images are prepared as \(ImageInput.source(card, settings)) says: \(fitted.text)",
          code: "preprocess")
      ]
  }

  /// Extents of pictures, as far as they are known.
  private struct Size {
    let channels: Int?
    let height: Int?
    let width: Int?

    init(_ extents: [Int?], _ order: [Int]) {
      (channels, height, width) = (extents[order[0]], extents[order[1]], extents[order[2]])
    }
  }

  /// Whether the last of three extents is that of channels: the first cannot be, and the last is small.
  static func isChannelsLast(_ extents: [Int?]) -> Bool {
    (extents[0].map { $0 > 4 } ?? true) && (extents[2].map { $0 <= 4 } ?? false)
  }

  /// What is usual for a model of which `fixed` is known: of open extents the first that work, unless all pictures have some.
  private static func usual(
    _ model: Model, _ fixed: Size, _ order: [Int], _ pictures: [Int]?
  ) -> Preprocess {
    let isOpen = fixed.height == nil || fixed.width == nil
    let working = isOpen ? try? model.inputShapes().first?.suffix(3) : nil
    let found = pictures ?? working.map { shape in order.map { Array(shape)[$0] } }
    return Preprocess(
      channels: fixed.channels ?? 3, height: fixed.height ?? found?[1] ?? 224,
      width: fixed.width ?? found?[2] ?? 224)
  }

  /// The shape of a sample that is no picture: open extents are those of `data`, else the first that work.
  private static func arrayShape(_ model: Model, _ extents: [Int?], _ data: Dataset.Extents?) throws -> [Int]
  {
    let known = extents.compactMap { $0 }
    if known.count == extents.count { return known }
    if let own = data?.tensor, own.count == extents.count { return zip(extents, own).map { $0 ?? $1 } }
    let shape = try model.inputShapes().first ?? []
    return Array(shape.suffix(extents.count))
  }

  /// Throws where pictures would be made of another size than the model takes.
  private static func check(
    _ preprocess: Preprocess, _ settings: [(key: String, value: String)], _ fixed: Size
  ) throws(VitError) {
    let (height, width) = (fixed.height ?? preprocess.height, fixed.width ?? preprocess.width)
    let isSaid = settings.contains { ["size", "resize"].contains($0.key) }
    // Where nothing is resized or cut out, nothing says which size there is.
    if isSaid || preprocess.resize != .none || preprocess.crop != .none,
      height != preprocess.height || width != preprocess.width
    {
      let size = "\(height)x\(width)"
      throw VitError(
        "images would be made of \(preprocess.height)x\(preprocess.width) pixels, the model takes \(size)",
        code: "preprocess", help: "--preprocess size=\(size) changes all sizes in proportion")
    }
    if let channels = fixed.channels, channels != preprocess.channels,
      settings.contains(where: { $0.key == "channels" })
    {
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

  /// What the data set makes where it is made up, and how arrays in it are read.
  var wanted: Dataset.Wanted {
    preprocess.map { .pictures(channels: $0.channels, height: $0.height, width: $0.width) }
      ?? .arrays(shape: shape)
  }

  /// One sample as the model's input.
  func tensor(_ values: [Float]) -> Tensor {
    let shape = isSingle ? shape : [1] + shape
    if element.isFloat { return Tensor(shape: shape, floats: values) }
    return Tensor(element, shape: shape, values: values.map(Double.init))
  }

  /// The number of elements of a sample.
  var count: Int { shape.reduce(1, *) }

  /// Writes a sample in the order of the model's axes; `change` may change the planes of a picture first.
  func write(
    _ sample: Sample, to target: UnsafeMutableBufferPointer<Float>,
    changing change: (Preprocess, UnsafeMutablePointer<Float>) -> Void = { _, _ in }
  ) throws {
    guard let base = target.baseAddress else { return }
    precondition(target.count == count)
    if case .tensor(let tensor) = sample, preprocess == nil || isChannelsLast && tensor.shape == shape {
      guard tensor.shape == shape else {
        throw VitError("the model takes \(shape), found an array of \(tensor.shape)", code: "sample-shape")
      }
      _ = target.update(fromContentsOf: try tensor.floats())
      return
    }
    guard let preprocess else {
      throw VitError("the model takes arrays \(shape), found a picture", code: "sample-shape")
    }
    try preprocess.write(sample, to: base)
    change(preprocess, base)
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
