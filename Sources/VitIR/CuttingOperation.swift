/// An operation each of whose results is a range of entries of operand 0 along an axis, and which can cut other ranges.
public protocol CuttingOperation: MovementOperation {
  /// How to cut `ranges`, one for each result, out of an axis in place of those that it cuts now; `nil` where that axis is not cut,
  /// or what says so is not known.
  func cutting(_ ranges: [Range<Int>], along axis: Int, of operands: Operands) throws(VitError) -> Cutting?
}

/// What cuts certain ranges out of an axis.
public struct Cutting: Sendable {
  /// The operation.
  public var operation: any Operation
  /// The whole numbers that operands must hold for it, by operand; the others stay.
  public var numbers: [(operand: Int, values: [Int])]

  /// An operation and what its operands must hold.
  public init(_ operation: any Operation, numbers: [(operand: Int, values: [Int])] = []) {
    self.operation = operation
    self.numbers = numbers
  }
}
