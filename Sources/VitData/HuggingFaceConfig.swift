internal import VitIR

/// `preprocessor_config.json` of Hugging Face: an image processor's class name and its settings.
struct HuggingFaceConfig {
  let preprocess: Preprocess

  /// Processors for which a size that is one number is the shorter edge; for the others it is both edges.
  private static let shortestEdge = [
    "Bit", "CLIP", "ChineseCLIP", "ConvNext", "Levit", "MobileNetV1", "MobileNetV2", "MobileViT",
    "PoolFormer",
  ]

  init(_ json: JSONValue) throws(VitError) {
    guard case .table = json else { throw HuggingFaceConfig.bad("expected a table of settings") }
    var kind = json["image_processor_type"]?.text ?? json["feature_extractor_type"]?.text ?? ""
    for ending in ["Fast", "Pil", "ImageProcessor", "FeatureExtractor"] where kind.hasSuffix(ending) {
      kind.removeLast(ending.count)
    }
    func flag(_ key: String, _ usual: Bool) throws(VitError) -> Bool {
      guard let value = json[key] else { return usual }
      guard let flag = value.flag else { throw HuggingFaceConfig.bad("'\(key)' is neither true nor false") }
      return flag
    }
    let isSquare = !HuggingFaceConfig.shortestEdge.contains(kind)
    var resize = try HuggingFaceConfig.size(json["size"], "size", isSquare: isSquare) ?? .none
    let crop = try HuggingFaceConfig.size(json["crop_size"], "crop_size", isSquare: true)
    if try !flag("do_resize", true) { resize = .none }
    var cutOut: (height: Int, width: Int)?
    if try flag("do_center_crop", crop != nil) {
      guard case .exact(let height, let width)? = crop else {
        throw HuggingFaceConfig.bad("'do_center_crop' without a 'crop_size'")
      }
      cutOut = (height, width)
    }
    if case .shortest(let edge) = resize, kind == "ConvNext" {
      // Below 384 pixels a margin is cut off; from there on images are squeezed.
      if edge < 384 {
        let share = json["crop_pct"]?.number ?? 224.0 / 256.0
        guard share > 0, share <= 1, let whole = Preprocess.edge(edge, share: share) else {
          throw HuggingFaceConfig.bad("'crop_pct' is \(share)")
        }
        resize = .shortest(whole)
        cutOut = (edge, edge)
      } else {
        resize = .exact(height: edge, width: edge)
      }
    } else if json["crop_pct"] != nil {
      throw HuggingFaceConfig.bad("'crop_pct' of a '\(kind)' processor is not supported")
    }
    if case .shortest(let edge) = resize, kind == "Levit" { resize = .shortest(edge * 256 / 224) }

    let size: (height: Int, width: Int) =
      switch (cutOut, resize) {
      case (let cutOut?, _): cutOut
      case (nil, .exact(let height, let width)), (nil, .cover(let height, let width)): (height, width)
      case (nil, .shortest(let edge)): (edge, edge)
      case (nil, .none): (224, 224)
      }
    let means = try HuggingFaceConfig.numbers(json, "image_mean")
    let deviations = try HuggingFaceConfig.numbers(json, "image_std")
    var result = Preprocess(
      channels: json["num_channels"]?.whole ?? (means.map { $0.count == 1 ? 3 : $0.count } ?? 3),
      height: size.height, width: size.width)
    result.resize = resize
    result.crop = cutOut != nil || resize == .shortest(size.height) ? .down : .none
    if let code = json["resample"] {
      guard let filter = code.whole.flatMap(Interpolation.init(pillow:)) else {
        throw HuggingFaceConfig.bad("'resample' is none of Pillow's filters 0 to 5")
      }
      result.interpolation = filter
    } else {
      result.interpolation =
        ["Bit", "CLIP", "ChineseCLIP", "DeiT", "Levit"].contains(kind) ? .bicubic : .bilinear
    }
    if try flag("do_rescale", true) {
      if let factor = json["rescale_factor"] {
        guard let factor = factor.number else { throw HuggingFaceConfig.bad("'rescale_factor' is no number") }
        result.scale = factor
      }
    } else {
      result.scale = 1
    }
    if try flag("do_normalize", means != nil) {
      guard let means, let deviations else {
        throw HuggingFaceConfig.bad("'do_normalize' without 'image_mean' and 'image_std'")
      }
      (result.mean, result.deviation) = (means, deviations)
    } else {
      (result.mean, result.deviation) = ([0], [1])
    }
    let isShifted = (try flag("rescale_offset", false), try flag("offset", false))
    if isShifted.0 || isShifted.1 {
      result.mean = result.mean.map { $0 + 1 }
    }
    if try flag("do_flip_channel_order", false) { result.order = .bgr }
    try result.validate()
    preprocess = result
  }

  private static func bad(_ what: String) -> VitError {
    VitError("image processor: " + what, code: "preprocess")
  }

  private static func numbers(_ json: JSONValue, _ key: String) throws(VitError) -> [Double]? {
    guard let value = json[key] else { return nil }
    guard let numbers = value.numbers else { throw bad("'\(key)' is no list of numbers") }
    return numbers
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
