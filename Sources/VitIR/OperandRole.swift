/// What an operation uses an operand for: whether a constant there is learned, and how it may be treated.
public enum OperandRole: Int, Hashable, Sendable, CaseIterable {
  /// What the operation works on; a constant there is a learned table: positions, a class token.
  case data
  /// A factor of products: a matrix, a convolution's windows.
  case weight
  /// Added to each result.
  case bias
  /// A factor of each channel.
  case gain
  /// A mean or variance of what was seen in training, which is measured and not learned.
  case statistic
  /// What goes into a softmax.
  case scores
  /// Added to scores or subtracted from them, or choosing among them: a learned table where it hides nothing, else
  /// a mask.
  case mask
  /// The extents of the result.
  case shape
  /// Only its type is read, none of its numbers.
  case form
  /// Says which entries are read or written.
  case index
  /// The step and zero point of quantised numbers.
  case quantisation
  /// A number of the formula: axes, pads, limits, the cosines and sines of rotary positions.
  case setting

  /// Whether a constant in that role is what training changes; of a `mask` its numbers decide.
  public var isLearned: Bool {
    switch self {
    case .data, .weight, .bias, .gain, .scores: true
    case .statistic, .mask, .shape, .form, .index, .quantisation, .setting: false
    }
  }
}

/// The roles that a value plays, all its readers together.
public struct OperandRoles: OptionSet, Hashable, Sendable {
  /// One bit a role.
  public let rawValue: Int

  /// Roles of these bits.
  public init(rawValue: Int) { self.rawValue = rawValue }

  /// One role.
  public init(_ role: OperandRole) { rawValue = 1 << role.rawValue }

  /// The roles that training changes.
  public static let learned = OperandRoles(
    OperandRole.allCases.filter(\.isLearned).map { OperandRoles($0) })

  /// Whether `role` is among them.
  public func contains(_ role: OperandRole) -> Bool { contains(OperandRoles(role)) }
}
