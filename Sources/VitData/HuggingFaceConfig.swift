internal import VitIR

/// `preprocessor_config.json` of Hugging Face: an image processor's class name and its settings. What it leaves out is as that
/// class has it.
struct HuggingFaceConfig {
  let preprocess: Preprocess
  /// What the user should know.
  let warnings: [Diagnostic]

  init(_ json: JSONValue) throws(VitError) {
    guard case .table = json else { throw HuggingFaceConfig.bad("expected a table of settings") }
    let name = json["image_processor_type"]?.text ?? json["feature_extractor_type"]?.text
    var kind = name ?? ""
    for ending in ["Fast", "Pil", "ImageProcessor", "FeatureExtractor"] where kind.hasSuffix(ending) {
      kind.removeLast(ending.count)
    }
    let processor = ImageProcessor(kind)
    var warnings: [Diagnostic] = []
    func warn(_ message: String, _ help: String) {
      warnings.append(Diagnostic(.warning, message, code: "image-processor", help: help))
    }
    if let name, processor == nil {
      warn(
        "the image processor '\(name)' is not known: its settings are taken as they stand, and what they leave out as is usual",
        "compare with what it makes of an image, or give --preprocess")
    }
    let settings = Settings(json: json)
    if try settings.flag("do_pad", false) {
      throw HuggingFaceConfig.bad("'do_pad' is not supported")
    }
    var resize = try HuggingFaceConfig.resize(settings, processor)
    var cutOut = try HuggingFaceConfig.crop(settings, processor)
    if case .shortest(let edge) = resize {
      switch processor?.kind {
      case .convNext:
        // Below 384 pixels a margin is cut off; from there on images are squeezed.
        resize = .exact(height: edge, width: edge)
        if edge < 384 {
          resize = .shortest(try settings.edge(edge, usual: 224.0 / 256.0))
          cutOut = cutOut ?? (edge, edge)
        }
      case .levit: resize = .shortest(Int(256.0 / 224.0 * Double(edge)))
      case .poolFormer: resize = .shortest(try settings.edge(edge, usual: 0.9))
      default: break
      }
    }
    if case .exact(let height, let width) = resize, processor?.kind == .poolFormer {
      let edges = try (settings.edge(height, usual: 0.9), settings.edge(width, usual: 0.9))
      resize = height == width ? .shortest(edges.0) : .exact(height: edges.0, width: edges.1)
    }
    if json["crop_pct"] != nil, processor?.kind != .convNext, processor?.kind != .poolFormer {
      throw HuggingFaceConfig.bad("'crop_pct' of a '\(kind)' processor is not supported")
    }
    if case .exact(let height, let width) = resize, processor?.kind == .dpt {
      let multiple = json["ensure_multiple_of"]?.whole ?? 1
      guard multiple > 0 else { throw HuggingFaceConfig.bad("'ensure_multiple_of' is \(multiple)") }
      func rounded(_ edge: Int) -> Int {
        Int((Double(edge) / Double(multiple)).rounded(.toNearestOrEven)) * multiple
      }
      resize = try HuggingFaceConfig.exact(rounded(height), rounded(width), "size")
      if try settings.flag("keep_aspect_ratio", false) {
        warn(
          "'keep_aspect_ratio' gives each image a size of its own, and the model takes one: images are squeezed to \(rounded(height)) × \(rounded(width))",
          "give images of these proportions")
      }
    }

    let size: (height: Int, width: Int) =
      switch (cutOut, resize) {
      case (let cutOut?, _): cutOut
      case (nil, .exact(let height, let width)), (nil, .cover(let height, let width)): (height, width)
      case (nil, .shortest(let edge)): (edge, edge)
      case (nil, .none): (224, 224)
      }
    let given = try (mean: settings.numbers("image_mean"), deviation: settings.numbers("image_std"))
    let means = given.mean ?? processor?.statistics.mean
    let deviations = given.deviation ?? processor?.statistics.deviation
    var result = Preprocess(
      channels: json["num_channels"]?.whole ?? (means.map { $0.count == 1 ? 3 : $0.count } ?? 3),
      height: size.height, width: size.width)
    result.resize = resize
    result.crop = cutOut != nil || resize == .shortest(size.height) ? .down : .none
    result.interpolation = try settings.filter("resample") ?? processor?.filter ?? .bilinear
    if try settings.flag("do_rescale", true) {
      if let factor = json["rescale_factor"] {
        guard let factor = factor.number else { throw HuggingFaceConfig.bad("'rescale_factor' is no number") }
        result.scale = factor
      }
    } else {
      result.scale = 1
    }
    (result.mean, result.deviation) = ([0], [1])
    if try settings.flag("do_normalize", processor != nil || means != nil), processor?.kind != .mobileViT {
      guard let means, let deviations else {
        throw HuggingFaceConfig.bad("'do_normalize' without 'image_mean' and 'image_std'")
      }
      (result.mean, result.deviation) = (means, deviations)
    }
    let isShifted = (try settings.flag("rescale_offset", false), try settings.flag("offset", false))
    if isShifted.0 || isShifted.1 { result.mean = result.mean.map { $0 + 1 } }
    if processor?.kind == .efficientNet, try settings.flag("include_top", true), let deviations {
      // Divided by the deviation once more, with no mean.
      let first = result.deviation
      result.deviation = deviations.indices.map { deviations[$0] * first[first.count == 1 ? 0 : $0] }
    }
    if try settings.flag("do_flip_channel_order", processor?.kind == .mobileViT) { result.order = .bgr }
    try result.validate()
    preprocess = result
    self.warnings = warnings
  }

  /// How the size is reached.
  private static func resize(
    _ settings: Settings, _ processor: ImageProcessor?
  ) throws(VitError) -> Preprocess.Resize {
    guard try settings.flag("do_resize", true) else { return .none }
    if let size = try size(settings.json["size"], "size", isSquare: processor?.isSquare ?? true) {
      return size
    }
    return switch processor?.size {
    case .square(let edge): .exact(height: edge, width: edge)
    case .shortestEdge(let edge): .shortest(edge)
    case nil: .none
    }
  }

  /// What is cut out, if anything is.
  private static func crop(
    _ settings: Settings, _ processor: ImageProcessor?
  ) throws(VitError) -> (height: Int, width: Int)? {
    guard processor?.mayCrop ?? true else { return nil }
    let given = try size(settings.json["crop_size"], "crop_size", isSquare: true)
    let usual = processor == nil ? given != nil : processor?.crop?.isOn ?? false
    guard try settings.flag("do_center_crop", usual) else { return nil }
    if case .exact(let height, let width)? = given { return (height, width) }
    guard given == nil, let edge = processor?.crop?.edge else {
      throw bad("'do_center_crop' without a 'crop_size'")
    }
    return (edge, edge)
  }

  fileprivate static func bad(_ what: String) -> VitError {
    VitError("image processor: " + what, code: "preprocess")
  }

  private static func exact(_ height: Int, _ width: Int, _ key: String) throws(VitError) -> Preprocess.Resize
  {
    .exact(height: try bounded(height, key), width: try bounded(width, key))
  }

  /// The edge, where a picture can have it.
  private static func bounded(_ edge: Int, _ key: String) throws(VitError) -> Int {
    guard Preprocess.edges.contains(edge) else {
      throw bad(
        "'\(key)' is \(edge) pixels, expected \(Preprocess.edges.lowerBound) to \(Preprocess.edges.upperBound)"
      )
    }
    return edge
  }

  /// A size in any of its forms: a number, `[height, width]`, or a table of edges.
  private static func size(
    _ json: JSONValue?, _ key: String, isSquare: Bool
  ) throws(VitError) -> Preprocess.Resize? {
    guard let json else { return nil }
    if let edge = json.whole ?? json["shortest_edge"]?.whole, json["longest_edge"] == nil {
      let isEdge = json["shortest_edge"] != nil
      return isSquare && !isEdge ? try exact(edge, edge, key) : .shortest(try bounded(edge, key))
    }
    if let height = json["height"]?.whole, let width = json["width"]?.whole {
      return try exact(height, width, key)
    }
    if let list = json.list, list.count == 2, let height = list[0].whole, let width = list[1].whole {
      return try exact(height, width, key)
    }
    throw bad("'\(key)' is neither a number nor has it 'height' and 'width' or 'shortest_edge' alone")
  }
}

/// The values of a configuration, each checked for its type. A null counts as nothing.
private struct Settings {
  let json: JSONValue

  func flag(_ key: String, _ usual: Bool) throws(VitError) -> Bool {
    guard let value = json[key] else { return usual }
    guard let flag = value.flag else { throw HuggingFaceConfig.bad("'\(key)' is neither true nor false") }
    return flag
  }

  func numbers(_ key: String) throws(VitError) -> [Double]? {
    guard let value = json[key] else { return nil }
    guard let numbers = value.numbers ?? value.number.map({ [$0] }) else {
      throw HuggingFaceConfig.bad("'\(key)' is no list of numbers")
    }
    return numbers
  }

  /// A filter by Pillow's number or by its name.
  func filter(_ key: String) throws(VitError) -> Interpolation? {
    guard let value = json[key] else { return nil }
    let name = value.text.map { String($0.split(separator: ".").last ?? "").lowercased() }
    guard let filter = value.whole.flatMap(Interpolation.init(pillow:)) ?? name.flatMap(Interpolation.init)
    else {
      throw HuggingFaceConfig.bad("'\(key)' is none of Pillow's filters 0 to 5")
    }
    return filter
  }

  /// The edge of which `size` is the part that `crop_pct` says.
  func edge(_ size: Int, usual: Double) throws(VitError) -> Int {
    let share = json["crop_pct"]?.number ?? usual
    guard share > 0, share <= 1, let whole = Preprocess.edge(size, share: share) else {
      throw HuggingFaceConfig.bad("'crop_pct' is \(share)")
    }
    return whole
  }
}
