public import VitIR

extension Preprocess {
  /// All settings as keys and values, in a fixed order: what is stored in a model, and what options override.
  public var settings: [(key: String, value: String)] {
    let resize =
      switch self.resize {
      case .none: "none"
      case .exact(let height, let width): "exact:\(height)x\(width)"
      case .shortest(let edge): "shortest:\(edge)"
      case .cover(let height, let width): "cover:\(height)x\(width)"
      }
    return [
      ("channels", "\(channels)"), ("size", "\(height)x\(width)"), ("order", order.rawValue),
      ("resize", resize),
      ("interpolation", interpolation.rawValue), ("crop", crop.rawValue), ("scale", "\(scale)"),
      ("mean", mean.map { "\($0)" }.joined(separator: ",")),
      ("std", deviation.map { "\($0)" }.joined(separator: ",")),
    ]
  }

  /// The settings as text: `channels=3 size=224x224 …`. `init(text:)` reads it back to an equal value.
  public var text: String { settings.map { "\($0.key)=\($0.value)" }.joined(separator: " ") }

  /// Reads what `text` gives: settings apart by spaces, the missing ones as is usual for the size.
  public init(text: String) throws(VitError) {
    var settings: [(key: String, value: String)] = []
    for word in text.split(separator: " ") {
      guard let equals = word.firstIndex(of: "=") else {
        throw VitError("preprocessing: expected key=value, found '\(word)'", code: "preprocess")
      }
      settings.append((String(word[..<equals]), String(word[word.index(after: equals)...])))
    }
    try self.init(settings: settings)
  }

  /// A value of which `settings` gives at least the size; the rest is as usual.
  public init(settings: [(key: String, value: String)]) throws(VitError) {
    self = try Preprocess(channels: 3, height: 224, width: 224).overriding(settings)
  }

  /// The same with some settings replaced; throws for an unknown or repeated key and for a bad value.
  ///
  /// `size` alone resizes in proportion; `channels` alone, where the number of means does not fit, takes the usual ones.
  public func overriding(_ settings: [(key: String, value: String)]) throws(VitError) -> Preprocess {
    var copy = self
    var given: [String: String] = [:]
    for (key, value) in settings {
      guard self.settings.contains(where: { $0.key == key }) else {
        let known = self.settings.map(\.key).joined(separator: ", ")
        throw VitError(
          "preprocessing: unknown setting '\(key)'", code: "preprocess",
          help: "the settings are \(known)")
      }
      guard given.updateValue(value, forKey: key) == nil else {
        throw VitError("preprocessing: '\(key)' is given twice", code: "preprocess")
      }
    }
    func bad(_ key: String, _ expected: String) -> VitError {
      VitError(
        "preprocessing: '\(key)' cannot be '\(given[key] ?? "")' (expected \(expected))",
        code: "preprocess")
    }
    if let text = given["channels"] {
      guard let value = Int(text) else { throw bad("channels", "a number") }
      copy.channels = value
      if ![1, value].contains(mean.count) || ![1, value].contains(deviation.count) {
        let usual = Preprocess(channels: value, height: height, width: width)
        (copy.mean, copy.deviation) = (usual.mean, usual.deviation)
      }
    }
    if let text = given["size"] {
      guard let size = Preprocess.extents(text) else { throw bad("size", "HEIGHTxWIDTH or one number") }
      copy = try copy.resized(height: size.height, width: size.width)
    }
    if let text = given["resize"] {
      guard let value = Preprocess.resize(text) else {
        throw bad("resize", "none, exact:HxW, shortest:N or cover:HxW")
      }
      copy.resize = value
    }
    if let text = given["order"] {
      guard let value = Order(rawValue: text) else { throw bad("order", "rgb or bgr") }
      copy.order = value
    }
    if let text = given["interpolation"] {
      guard let value = Interpolation(rawValue: text) else {
        throw bad("interpolation", Interpolation.allCases.map(\.rawValue).joined(separator: ", "))
      }
      copy.interpolation = value
    }
    if let text = given["crop"] {
      guard let value = Crop(rawValue: text) else { throw bad("crop", "none, down or even") }
      copy.crop = value
    }
    if let text = given["scale"] {
      guard let value = Double(text) else { throw bad("scale", "a number") }
      copy.scale = value
    }
    if let text = given["mean"] {
      guard let values = Preprocess.numbers(text) else { throw bad("mean", "numbers apart by commas") }
      copy.mean = values
    }
    if let text = given["std"] {
      guard let values = Preprocess.numbers(text) else { throw bad("std", "numbers apart by commas") }
      copy.deviation = values
    }
    try copy.validate()
    return copy
  }

  private static func numbers(_ text: String) -> [Double]? {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    let values = parts.compactMap { Double($0) }
    return values.count == parts.count && values.count <= 1024 ? values : nil
  }

  private static func extents(_ text: String) -> (height: Int, width: Int)? {
    let parts = text.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard (1...2).contains(parts.count), let height = parts[0], let width = parts[parts.count - 1],
      edges.contains(height), edges.contains(width)
    else { return nil }
    return (height, width)
  }

  private static func resize(_ text: String) -> Resize? {
    if text == "none" { return Resize.none }
    let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
    guard parts.count == 2, let size = extents(parts[1]) else { return nil }
    switch parts[0] {
    case "exact": return .exact(height: size.height, width: size.width)
    case "cover": return .cover(height: size.height, width: size.width)
    case "shortest" where !parts[1].contains("x"): return .shortest(size.height)
    default: return nil
    }
  }
}
