internal import VitIR

extension Opener {
  /// Lists of pictures, one for each part: `train.csv`, `test.csv`, `val.tsv` and so on.
  func lists(_ folder: Folder, split: Split?) throws -> Dataset? {
    let found = folder.files.compactMap { file in
      Opener.part(of: file).map { (file: file, word: $0.word, part: $0.part) }
    }
    guard split == nil, !found.isEmpty, !hasClassesByPart(folder),
      let part = try chosen([Split.train, .test].filter { part in found.contains { $0.part == part } })
    else { return nil }
    // Of several lists to test on the one called so: the others were for choosing the model.
    let own = found.filter { $0.part == part }
    guard let file = (own.first { $0.word == part.rawValue } ?? own.first)?.file else { return nil }
    do throws(VitError) { return try list(folder.path(of: file), split: part) } catch {
      var error = error
      error.diagnostic.help =
        error.diagnostic.help
        ?? "'\(file)' in a data set's folder is its list of pictures: where it is something else, name the folder that holds the pictures"
      throw error
    }
  }

  /// Whether folders for the parts hold folders for classes: these say what is what then, and a list beside them is something else.
  private func hasClassesByPart(_ folder: Folder) -> Bool {
    folder.folders.contains { name in
      guard Opener.splitNames[name] != nil else { return false }
      return (try? Folder(folder.path(of: name)))?.folders.isEmpty == false
    }
  }

  /// The part that a list's name stands for.
  private static func part(of file: String) -> (word: String, part: Split)? {
    guard SampleList.isName(file), let dot = file.lastIndex(of: ".") else { return nil }
    let word = file[..<dot].lowercased()
    return splitNames[word].map { (word, $0) }
  }

  /// The pictures that the list at `path` names. None is looked at before it is asked for.
  ///
  /// Classes that have names are numbered in the order of the names in this list and, where it is a part of a data set, in the
  /// lists of the other parts beside it.
  func list(_ path: String, split: Split?) throws(VitError) -> Dataset {
    let list = try SampleList(path)
    var (labels, names): ([Int]?, [String]?) = (nil, nil)
    var others: [String] = []
    switch list.labels {
    case .none: break
    case .numbers(let numbers): labels = numbers
    case .names(let codes, let found):
      others = otherLists(beside: path)
      var all = Set(found)
      for other in others { all.formUnion(try SampleList.classNames(other)) }
      let sorted = all.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      let numbers = [String: Int](sorted.enumerated().map { ($1, $0) }) { first, _ in first }
      let order = found.map { numbers[$0] ?? 0 }
      (labels, names) = (codes.map { order[$0] }, sorted)
    }
    return Dataset(
      name: name, source: ImageFiles(paths: list.paths), labels: labels, classNames: names,
      files: [path] + list.paths, surroundings: parents(split) + others, split: split, warn: warn)
  }

  /// The lists of the other parts of the data set of which the one at `path` is a part.
  private func otherLists(beside path: String) -> [String] {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let start = slash.map { path.utf8.index(after: $0) } ?? path.startIndex
    let (folder, own) = (String(path[..<start]), String(path[start...]))
    guard Opener.part(of: own) != nil else { return [] }
    // Looked for by name: the folder may hold a million pictures, too.
    let words = Opener.splitNames.keys.sorted().flatMap {
      [$0, $0.prefix(1).uppercased() + $0.dropFirst(), $0.uppercased()]
    }
    return words.flatMap { word in ["csv", "tsv", "CSV", "TSV"].map { "\(word).\($0)" } }.filter { $0 != own }
      .map { folder + $0 }
      .filter { Folder.kind($0) == .file }
  }
}
