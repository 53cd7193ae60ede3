public import VitIR

/// The shape of an input as a user gives it, where the file leaves it open: `image=batch,3,224,224`.
public struct InputShape: Hashable, Sendable {
  /// The input.
  public let name: String
  private let extents: [Extent]

  private enum Extent: Hashable {
    case fixed(Int)
    case named(String)
    case open
  }

  /// Reads `NAME=EXTENTS`: numbers, names, or `?`, with commas between them. Throws a usage error for anything else.
  public init(_ text: String) throws(VitError) {
    func bad(_ why: String) -> VitError {
      VitError(
        "the shape '\(text)' \(why)", kind: .usage, code: "input-shape",
        help: "a shape is given as in image=batch,3,224,224, with ? for an extent that stays open")
    }
    guard let equals = text.lastIndex(of: "="), equals > text.startIndex else {
      throw bad("names no input")
    }
    name = String(text[..<equals])
    var extents: [Extent] = []
    for part in text[text.index(after: equals)...].split(separator: ",", omittingEmptySubsequences: false) {
      if part == "?" {
        extents.append(.open)
      } else if let number = Int(part) {
        guard (1...TensorType.maximumElements).contains(number) else {
          throw bad("has the extent \(number), expected at least 1")
        }
        extents.append(.fixed(number))
      } else {
        guard part.utf8.allSatisfy({ $0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7a || $0 == 0x5f }), !part.isEmpty
        else { throw bad("has the extent '\(part)', expected a number, a name or ?") }
        extents.append(.named(String(part)))
      }
    }
    guard extents.count <= TensorDecoder.maximumRank else { throw bad("has too many axes") }
    self.extents = extents
  }

  /// The shape with what the file says of it; throws where the two contradict.
  func completing(_ file: [OnnxValue.Extent]?) throws(VitError) -> [OnnxValue.Extent] {
    if let file, file.count != extents.count {
      throw VitError(
        "input '\(name)' has \(file.count) axes, --input-shape gives \(extents.count)", kind: .usage,
        code: "input-shape")
    }
    var result: [OnnxValue.Extent] = []
    for (axis, extent) in extents.enumerated() {
      let own = file?[axis] ?? .unknown
      if case .fixed(let number) = own, number > 0 {
        guard extent == .fixed(number) || extent == .open else {
          throw VitError(
            "axis \(axis) of input '\(name)' is fixed at \(number) in the file, --input-shape gives another",
            kind: .usage, code: "input-shape")
        }
        result.append(own)
        continue
      }
      switch extent {
      case .fixed(let number): result.append(.fixed(number))
      case .named(let name): result.append(.named(name))
      case .open: if case .named = own { result.append(own) } else { result.append(.unknown) }
      }
    }
    return result
  }
}
