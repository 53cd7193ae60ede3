public import VitIR

/// How the classes of a data set are numbered as a model numbers them.
public struct ClassMapping: Sendable, Hashable {
  /// What the numbers come from.
  public enum Basis: String, Sendable {
    /// The names of the classes, which data set and model both have.
    case names
    /// WordNet ids, which have numbers in ImageNet-1k.
    case imageNet = "imagenet-ids"
    /// The order of the names.
    case position
    /// The numbers that the data set holds.
    case numbers
  }

  /// What the numbers come from.
  public let basis: Basis
  /// The names of the data set's classes in its own order; empty where it has numbers alone.
  public let names: [String]
  /// How many classes the model has.
  public let outputs: Int
  /// The number of each class; `nil` where the model has none of that name. Where the data set has numbers alone, these.
  private let numbers: [Int?]

  /// Finds the numbers for the classes of `dataset` in a model of `outputs` classes, called `modelNames` where that is known.
  ///
  /// Warns of what makes the numbers doubtful. Throws where they cannot be right: more classes than outputs, numbers beyond
  /// the outputs or counted from 1, as many names as there are no outputs. `nil` where the data set has no classes.
  public init?(
    of dataset: Dataset, outputs: Int, modelNames: [String]?, warn: (Diagnostic) -> Void
  ) throws(VitError) {
    guard let labels = dataset.labels else { return nil }
    if let modelNames, modelNames.count != outputs {
      throw VitError(
        "the model has \(outputs) outputs and names for \(modelNames.count) classes", code: "labels",
        help:
          "the names come from config.json beside the model (id2label, label_names): give the one that belongs to it"
      )
    }
    self.outputs = outputs
    names = dataset.classNames ?? []
    guard let classes = dataset.classNames else {
      basis = .numbers
      numbers = []
      try ClassMapping.check(numbers: labels, outputs: outputs, isNamed: modelNames != nil, warn)
      return
    }
    let known = modelNames.map(ClassNames.init)
    let called = classes.map { known?.number(of: $0) }
    if called.contains(where: { $0 != nil }) {
      (basis, numbers) = (.names, called)
    } else if outputs == 1000, classes.allSatisfy(ImageNet.isID),
      classes.contains(where: { ImageNet.number(of: $0) != nil })
    {
      (basis, numbers) = (.imageNet, classes.map(ImageNet.number(of:)))
    } else {
      (basis, numbers) = (.position, Array(classes.indices))
      try checkPositions(hasNames: modelNames != nil, warn)
    }
    let unknown = zip(classes, numbers).filter { $0.1 == nil }.map(\.0)
    guard !unknown.isEmpty else { return }
    warn(
      Diagnostic(
        .warning,
        "the model has no class called \(ClassMapping.list(unknown)): these samples count as unlabelled",
        code: "label-name"))
  }

  /// The classes of `dataset` by its own numbers: what a model is to be given a head for. `nil` where it has no classes.
  public init?(own dataset: Dataset) {
    guard let labels = dataset.labels else { return nil }
    names = dataset.classNames ?? []
    basis = names.isEmpty ? .numbers : .position
    numbers = Array(names.indices)
    let (count, overflow) = (labels.max() ?? 0).addingReportingOverflow(1)
    outputs = overflow ? Int.max : max(names.count, count)
  }

  /// The class of a sample that the data set calls `label`, as the model numbers it.
  public func number(of label: Int) -> Int? { basis == .numbers ? label : numbers[label] }

  /// What the data set calls the class `number`.
  public func name(of number: Int) -> String? {
    if basis == .position { return names.indices.contains(number) ? FileName.shown(names[number]) : nil }
    return zip(names, numbers).first { $0.1 == number }.map { FileName.shown($0.0) }
  }

  /// One line: what the numbers come from, how many classes, and examples.
  public var text: String {
    let how =
      switch basis {
      case .names: "by name"
      case .imageNet: "by ImageNet's ids"
      case .position: "by position, in the order of the names"
      case .numbers: "as the data number them"
      }
    guard basis != .numbers else { return "classes \(how), \(outputs) in the model" }
    let known = zip(names, numbers).compactMap { name, number in
      number.map { "\(FileName.shown(name)) = \($0)" }
    }
    let examples =
      known.prefix(ClassMapping.shown).joined(separator: ", ")
      + (known.count > ClassMapping.shown ? ", …" : "")
    return "classes \(how), \(known.count) of \(outputs) in the model: \(examples)"
  }

  private static let shown = 5

  private static func list(_ names: [String]) -> String {
    names.prefix(shown).map { "'\(FileName.shown($0))'" }.joined(separator: ", ")
      + (names.count > shown ? " and \(names.count - shown) more" : "")
  }

  /// Names by position: each needs an output, and each output a name.
  private func checkPositions(hasNames: Bool, _ warn: (Diagnostic) -> Void) throws(VitError) {
    if names.count > outputs {
      throw VitError(
        "the data have \(names.count) classes, the model has \(outputs)", code: "labels",
        help:
          "give data of the model's classes; names in config.json beside the model (id2label) say which they are"
      )
    }
    let doubt =
      hasNames ? "none of them is called as one of the model's" : "nothing says which they are"
    if names.count < outputs {
      warn(
        Diagnostic(
          .warning,
          "the data have \(names.count) classes, the model has \(outputs), and \(doubt): accuracy by position may mean nothing",
          code: "label-position",
          help: "call the classes as the model's are called in config.json (id2label)"))
    } else if hasNames {
      warn(
        Diagnostic(.warning, "\(doubt): they are numbered by position", code: "label-position"))
    }
  }

  /// Numbers: from 0, below the number of outputs.
  private static func check(
    numbers: [Int], outputs: Int, isNamed: Bool, _ warn: (Diagnostic) -> Void
  ) throws(VitError) {
    guard let least = numbers.min(), let most = numbers.max() else { return }
    guard most < outputs else {
      let isFromOne = least >= 1 && most == outputs
      throw VitError(
        isFromOne
          ? "the labels are counted from 1: they are \(least)…\(most), the model's \(outputs) classes 0…\(outputs - 1)"
          : "the labels are \(least)…\(most), the model's \(outputs) classes 0…\(outputs - 1)",
        code: "labels", help: isFromOne ? "subtract 1 from each" : "give data of the model's classes")
    }
    if most < outputs - 1, !isNamed {
      warn(
        Diagnostic(
          .warning,
          "the labels are \(least)…\(most), the model has \(outputs) classes, and nothing says which they are: accuracy may mean nothing",
          code: "label-position"))
    }
  }
}

/// The names of a model's classes, found by any of the ways in which people spell them.
private struct ClassNames {
  private let exact: [String: Int]
  /// By the plain spelling; `nil` for one that several classes have.
  private var plain: [String: Int?] = [:]

  init(_ names: [String]) {
    exact = [String: Int](names.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    for (number, name) in names.enumerated() {
      var spellings = [name] + name.split(separator: ",").map(String.init)
      if let first = name.split(separator: " ").first, ImageNet.isID(String(first)) {
        spellings += [String(first), String(name.dropFirst(first.count))]
      }
      for spelling in Set(spellings.map(ClassNames.plain)) where !spelling.isEmpty {
        if let other = plain[spelling], other != number {
          plain[spelling] = .some(nil)
        } else {
          plain[spelling] = number
        }
      }
    }
  }

  /// The number of the class that is called `name`.
  func number(of name: String) -> Int? { exact[name] ?? plain[ClassNames.plain(name)] ?? nil }

  /// A name without what spellings differ in: case, and what stands between words.
  private static func plain(_ name: String) -> String {
    name.lowercased().split { " _-".contains($0) }.joined(separator: " ")
  }
}
