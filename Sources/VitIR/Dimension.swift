/// An extent: a whole number, or a polynomial over named symbols (`batch`, `height`, …) with floor division.
///
/// Held in a normal form, so that equal polynomials compare equal: `batch*4`, `height/14*width/14 + 1`.
/// Arithmetic saturates at the limits of `Int`, and a polynomial that outgrows `maximumWeight` becomes
/// `Int.max`; such an extent is refused where a type is made from it.
public struct Dimension: Hashable, Sendable {
  /// One factor that is no number.
  indirect enum Atom: Hashable, Sendable, Comparable {
    case symbol(String)
    case floor(Dimension, Dimension)

    static func < (a: Atom, b: Atom) -> Bool {
      switch (a, b) {
      case (.symbol(let x), .symbol(let y)): x < y
      case (.symbol, .floor): true
      case (.floor, .symbol): false
      case (.floor(let x, let p), .floor(let y, let q)):
        x == y ? p.description < q.description : x.description < y.description
      }
    }
  }

  /// A coefficient and its factors, sorted.
  struct Term: Hashable, Sendable {
    var coefficient: Int
    var atoms: [Atom]

    var weight: Int {
      atoms.reduce(1) {
        switch $1 {
        case .symbol: $0 + 1
        case .floor(let a, let b): $0 + 1 + a.weight + b.weight
        }
      }
    }
  }

  /// The name of the symbol that counts images.
  public static let batchName = "batch"
  /// The number of images.
  public static let batch = Dimension.symbol(batchName)

  /// The terms with factors, greatest degree first, then by factors; coefficients are not zero.
  let terms: [Term]
  /// The number added to them.
  let constant: Int
  /// How many terms and factors are written in it, those inside divisions included.
  private let weight: Int

  /// The greatest weight of a polynomial: no model's shapes come near it, and without a bound a few
  /// operations could make one that takes years to print.
  static let maximumWeight = 256

  /// A polynomial whose terms are in normal form.
  private init(terms: [Term], constant: Int) {
    let weight = terms.reduce(0) { $0 + $1.weight }
    // What has saturated stays so, whatever is added to it.
    let fits = weight <= Self.maximumWeight && constant != Int.max && constant != Int.min
    self.terms = fits ? terms : []
    self.constant = fits || terms.isEmpty ? constant : Int.max
    self.weight = fits ? weight : 0
  }

  /// A whole number.
  public static func fixed(_ value: Int) -> Dimension { Dimension(terms: [], constant: value) }

  /// A named symbol, which stands for a positive whole number.
  public static func symbol(_ name: String) -> Dimension {
    Dimension(terms: [Term(coefficient: 1, atoms: [.symbol(name)])], constant: 0)
  }

  /// The value, where there is no symbol in it.
  public var fixedValue: Int? { terms.isEmpty ? constant : nil }

  /// Whether there is no symbol in it.
  public var isFixed: Bool { terms.isEmpty }

  /// The names of its symbols, sorted, each once.
  public var symbols: [String] {
    var names: [String] = []
    for term in terms {
      for atom in term.atoms {
        switch atom {
        case .symbol(let name): names.append(name)
        case .floor(let a, let b): names += a.symbols + b.symbols
        }
      }
    }
    names.sort()
    return names.enumerated().filter { $0.offset == 0 || names[$0.offset - 1] != $0.element }.map(\.element)
  }

  /// The polynomial with each symbol that `value` knows replaced.
  public func substituting(_ value: (String) -> Dimension?) -> Dimension {
    guard !terms.isEmpty else { return self }
    var sum = Dimension.fixed(constant)
    for term in terms {
      var product = Dimension.fixed(term.coefficient)
      for atom in term.atoms {
        switch atom {
        case .symbol(let name): product = product * (value(name) ?? .symbol(name))
        case .floor(let a, let b):
          product = product * a.substituting(value).floorDivided(by: b.substituting(value))
        }
      }
      sum = sum + product
    }
    return sum
  }

  /// What two extents are that have to be equal and may be: the same polynomial, or the simpler of two, of which the plan
  /// that binds their symbols sees whether they are. `nil` where one is a number and the other not that one, or where they
  /// could be equal for one number of images alone.
  public func joined(with other: Dimension) -> Dimension? {
    if self == other { return self }
    guard !isFixed, !other.isFixed,
      symbols.contains(Self.batchName) == other.symbols.contains(Self.batchName)
    else { return nil }
    return other.weight < weight ? other : self
  }

  /// Whether it is known to be at least one, symbols being positive.
  public var isPositive: Bool {
    guard isNonnegative else { return false }
    return constant > 0
      || terms.contains { term in term.atoms.allSatisfy { if case .symbol = $0 { true } else { false } } }
  }

  /// Whether it is known not to be negative, symbols being positive.
  private var isNonnegative: Bool {
    constant >= 0
      && terms.allSatisfy { term in
        term.coefficient > 0
          && term.atoms.allSatisfy { atom in
            switch atom {
            case .symbol: true
            case .floor(let a, let b): a.isNonnegative && b.isPositive
            }
          }
      }
  }
}

// MARK: - Arithmetic

private func saturatingAdd(_ a: Int, _ b: Int) -> Int {
  let (sum, overflow) = a.addingReportingOverflow(b)
  return overflow ? (a < 0 ? Int.min : Int.max) : sum
}

private func saturatingMultiply(_ a: Int, _ b: Int) -> Int {
  let (product, overflow) = a.multipliedReportingOverflow(by: b)
  return overflow ? ((a < 0) != (b < 0) ? Int.min : Int.max) : product
}

extension Dimension {
  /// The normal form of a sum of terms.
  private static func normalised(_ terms: [Term], constant: Int) -> Dimension {
    let sorted = terms.sorted(by: precedes)
    var result: [Term] = []
    for term in sorted {
      if let last = result.last, last.atoms == term.atoms {
        result[result.count - 1].coefficient = saturatingAdd(last.coefficient, term.coefficient)
      } else {
        result.append(term)
      }
    }
    return Dimension(terms: result.filter { $0.coefficient != 0 }, constant: constant)
  }

  private static func precedes(_ a: Term, _ b: Term) -> Bool {
    if a.atoms.count != b.atoms.count { return a.atoms.count > b.atoms.count }
    for (x, y) in zip(a.atoms, b.atoms) where x != y { return x < y }
    return false
  }

  /// The sum.
  public static func + (a: Dimension, b: Dimension) -> Dimension {
    let constant = saturatingAdd(a.constant, b.constant)
    if a.terms.isEmpty && b.terms.isEmpty { return .fixed(constant) }
    return normalised(a.terms + b.terms, constant: constant)
  }

  /// The difference.
  public static func - (a: Dimension, b: Dimension) -> Dimension { a + b * .fixed(-1) }

  /// The product.
  public static func * (a: Dimension, b: Dimension) -> Dimension {
    if a.terms.isEmpty && b.terms.isEmpty { return .fixed(saturatingMultiply(a.constant, b.constant)) }
    guard a.terms.count * b.terms.count <= 4 * maximumWeight else { return .fixed(Int.max) }
    var terms: [Term] = []
    for x in a.terms {
      for y in b.terms {
        terms.append(
          Term(
            coefficient: saturatingMultiply(x.coefficient, y.coefficient), atoms: (x.atoms + y.atoms).sorted()
          ))
      }
    }
    for x in a.terms where b.constant != 0 {
      terms.append(Term(coefficient: saturatingMultiply(x.coefficient, b.constant), atoms: x.atoms))
    }
    for y in b.terms where a.constant != 0 {
      terms.append(Term(coefficient: saturatingMultiply(y.coefficient, a.constant), atoms: y.atoms))
    }
    return normalised(terms, constant: saturatingMultiply(a.constant, b.constant))
  }

  /// The exact quotient, or `nil` where the division leaves a remainder or is not known to be exact.
  public func exactlyDivided(by divisor: Dimension) -> Dimension? {
    if divisor == .fixed(0) { return nil }
    if divisor == .fixed(1) { return self }
    if self == divisor { return .fixed(1) }
    var rest = self
    var quotient = Dimension.fixed(0)
    let lead = divisor.leading
    // Long division by the leading term: each round removes the greatest term of the rest.
    for _ in 0..<64 {
      if rest == .fixed(0) { return quotient }
      let head = rest.leading
      guard lead.coefficient != 0, head.coefficient != Int.min,
        head.coefficient.isMultiple(of: lead.coefficient),
        let atoms = Dimension.removing(lead.atoms, from: head.atoms)
      else { return nil }
      let coefficient = head.coefficient / lead.coefficient
      let step = Dimension.normalised(
        atoms.isEmpty ? [] : [Term(coefficient: coefficient, atoms: atoms)],
        constant: atoms.isEmpty ? coefficient : 0)
      quotient = quotient + step
      rest = rest - step * divisor
    }
    return nil
  }

  /// The quotient rounded down; `divisor` is positive.
  public func floorDivided(by divisor: Dimension) -> Dimension {
    if let exact = exactlyDivided(by: divisor) { return exact }
    if terms.isEmpty, divisor.terms.isEmpty {
      guard divisor.constant != 0, !(constant == Int.min && divisor.constant == -1) else {
        return .fixed(Int.max)
      }
      let quotient = constant / divisor.constant
      let inexact = constant % divisor.constant != 0
      return .fixed(inexact && (constant < 0) != (divisor.constant < 0) ? quotient - 1 : quotient)
    }
    if let number = divisor.fixedValue, number > 1 {
      // What the divisor divides comes out, so that the extents of windows over an axis take one form.
      let whole = terms.filter { $0.coefficient % number == 0 }
      let remainder = ((constant % number) + number) % number
      if !whole.isEmpty || remainder != constant {
        let outside = Dimension(
          terms: whole.map { Term(coefficient: $0.coefficient / number, atoms: $0.atoms) },
          constant: (constant - remainder) / number)
        let inside = Dimension(terms: terms.filter { $0.coefficient % number != 0 }, constant: remainder)
        return outside + inside.floorDivided(by: divisor)
      }
    }
    return Dimension(terms: [Term(coefficient: 1, atoms: [.floor(self, divisor)])], constant: 0)
  }

  /// The quotient rounded up; `divisor` is positive.
  public func ceilingDivided(by divisor: Dimension) -> Dimension {
    (self + divisor - .fixed(1)).floorDivided(by: divisor)
  }

  private var leading: Term { terms.first ?? Term(coefficient: constant, atoms: []) }

  private static func removing(_ factors: [Atom], from atoms: [Atom]) -> [Atom]? {
    var rest = atoms
    for factor in factors {
      guard let index = rest.firstIndex(of: factor) else { return nil }
      rest.remove(at: index)
    }
    return rest
  }
}

extension Dimension: ExpressibleByIntegerLiteral {
  /// A whole number.
  public init(integerLiteral value: Int) { self = .fixed(value) }
}

extension Dimension: CustomStringConvertible {
  /// The polynomial as text, which the IR parser reads back: `4*batch + 1`, `floor(height + 3, 14)`.
  public var description: String {
    if terms.isEmpty { return String(constant) }
    var text = ""
    for (index, term) in terms.enumerated() {
      let magnitude = term.coefficient.magnitude
      let factors = term.atoms.map { atom -> String in
        switch atom {
        case .symbol(let name): Dimension.isPlain(name) ? name : "\"\(name.escapedForText)\""
        case .floor(let a, let b): "floor(\(a), \(b))"
        }
      }
      let product = ((magnitude == 1 ? [] : [String(magnitude)]) + factors).joined(separator: "*")
      let negative = term.coefficient < 0
      text += index == 0 ? (negative ? "-" : "") : (negative ? " - " : " + ")
      text += product
    }
    if constant != 0 { text += constant < 0 ? " - \(constant.magnitude)" : " + \(constant)" }
    return text
  }

  /// Whether a symbol's name is an identifier, printed without quotes.
  static func isPlain(_ name: String) -> Bool {
    guard let first = name.utf8.first, name != "floor" else { return false }
    func letter(_ c: UInt8) -> Bool { (c | 0x20 >= 0x61 && c | 0x20 <= 0x7a) || c == 0x5f }
    return letter(first) && name.utf8.allSatisfy { letter($0) || ($0 >= 0x30 && $0 <= 0x39) }
  }
}

extension String {
  /// The text as it stands between quotes in the textual IR.
  var escapedForText: String {
    var result = ""
    for scalar in unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      case let scalar where scalar.value < 0x20 || scalar.value == 0x7f:
        result += "\\u{" + String(scalar.value, radix: 16) + "}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
