internal import VitFormats
public import VitIR

extension Dataset {
  /// Opens what `text` names for pictures of this size; see `open(_:for:)`.
  public static func open(
    _ text: String, defaultSplit: Split, channels: Int, height: Int, width: Int, seed: UInt64 = 0,
    warn: @escaping @Sendable (Diagnostic) -> Void
  ) throws -> Dataset {
    try open(
      text, for: .pictures(channels: channels, height: height, width: width), defaultSplit: defaultSplit,
      seed: seed, warn: warn)
  }

  /// Opens what `text` names: `synthetic[:N]`, or `PATH[:train|:test]` with a folder of images (a folder for each
  /// class, or flat), a list of them (`.csv`, `.tsv`) or a folder with a list for each part, IDX files, `.npy`, `.npz`,
  /// CIFAR batches, or one image.
  ///
  /// Where there are two parts and `text` names none, `defaultSplit` is taken. Of a path with a colon that exists
  /// the colon is part. Synthetic samples are what is `wanted`, which also says how arrays are read. Samples
  /// that can be seen to be unreadable are left out, each with a call of `warn`, which may come from any thread
  /// then and later. Throws an `.input` error for what is missing, malformed or empty.
  public static func open(
    _ text: String, for wanted: Wanted, defaultSplit: Split, seed: UInt64 = 0,
    warn: @escaping @Sendable (Diagnostic) -> Void
  ) throws -> Dataset {
    if text == "synthetic" || text.hasPrefix("synthetic:") {
      let count = text == "synthetic" ? Synthetic.defaultCount : Int(text.dropFirst("synthetic:".count))
      guard let count, (1...(1 << 24)).contains(count) else {
        throw VitError(
          "'\(text)': expected a number of images from 1 to \(1 << 24)", kind: .usage, code: "data-argument")
      }
      let source: any DatasetSource =
        switch wanted {
        case .pictures(let channels, let height, let width):
          Synthetic(count: count, channels: channels, height: height, width: width, seed: seed)
        case .arrays(let shape): SyntheticArrays(count: count, shape: shape, seed: seed)
        }
      return Dataset(name: text, source: source, files: [], warn: warn)
    }
    var path = text
    var split: Split?
    if Folder.kind(text) == nil {
      for candidate in [Split.train, .test] where text.hasSuffix(":" + candidate.rawValue) {
        path = String(text.dropLast(candidate.rawValue.count + 1))
        split = candidate
      }
    }
    var opener = Opener(name: text, path: path, wanted: split, usual: defaultSplit, warn: warn)
    if case .arrays = wanted { opener.areTensors = true }
    let dataset: Dataset
    switch Folder.kind(path) {
    case .folder: dataset = try opener.folder(Folder(path), split: nil)
    case .file: dataset = try opener.file()
    case nil:
      throw VitError(
        "there is no such file or folder", code: "missing-data", location: Location(file: path),
        help: "data are PATH[:train|:test] or synthetic[:N]")
    }
    guard dataset.count > 0 else {
      throw VitError("the data set has no samples", code: "empty-data", location: Location(file: path))
    }
    return dataset
  }
}

/// Finds out what lies at a path.
struct Opener {
  let name: String
  let path: String
  /// The part that the user asked for.
  let wanted: Split?
  /// The part to take otherwise.
  let usual: Split
  let warn: @Sendable (Diagnostic) -> Void
  /// Whether no array is one of pictures.
  var areTensors = false

  /// The part to take of those that there are; `nil` where there is none.
  func chosen(_ found: [Split]) throws(VitError) -> Split? {
    if let wanted {
      guard found.contains(wanted) else { throw noSplit(wanted) }
      return wanted
    }
    if found.isEmpty || found.contains(usual) { return found.isEmpty ? nil : usual }
    warn(
      Diagnostic(
        .warning, "there is no \(usual.rawValue) split, the \(found[0].rawValue) split is taken",
        code: "other-split", location: Location(file: path)))
    return found[0]
  }

  func noSplit(_ split: Split) -> VitError {
    VitError(
      "the data set has no \(split.rawValue) split", code: "no-split", location: Location(file: path),
      help: "name the path without ':\(split.rawValue)'")
  }

  /// The data set in `folder`, which is the part `split` of another folder unless that is `nil`.
  func folder(_ folder: Folder, split: Split?) throws -> Dataset {
    if let dataset = try arrays(folder, split: split) ?? batches(folder, split: split)
      ?? lists(folder, split: split)
    {
      return dataset
    }
    let names = Opener.splitNames
    let parts = folder.folders.filter { names[$0] != nil }
    if split == nil, !parts.isEmpty, parts.count == folder.folders.count,
      let part = try chosen([Split.train, .test].filter { part in parts.contains { names[$0] == part } })
    {
      // Of several test folders the one called so: the others were for choosing the model.
      let inner = parts.last { names[$0] == part && ($0 == part.rawValue || !parts.contains(part.rawValue)) }
      return try self.folder(try Folder(folder.path(of: inner ?? parts[0])), split: part)
    }
    if split == nil, let wanted { throw noSplit(wanted) }
    return try images(folder, split: split)
  }

  /// IDX files: pairs of `…images…idx…` and `…labels…idx…`.
  private func arrays(_ folder: Folder, split: Split?) throws -> Dataset? {
    let images = folder.files.filter { $0.contains("images") && $0.contains("idx") }
    guard !images.isEmpty else { return nil }
    let parts: [(Split, String)] = images.compactMap { name in
      if name.contains("train") { return (.train, name) }
      return name.contains("t10k") || name.contains("test") ? (.test, name) : nil
    }
    if split == nil, let part = try chosen(parts.map(\.0)),
      let found = parts.first(where: { $0.0 == part })
    {
      return try idx(folder.path(of: found.1), split: part)
    }
    return try idx(folder.path(of: images[0]), split: split)
  }

  private func idx(_ path: String, split: Split?) throws -> Dataset {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let start = slash.map { path.utf8.index(after: $0) } ?? path.startIndex
    var labels: [Int]?
    var files = [path]
    let partner = Opener.labelsName(String(path[start...])).map { String(path[..<start]) + $0 }
    if let file = partner, Folder.kind(file) == .file {
      labels = try Opener.labels(try IDX.read(file), file)
      files.append(file)
    }
    return try dataset(try IDX.read(path), labels: labels, of: path, files: files, split: split)
  }

  /// The name of the labels' file beside the images' file `name`.
  static func labelsName(_ name: String) -> String? {
    guard name.contains("images") else { return nil }
    var result = name
    for (old, new) in [("images", "labels"), ("idx3", "idx1"), ("idx4", "idx1")] {
      result = result.split(separator: old, omittingEmptySubsequences: false).joined(separator: new)
    }
    return result
  }

  /// Whole numbers from 0, one for each sample.
  private static func labels(_ array: Tensor, _ path: String) throws -> [Int] {
    let isFlat = array.shape.count == 1 || (array.shape.count == 2 && array.shape[1] == 1)
    guard isFlat, let labels = try array.integers(), labels.allSatisfy({ $0 >= 0 }) else {
      throw VitError(
        "expected labels, whole numbers from 0, one for each sample, found \(array.type)", code: "labels",
        location: Location(file: path))
    }
    return labels
  }

  private func dataset(
    _ array: Tensor, labels: [Int]?, of path: String, files: [String], split: Split?
  ) throws -> Dataset {
    let samples: ArraySamples
    do throws(VitError) { samples = try ArraySamples(array, areTensors: areTensors) } catch {
      throw error.at(Location(file: path))
    }
    if let labels, labels.count != samples.count {
      throw VitError(
        "expected \(samples.count) labels, one for each sample, found \(labels.count)", code: "labels",
        location: Location(file: files.last ?? path))
    }
    return Dataset(name: name, source: samples, labels: labels, files: files, split: split, warn: warn)
  }

  /// Images: a folder for each class where there are at least two, or all of them unlabelled.
  ///
  /// The classes are those of all parts of the data set, whether there are images of them here or not.
  private func images(_ folder: Folder, split: Split?) throws -> Dataset {
    let others = try otherParts(of: folder)
    let names = Set(folder.folders + others.flatMap(\.folders))
      .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    let groups = try names.map { name in
      folder.folders.contains(name) ? try Folder(folder.path(of: name)).images() : []
    }
    let isLabelled = try names.count > 1 && Opener.areClasses(folder, groups, hasOthers: !others.isEmpty)
    var paths: [String] = []
    var labels: [Int] = []
    var unreadable: [String] = []
    for (label, group) in (isLabelled ? groups : [try folder.images()]).enumerated() {
      for path in group {
        do throws(VitError) { try Opener.checkImage(path) } catch {
          unreadable.append(path)
          warn(Dataset.skipWarning(error))
          continue
        }
        paths.append(path)
        labels.append(label)
      }
    }
    guard !paths.isEmpty else {
      throw VitError(
        unreadable.isEmpty
          ? "the folder holds no images" : "none of the folder's \(unreadable.count) images can be read",
        code: "empty-data", location: Location(file: folder.path),
        help: "vitc reads folders of JPEG, PNG and WebP images, lists of them, IDX files and CIFAR's batches")
    }
    return Dataset(
      name: name, source: ImageFiles(paths: paths), labels: isLabelled ? labels : nil,
      classNames: isLabelled ? names : nil, files: paths,
      surroundings: try parents(split) + others.map(\.path) + folder.tree() + unreadable, split: split,
      skipped: unreadable.count, warn: warn)
  }

  /// Whether the folders in `folder` are classes: images lie in several of them, or in one while the others are empty or
  /// another part of the data set knows them.
  private static func areClasses(
    _ folder: Folder, _ groups: [[String]], hasOthers: Bool
  ) throws(VitError) -> Bool {
    switch groups.count(where: { !$0.isEmpty }) {
    case 0: return false
    case 1:
      if hasOthers { return true }
      for name in folder.folders {
        let inner = try Folder(folder.path(of: name))
        if try inner.images().isEmpty, !inner.files.isEmpty || !inner.folders.isEmpty { return false }
      }
      return true
    default: return true
    }
  }

  /// The other parts of the data set of which `folder` is one: the folders beside it that are called as parts are.
  private func otherParts(of folder: Folder) throws(VitError) -> [Folder] {
    var own = folder.path
    while own.count > 1, own.hasSuffix("/") { own.removeLast() }
    let slash = own.lastIndex(of: "/")
    let name = String(slash.map { own[own.index(after: $0)...] } ?? own[...])
    guard Opener.splitNames[name] != nil else { return [] }
    let whole = try Folder(slash.map { $0 == own.startIndex ? "/" : String(own[..<$0]) } ?? ".")
    return try whole.folders.filter { $0 != name && Opener.splitNames[$0] != nil }
      .map { name throws(VitError) in try Folder(whole.path(of: name)) }
  }

  /// What the folders of a data set's parts are called.
  static let splitNames: [String: Split] = [
    "train": .train, "training": .train, "test": .test, "val": .test, "valid": .test, "validation": .test,
  ]

  /// The folder whose part `split` was taken, unless that is the whole.
  func parents(_ split: Split?) -> [String] { split == nil ? [] : [path] }

  /// Throws where the first bytes of a file are not those of an image that vitc reads.
  private static func checkImage(_ path: String) throws(VitError) {
    let file = try MappedFile(path: path)
    let head = try file.read(0..<min(12, file.count))
    guard Image.format(head) == nil else { return }
    do { _ = try Image(decoding: head) } catch let error as VitError {
      throw error.at(Location(file: path))
    } catch {}
  }

  /// The data set in the file at `path`, told by its content.
  func file() throws -> Dataset {
    let file = try MappedFile(path: path)
    let head = try file.read(0..<min(12, file.count))
    if head.starts(with: Array("PK".utf8)) { return try archive() }
    if let wanted { throw noSplit(wanted) }
    if head.dropFirst().starts(with: Array("NUMPY".utf8)) {
      return try dataset(try NPY.read(path), labels: nil, of: path, files: [path], split: nil)
    }
    if Image.format(head) != nil {
      return Dataset(name: name, source: ImageFiles(paths: [path]), files: [path], warn: warn)
    }
    if path.hasSuffix(".bin") { return try cifar([path], split: nil) }
    if SampleList.isName(path) { return try list(path, split: nil) }
    if head.starts(with: [0x1f, 0x8b]) || IDX.isHeader(head) { return try idx(path, split: nil) }
    if CIFAR.isPickle(head) { return try cifar([path], split: nil) }
    throw VitError(
      "expected .npy, .npz, IDX, CIFAR (.bin or a pickle), a list (.csv, .tsv), JPEG, PNG or WebP, found none of them",
      code: "unknown-data", location: Location(file: path))
  }

  /// Arrays by their usual names, with or without a split in them.
  private func archive() throws -> Dataset {
    let archive = try NPZ(path)
    let images = ["x", "images", "image", "data", "inputs", "input", "pixel_values"]
    let labels = ["y", "labels", "label", "targets", "target"]
    let splits: [(Split, [String])] = [(.train, ["train"]), (.test, ["test", "val", "valid"])]
    /// The array that has one of the names `bases`, with one of the words `parts` before or after it.
    func find(_ bases: [String], _ parts: [String]?) -> String? {
      let wanted = (parts ?? [""]).flatMap { part in
        bases.flatMap { part.isEmpty ? [$0] : [$0 + "_" + part, part + "_" + $0] }
      }
      for name in wanted {
        if let found = archive.names.first(where: { $0.lowercased() == name }) { return found }
      }
      return nil
    }
    let split = try chosen(splits.filter { find(images, $0.1) != nil }.map(\.0))
    let parts = splits.first { $0.0 == split }?.1
    guard let key = find(images, parts) else {
      throw VitError(
        "expected an array named \(images.joined(separator: ", ")), found "
          + archive.names.joined(separator: ", "), code: "npz-name", location: Location(file: path))
    }
    let classes = try find(labels, parts).map { try Opener.labels(try archive.tensor($0), path) }
    return try dataset(try archive.tensor(key), labels: classes, of: path, files: [path], split: split)
  }
}
