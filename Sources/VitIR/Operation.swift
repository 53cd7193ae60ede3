/// What is known of a value before anything runs.
public enum KnownValue: Sendable {
  /// Whole numbers, some of which may be polynomials over the model's symbols: what shapes are computed with.
  case integers(shape: [Int], [Dimension])
  /// A constant.
  case tensor(Tensor)

  /// The most elements of an integer tensor that shape arithmetic looks at.
  public static let maximumIntegers = 4096

  /// The extents.
  public var shape: [Int] {
    switch self {
    case .integers(let shape, _): shape
    case .tensor(let tensor): tensor.shape
    }
  }

  /// The elements as polynomials: of an integer (or bool) tensor that is not too large; else `nil`.
  public var dimensions: [Dimension]? {
    switch self {
    case .integers(_, let elements): return elements
    case .tensor(let tensor):
      guard tensor.count <= Self.maximumIntegers, let values = try? tensor.integers() else { return nil }
      return values.map(Dimension.fixed)
    }
  }

  /// The elements as whole numbers, where none holds a symbol.
  public var integers: [Int]? {
    guard let dimensions else { return nil }
    let values = dimensions.compactMap(\.fixedValue)
    return values.count == dimensions.count ? values : nil
  }

  /// The elements as numbers, where none holds a symbol.
  public var numbers: [Double]? {
    switch self {
    case .integers: integers.map { $0.map(Double.init) }
    case .tensor(let tensor): tensor.count <= Self.maximumIntegers ? try? tensor.doubles() : nil
    }
  }
}

/// What a type rule may look at: the operands' types, what is known of their values, how many results are
/// wanted.
public struct Operands: Sendable {
  /// The types; `nil` for an optional operand that is absent.
  public var types: [TensorType?]
  /// The values, where they are known.
  public var values: [KnownValue?]
  /// How many results the node has.
  public var resultCount: Int
  /// Takes down what a type rule calls them; only where somebody explains the operation.
  var record: OperandRecord?

  /// Operands of which `values` may be known.
  public init(_ types: [TensorType?], values: [KnownValue?] = [], resultCount: Int = 1) {
    self.types = types
    self.values = values + [KnownValue?](repeating: nil, count: max(0, types.count - values.count))
    self.resultCount = resultCount
  }

  /// The number of operands, absent ones included.
  public var count: Int { types.count }

  /// Whether operand `index` is there.
  public func has(_ index: Int) -> Bool { index < types.count && types[index] != nil }

  /// The type of operand `index`, or `nil` where it is absent.
  public subscript(index: Int) -> TensorType? { index < types.count ? types[index] : nil }

  /// The type of an operand that must be there.
  public func type(_ index: Int, _ role: String) throws(VitError) -> TensorType {
    note(index, role)
    if let type = self[index] { return type }
    throw VitError("input \(index) ('\(role)') is missing", code: "operand-missing")
  }

  /// Says what operand `index` is called, which may be absent.
  public func note(_ index: Int, _ role: String) { record?.note(index, role) }

  /// What is known of the value of operand `index`.
  public func value(_ index: Int) -> KnownValue? { index < values.count ? values[index] : nil }

  /// The whole numbers of an operand that must be known before anything runs: axes, a shape, a number of
  /// repeats.
  public func dimensions(_ index: Int, _ role: String) throws(VitError) -> [Dimension] {
    _ = try type(index, role)
    if let dimensions = value(index)?.dimensions { return dimensions }
    throw VitError(
      "input \(index) ('\(role)') is computed from data, expected one that is known when the model is compiled",
      code: "dynamic-shape")
  }

  /// The whole numbers of an operand that must be known, and hold no symbol.
  public func integers(_ index: Int, _ role: String) throws(VitError) -> [Int] {
    let dimensions = try dimensions(index, role)
    let values = dimensions.compactMap(\.fixedValue)
    guard values.count == dimensions.count else {
      throw VitError("input \(index) ('\(role)') is \(dimensions), expected numbers without symbols")
    }
    return values
  }

  /// Whether all elements of operand `index` are known to be `number`.
  public func holdsOnly(_ number: Double, at index: Int) -> Bool {
    switch value(index) {
    case .tensor(let tensor)?:
      guard tensor.count <= 1 << 24, let numbers = try? tensor.doubles() else { return false }
      return numbers.allSatisfy { $0 == number }
    case .integers?: return value(index)?.numbers?.allSatisfy { $0 == number } ?? false
    case nil: return false
    }
  }

  /// Throws unless the number of operands is in `range`.
  public func expectCount(_ range: ClosedRange<Int>) throws(VitError) {
    record?.note(count: range.upperBound)
    guard range.contains(count) else {
      let wanted = range.lowerBound == range.upperBound ? "\(range.lowerBound)" : "\(range)"
      throw VitError("expected \(wanted) inputs, found \(count)", code: "operand-count")
    }
  }
}

/// What one execution of an operation costs, for concrete operands.
public struct Cost: Hashable, Sendable {
  /// Weights, counted where they are constants.
  public var parameters: Int
  /// Floating-point operations; a multiply-add counts two.
  public var flops: Int
  /// Bytes read and written at the least: operands, results and weights once.
  public var bytes: Int

  /// A cost.
  public init(parameters: Int = 0, flops: Int = 0, bytes: Int = 0) {
    self.parameters = parameters
    self.flops = flops
    self.bytes = bytes
  }

  /// The sum.
  public static func + (a: Cost, b: Cost) -> Cost {
    Cost(parameters: a.parameters + b.parameters, flops: a.flops + b.flops, bytes: a.bytes + b.bytes)
  }
}

/// How an operation's results lie in memory.
public enum ResultMemory: Hashable, Sendable {
  /// Result 0 is the operand's memory under another shape: nothing runs.
  case alias(operand: Int)
  /// Result 0 may be written over one of the operands, where nobody else needs it and type and size agree.
  case inPlace(operands: [Int])
  /// Results need memory of their own.
  case fresh
}

/// How an operation of two operands can be part of the epilogue of the one before it.
public enum EpilogueRole: Hashable, Sendable {
  /// Operand 0 is multiplied with operand 1, one factor for each entry of the last axis.
  case scale
  /// The operands are added; done by the one before only where both have the type of the result.
  case residual
}

/// One operation, known in one place: its types, cost, forward kernel, gradient and ONNX form.
///
/// Attributes are decoded once, in `init`. `resultTypes` is type rule and verifier: it throws for whatever a
/// file could contain. After it, `forward` and `vjp` cannot fail: they neither throw nor print.
public protocol Operation: Sendable {
  /// The name with its namespace: `vit.layer_norm`, `onnx.Softmax`, `com.microsoft.Gelu`.
  static var name: String { get }
  /// One line of what it computes.
  static var summary: String { get }
  /// Operands, attributes and, where there are several, the number of results that it takes: see `OperationGuide`.
  static var example: String { get }
  /// Decodes the attributes, all of them: one that is not taken is an error.
  init(attributes: inout AttributeReader) throws(VitError)
  /// The attributes in canonical form: `init` on them gives this operation again.
  var attributes: Attributes { get }
  /// The types of the results, `operands.resultCount` of them.
  func resultTypes(_ operands: Operands) throws(VitError) -> [TensorType]
  /// What is known of the results: for operations that compute shapes, over polynomials. Default: nothing.
  /// Numbers that are wholly known are folded by running `forward`, so only what may hold symbols matters
  /// here.
  func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?]
  /// Which axes of operands and results run side by side, for operands that the type rule takes; what is known
  /// of values may be missing. Default: none, everything is mixed.
  func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap
  /// The operand whose elements result 0 has, in their order and of their type, as far as that is known.
  /// Default: none.
  func identity(_ operands: Operands, _ results: [TensorType]) -> Int?
  /// What operand `index` is for. Default: data.
  func role(of index: Int) -> OperandRole
  /// What `vjp` wants kept from `forward`, for concrete operands. Default: nothing.
  func savedTypes(_ operands: Operands) -> [TensorType]
  /// Working memory of `forward` (and of `vjp` when `mode.training`), for concrete operands. Default: none.
  func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType]
  /// Forms of constant operands that `forward` reads in their place, as `context.prepared`; `stored` has the types in
  /// which constant ones are stored, `nil` for others. Asked in inference only. Default: none.
  func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing]
  /// How results lie in memory. Default: fresh.
  var memory: ResultMemory { get }
  /// The cost for concrete operands and results; `parameters` is filled in by the caller.
  func cost(_ operands: Operands, _ results: [TensorType]) -> Cost
  /// Computes the results.
  func forward(_ context: KernelContext)
  /// Whether `forward` applies `context.epilogue` to its only result. Default: false.
  var takesEpilogue: Bool { get }
  /// How the operation that computes operand 0 or 1 can do this one's work. Default: not at all.
  var epilogueRole: EpilogueRole? { get }
  /// Whether there is a `vjp`. Default: false.
  var isDifferentiable: Bool { get }
  /// The vector-Jacobian product: *adds* to each operand's gradient; skips those that are `nil`. A result's
  /// gradient is `nil` where nothing depends on it.
  func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?])
  /// The operation in terms of ONNX operators, added to `builder`; returns the results. Default: for an
  /// operation that is an ONNX operator, itself.
  func lower(into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int) throws(VitError)
    -> [ValueID]
}

extension Operation {
  /// One operand of six numbers.
  public static var example: String { "(f32[2, 3])" }
  /// Nothing is known.
  public func knownResults(_ operands: Operands, _ results: [TensorType]) -> [KnownValue?] { [] }
  /// Everything is mixed.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap { .mixed }
  /// None.
  public func identity(_ operands: Operands, _ results: [TensorType]) -> Int? { nil }
  /// Data.
  public func role(of index: Int) -> OperandRole { .data }
  /// Nothing is kept.
  public func savedTypes(_ operands: Operands) -> [TensorType] { [] }
  /// No working memory.
  public func scratchTypes(_ operands: Operands, mode: ExecutionMode) -> [TensorType] { [] }
  /// Operands are read as they are.
  public func packings(_ operands: Operands, stored: [ElementType?]) -> [Packing] { [] }
  /// Memory of its own.
  public var memory: ResultMemory { .fresh }
  /// One operation for each element of the results; every operand read once.
  public func cost(_ operands: Operands, _ results: [TensorType]) -> Cost {
    let written = results.reduce(0) { $0 + $1.count }
    let read = operands.types.reduce(0) { $0 + ($1.map { $0.count * $0.element.size } ?? 0) }
    return Cost(flops: written, bytes: read + results.reduce(0) { $0 + $1.count * $1.element.size })
  }
  /// Writes its results as they are.
  public var takesEpilogue: Bool { false }
  /// Done by itself.
  public var epilogueRole: EpilogueRole? { nil }
  /// No gradient.
  public var isDifferentiable: Bool { false }
  /// Never called: `isDifferentiable` is false.
  public func vjp(_ context: KernelContext, resultGradients: [View?], operandGradients: [View?]) {
    preconditionFailure("\(Self.name) has no gradient")
  }
  /// The operation itself.
  public func lower(
    into builder: inout GraphBuilder, operands: [ValueID?], resultCount: Int
  ) throws(VitError) -> [ValueID] {
    try builder.add(self, operands, resultCount: resultCount)
  }
}

/// The operations that a parser or decoder knows, by name.
public struct Registry: Sendable {
  /// The operations, sorted by name.
  public let operations: [any Operation.Type]
  private let index: [String: any Operation.Type]

  /// A registry; a name twice is a bug.
  public init(_ operations: [any Operation.Type]) {
    self.operations = operations.sorted { $0.name < $1.name }
    var index: [String: any Operation.Type] = [:]
    for operation in operations {
      precondition(index.updateValue(operation, forKey: operation.name) == nil, "\(operation.name) twice")
    }
    self.index = index
  }

  /// The operation of that name.
  public subscript(name: String) -> (any Operation.Type)? { index[name] }

  /// An operation of that name with these attributes; throws for an unknown name or wrong attributes.
  public func make(_ name: String, _ attributes: Attributes = Attributes(), opset: Int? = nil)
    throws(VitError) -> any Operation
  {
    guard let type = index[name] else {
      throw VitError("unknown operation '\(name)'", code: "unknown-operation")
    }
    var reader = AttributeReader(attributes, opset: opset)
    let operation = try type.init(attributes: &reader)
    try reader.finish()
    return operation
  }
}
