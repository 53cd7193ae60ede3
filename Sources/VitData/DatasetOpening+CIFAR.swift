internal import VitFormats
internal import VitIR

extension Opener {
  /// CIFAR: `data_batch_N.bin` and `test_batch.bin`, or `train.bin` and `test.bin`; the version for Python has no extension.
  func batches(_ folder: Folder, split: Split?) throws -> Dataset? {
    guard split == nil else { return nil }
    for end in [".bin", ""] {
      let training = folder.files.filter { Opener.isTraining($0, end) }
      let test = folder.files.filter { ["test", "test_batch"].contains(Opener.stem($0, end)) }
      guard !training.isEmpty || !test.isEmpty,
        try end == ".bin" || (training + test).allSatisfy({ try Opener.isPickle(folder.path(of: $0)) })
      else { continue }
      let found = (training.isEmpty ? [] : [Split.train]) + (test.isEmpty ? [] : [.test])
      guard let part = try chosen(found) else { return nil }
      return try cifar((part == .train ? training : test).map(folder.path(of:)), split: part)
    }
    return nil
  }

  private static func stem(_ name: String, _ end: String) -> String? {
    name.hasSuffix(end) ? String(name.dropLast(end.count)) : nil
  }

  private static func isTraining(_ name: String, _ end: String) -> Bool {
    guard let stem = stem(name, end) else { return false }
    return stem == "train"
      || (stem.hasPrefix("data_batch_") && Int(stem.dropFirst("data_batch_".count)) != nil)
  }

  private static func isPickle(_ path: String) throws(VitError) -> Bool {
    let file = try MappedFile(path: path)
    return CIFAR.isPickle(try file.read(0..<min(4, file.count)))
  }

  /// Batches of one kind, with the names of the classes where a file beside them has those.
  func cifar(_ paths: [String], split: Split?) throws -> Dataset {
    let isBinary = paths.allSatisfy { $0.hasSuffix(".bin") }
    let batches = try paths.map { try isBinary ? CIFAR($0) : CIFAR(pickle: $0) }
    guard let first = paths.first, let classes = batches.first?.classes,
      batches.allSatisfy({ $0.classes == classes })
    else {
      throw VitError(
        "batches of CIFAR-10 and CIFAR-100 in one folder", code: "cifar", location: Location(file: path))
    }
    let start = first.utf8.lastIndex(of: UInt8(ascii: "/")).map { first.utf8.index(after: $0) }
    let folder = String(first[..<(start ?? first.startIndex)])
    let meta: String
    var names: [String]?
    if isBinary {
      meta = folder + (classes == 10 ? "batches.meta.txt" : "fine_label_names.txt")
      if Folder.kind(meta) == .file {
        let text = String(decoding: try MappedFile.contents(of: meta, limit: 1 << 16), as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline).map(String.init)
        if lines.count == classes { names = lines }
      }
    } else {
      meta = folder + (classes == 10 ? "batches.meta" : "meta")
      if Folder.kind(meta) == .file {
        let found = try CIFAR.classNames(pickle: meta)
        guard found.count == classes else {
          throw VitError(
            "expected the names of \(classes) classes, found \(found.count)", code: "cifar-keys",
            location: Location(file: meta))
        }
        names = found
      }
    }
    return Dataset(
      name: name, source: CIFARBatches(batches), labels: batches.flatMap(\.labels), classNames: names,
      files: paths + (names == nil ? [] : [meta]), split: split, warn: warn)
  }
}
