internal import VitIR

/// The types of a model's inputs, with names for the extents that the file leaves open.
struct InputTypes {
  /// The name of the extent that counts images.
  static let batch = Dimension.batchName

  private var symbols: [String: String] = [:]
  private var taken: Set<String> = [InputTypes.batch]
  /// The inputs: their places among the flat values, names and types.
  private(set) var inputs: [(value: FlatValue, name: String, type: TensorType)] = []

  /// Adds an input; its type must be one of a tensor of known rank, where nobody has `given` its shape.
  ///
  /// The first axis of the first input counts images: its symbol is called `batch`, whatever the file calls it, and so are
  /// the first axes of further inputs that the file gives the same name or none. A negative extent is one that the file leaves
  /// open.
  mutating func add(
    _ value: OnnxValue, _ flat: FlatValue, name: String, given: InputShape? = nil
  ) throws(VitError) {
    guard value.kind == "tensor" else {
      throw VitError("input '\(name)' is a \(value.kind), expected a tensor", code: "input-type")
    }
    guard let element = OnnxElement.type(value.element) else {
      throw VitError(
        "input '\(name)' has elements of the type \(OnnxElement.name(value.element)), which is not supported",
        code: "element-type")
    }
    guard let extents = try given?.completing(value.shape) ?? value.shape else {
      throw VitError(
        "input '\(name)' has no shape, expected at least the number of its axes", code: "input-shape",
        help: "give it with --input-shape '\(name)=batch,3,224,224', with ? for what stays open")
    }
    let isImage = extents.count == 4
    var shape: Shape = []
    for (axis, extent) in extents.enumerated() {
      switch extent {
      case .fixed(let number) where number >= 0:
        guard number > 0 else {
          let role = axis == 0 ? " (the batch)" : ""
          throw VitError(
            "axis \(axis)\(role) of input '\(name)' has the extent 0, expected at least 1",
            code: "input-shape",
            help: "where the file means any number, --input-shape '\(name)=…' says so")
        }
        shape.append(.fixed(number))
      case .named(let text):
        if symbols[text] == nil {
          symbols[text] = axis == 0 && inputs.isEmpty ? Self.batch : fresh(text)
        }
        shape.append(.symbol(symbols[text] ?? text))
      case .fixed, .unknown:
        let role = isImage && axis > 0 ? ["", "channels", "height", "width"][axis] : "\(name)_dim\(axis)"
        shape.append(.symbol(axis == 0 ? Self.batch : fresh(role)))
      }
    }
    let type = TensorType(element.computed, shape)
    do { try type.validate() } catch {
      throw VitError("input '\(name)': \(error.diagnostic.message)", code: "input-shape")
    }
    inputs.append((flat, name, type))
  }

  /// A symbol of its own for a name, which in the file may be any text: `height`, `s0*2`, `height//14`.
  private mutating func fresh(_ text: String) -> String {
    var name = ""
    for byte in text.utf8 {
      let isLetter = (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7a) || byte == 0x5f
      let isDigit = byte >= 0x30 && byte <= 0x39
      name += isLetter || (isDigit && !name.isEmpty) ? String(UnicodeScalar(byte)) : "_"
    }
    if name.isEmpty || name == "floor" || name.utf8.count > 64 { name = "size" }
    var unique = name
    var number = 1
    while !taken.insert(unique).inserted {
      unique = "\(name)_\(number)"
      number += 1
    }
    return unique
  }

  /// The same inputs with extents replaced.
  func substituting(_ value: (String) -> Dimension?) -> InputTypes {
    var copy = self
    for index in inputs.indices {
      copy.inputs[index].type.shape = inputs[index].type.shape.map { $0.substituting(value) }
    }
    return copy
  }

  /// The same inputs for `count` images; `nil` where their number is not open.
  func withBatch(_ count: Int) -> InputTypes? {
    guard inputs.first?.type.shape.first == .symbol(Self.batch) else { return nil }
    return substituting { $0 == Self.batch ? .fixed(count) : nil }
  }

  /// The same inputs where the first axes of all that are open count the same images, with the names of those that did not;
  /// `nil` where there are none.
  func withOneBatch() -> (inputs: InputTypes, names: [String])? {
    guard inputs.first?.type.shape.first == .symbol(Self.batch) else { return nil }
    let others = inputs.dropFirst().compactMap { input -> (name: String, symbol: String)? in
      guard let first = input.type.shape.first, let symbol = first.symbols.first, symbol != Self.batch,
        first == .symbol(symbol)
      else { return nil }
      return (input.name, symbol)
    }
    guard !others.isEmpty else { return nil }
    let symbols = Set(others.map(\.symbol))
    return (substituting { symbols.contains($0) ? .symbol(Self.batch) : nil }, others.map(\.name))
  }
}
