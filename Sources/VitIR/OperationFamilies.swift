/// An operation that computes each element of its results from the elements at that place in its operands,
/// which broadcast.
public protocol PointwiseOperation: Operation {
  /// How operand `index` enters the result. Default: in none of these ways.
  func use(of index: Int) -> PointwiseUse?
}

/// How an operand enters an elementwise result.
public enum PointwiseUse: Hashable, Sendable {
  /// It is added.
  case term
  /// It is subtracted.
  case negatedTerm
  /// It is multiplied with.
  case factor
}

extension PointwiseOperation {
  /// In some other way.
  public func use(of index: Int) -> PointwiseUse? { nil }

  /// All axes run side by side.
  public func axes(_ operands: Operands, _ results: [TensorType]) -> AxisMap {
    .pointwise(operands, results)
  }
}

/// An operation whose results hold elements of its operands of role `data`, as they are and in other places.
public protocol MovementOperation: Operation {}

/// A convolution, which says what it expects of an image whose extents a file leaves open.
public protocol ConvolutionOperation: Operation {
  /// The operand with the windows, `[filters, channels, …]`, of two axes at least.
  var windows: Int { get }
  /// How many parts the channels come in, each with filters of its own.
  var groups: Int { get }
  /// The steps between windows, where they are not all one.
  var steps: [Int]? { get }
  /// How many channels an image must have for windows of that shape.
  func channels(_ windows: Shape) -> Dimension
}

extension ConvolutionOperation {
  /// Those of all parts.
  public func channels(_ windows: Shape) -> Dimension { windows[1] * .fixed(groups) }
}

/// A product of matrices, in which either factor may be what a layer has learned.
public protocol MatrixProductOperation: Operation {
  /// The operands that are multiplied.
  var factors: (left: Int, right: Int) { get }
  /// Whether the last axis of the right factor is summed over, not the one before.
  var transposesRight: Bool { get }
}

extension MatrixProductOperation {
  /// The first two operands.
  public var factors: (left: Int, right: Int) { (0, 1) }
  /// As matrices are written.
  public var transposesRight: Bool { false }
}
