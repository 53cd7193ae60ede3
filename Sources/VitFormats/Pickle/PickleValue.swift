/// A value of a pickle. Those that hold others hold their numbers: nothing here is nested, however deep a pickle is.
enum PickleValue {
  /// How the bytes of a text lie in the file.
  enum Coding: Sendable {
    /// As they are.
    case raw
    /// With the escapes of a literal of Python 2.
    case escaped
    /// As UTF-8, of which each character is a byte.
    case latin
  }

  /// What Python would call or look up; here a name and nothing more.
  enum Name: Sendable {
    /// What makes an empty array, to be filled.
    case reconstruct
    /// What makes an array of its bytes.
    case fromBuffer
    /// The class of arrays.
    case array
    /// The class of types of elements.
    case elementType
    /// What makes bytes of a text.
    case encode
  }

  case none
  case bool(Bool)
  case int(Int)
  case text(Coding, Range<Int>)
  case list([Int])
  case tuple([Int])
  case dictionary([(key: Int, value: Int)])
  case name(Name)
  /// The type of an array's elements, called as `u1`.
  case elementType(String)
  /// An array: the values of its shape, its type and its bytes; none before it is filled.
  case array(Parts?)

  /// What an array is made of.
  struct Parts {
    /// The number of the value that is its shape.
    let shape: Int
    /// The number of the value that is the type of its elements.
    let type: Int
    /// Whether its first axis is the innermost.
    let isColumnMajor: Bool
    /// The number of the value that is its bytes.
    let bytes: Int
  }

  /// What a message calls it.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a truth value"
    case .int: "a number"
    case .text: "text"
    case .list: "a list"
    case .tuple: "a tuple"
    case .dictionary: "a dictionary"
    case .name: "a name"
    case .elementType: "a type of elements"
    case .array: "an array"
    }
  }
}
