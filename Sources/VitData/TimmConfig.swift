internal import VitIR

/// `config.json` of timm: the model's input under `pretrained_cfg`, or at the top in older files.
struct TimmConfig {
  let preprocess: Preprocess

  /// `nil` where the file is not timm's.
  init?(_ json: JSONValue) throws(VitError) {
    let config = json["pretrained_cfg"] ?? json
    guard let input = config["input_size"] else { return nil }
    guard let size = input.list?.compactMap(\.whole), size.count == 3,
      size.allSatisfy({ (1...(1 << 14)).contains($0) })
    else { throw TimmConfig.bad("'input_size' is no list of three numbers") }
    var result = Preprocess(channels: size[0], height: size[1], width: size[2])
    result.crop = .even
    var share = 0.875
    if let value = config["crop_pct"] {
      guard let number = value.number, number > 0, number <= 1 else {
        throw TimmConfig.bad("'crop_pct' is no number above 0 and up to 1")
      }
      share = number
    }
    guard let height = Preprocess.edge(size[1], share: share),
      let width = Preprocess.edge(size[2], share: share)
    else { throw TimmConfig.bad("'crop_pct' is \(share), which asks for images of too many pixels") }
    switch config["crop_mode"]?.text ?? "center" {
    case "center": result.resize = height == width ? .shortest(height) : .cover(height: height, width: width)
    case "squash": result.resize = .exact(height: height, width: width)
    case let mode: throw TimmConfig.bad("crop_mode '\(mode)' is not supported (center, squash)")
    }
    if let name = config["interpolation"]?.text {
      guard let filter = Interpolation(rawValue: name) else {
        throw TimmConfig.bad("interpolation '\(name)' is not supported")
      }
      result.interpolation = filter
    }
    if let mean = config["mean"] {
      guard let numbers = mean.numbers else { throw TimmConfig.bad("'mean' is no list of numbers") }
      result.mean = numbers
    }
    if let deviation = config["std"] {
      guard let numbers = deviation.numbers else { throw TimmConfig.bad("'std' is no list of numbers") }
      result.deviation = numbers
    }
    try result.validate()
    preprocess = result
  }

  private static func bad(_ what: String) -> VitError {
    VitError("timm configuration: " + what, code: "preprocess")
  }
}
