extension String {
  /// A hint at the one of `known` that was probably meant by this word, which is none of them; `nil` where none is near, and where
  /// two are as near.
  ///
  /// Near is what at most two letters, or a third of them, lead to (Levenshtein's distance).
  package func meant(among known: [String]) -> String? {
    let distances = known.map { ($0, $0.editDistance(to: self)) }
    guard let least = distances.map(\.1).min(), least <= Swift.max(2, count / 3), least < count else {
      return nil
    }
    let nearest = distances.filter { $0.1 == least }
    return nearest.count == 1 ? "did you mean '\(nearest[0].0)'?" : nil
  }

  /// How many insertions, deletions and replacements lead to `other`.
  private func editDistance(to other: String) -> Int {
    let target = Array(other)
    var row = Array(0...target.count)
    for (index, character) in enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for column in target.indices {
        let changed = diagonal + (target[column] == character ? 0 : 1)
        diagonal = row[column + 1]
        row[column + 1] = Swift.min(changed, diagonal + 1, row[column] + 1)
      }
    }
    return row[target.count]
  }
}
