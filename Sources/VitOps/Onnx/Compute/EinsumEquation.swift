internal import VitIR

/// The equation of `onnx.Einsum`: which axes of the operands are the same, and which the result has.
struct EinsumEquation: Sendable {
  /// The equation as written.
  let text: String
  private let terms: [Term]
  /// The result's term; absent: letters that occur once, in alphabetical order, after the axes of `...`.
  private let result: Term?

  /// One operand's letters, and where among them `...` stands for any number of axes.
  private struct Term: Sendable {
    var letters: [UInt8] = []
    var ellipsis: Int?

    init(_ text: Substring.UTF8View, in equation: String) throws(VitError) {
      var dots = 0
      for character in text {
        switch character {
        case UInt8(ascii: "."):
          dots += 1
          if dots == 1 { ellipsis = letters.count }
        case UInt8(ascii: " "): break
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"):
          guard dots == 0 || dots == 3 else { throw Self.wrong(equation, "'...' is not three dots") }
          letters.append(character)
        default: throw Self.wrong(equation, "it holds '\(Character(UnicodeScalar(character)))'")
        }
      }
      guard dots == 0 || dots == 3 else { throw Self.wrong(equation, "'...' is not three dots, once") }
    }

    static func wrong(_ equation: String, _ reason: String) -> VitError {
      VitError(
        "attribute 'equation' is '\(equation)', which cannot be read: \(reason)", code: "einsum-equation")
    }
  }

  init(_ text: String) throws(VitError) {
    self.text = text
    var rest = text[...]
    var output: Substring?
    if let arrow = text.utf8.firstIndex(of: UInt8(ascii: "-")) {
      let next = text.utf8.index(after: arrow)
      guard next < text.utf8.endIndex, text.utf8[next] == UInt8(ascii: ">") else {
        throw Term.wrong(text, "'-' is not followed by '>'")
      }
      output = text[text.utf8.index(after: next)...]
      rest = text[..<arrow]
    }
    var terms: [Term] = []
    for part in rest.split(separator: ",", omittingEmptySubsequences: false) {
      terms.append(try Term(part.utf8, in: text))
    }
    self.terms = terms
    guard let output else {
      result = nil
      return
    }
    let term = try Term(output.utf8, in: text)
    for (index, letter) in term.letters.enumerated() {
      let name = Character(UnicodeScalar(letter))
      guard !term.letters[..<index].contains(letter) else {
        throw Term.wrong(text, "the result has '\(name)' twice")
      }
      guard terms.contains(where: { $0.letters.contains(letter) }) else {
        throw Term.wrong(text, "'\(name)' of the result is in no operand")
      }
    }
    result = term
  }

  /// The axes of operands of these ranks and of the result as labels: letters, and negative numbers, counted
  /// from the last, for what `...` covers.
  func labels(ranks: [Int]) throws(VitError) -> (operands: [[Int]], result: [Int]) {
    guard ranks.count == terms.count else {
      throw VitError("the equation '\(text)' has \(terms.count) operands, found \(ranks.count)")
    }
    var operands: [[Int]] = []
    var covered = 0
    for (index, (term, rank)) in zip(terms, ranks).enumerated() {
      let letters = term.letters.map(Int.init)
      guard let place = term.ellipsis else {
        guard rank == letters.count else {
          throw VitError(
            "input \(index) has \(rank) axes, expected \(letters.count) by the equation '\(text)'")
        }
        operands.append(letters)
        continue
      }
      guard rank >= letters.count else {
        throw VitError("input \(index) has \(rank) axes, expected at least \(letters.count) by '\(text)'")
      }
      let extra = rank - letters.count
      covered = max(covered, extra)
      operands.append(letters[..<place] + (0..<extra).map { $0 - extra } + letters[place...])
    }
    let ellipsis = (0..<covered).map { $0 - covered }
    if let result {
      let letters = result.letters.map(Int.init)
      guard let place = result.ellipsis else { return (operands, letters) }
      return (operands, letters[..<place] + ellipsis + letters[place...])
    }
    let all = terms.flatMap(\.letters).sorted()
    let once = all.indices.filter { index in
      (index == 0 || all[index - 1] != all[index]) && (index + 1 == all.count || all[index + 1] != all[index])
    }
    return (operands, ellipsis + once.map { Int(all[$0]) })
  }
}
