/// The type of one element of a tensor.
///
/// Values that are computed have the types `f32` (or `f64`, for gradient checks), `i64`, `i32`, `i8`, `u8` and
/// `bool`; the narrower floats are storage types, widened when a tensor is loaded. `q8` is one of tensors alone: whole numbers
/// of 8 bits, with a scale for each row of the last axis (`QuantisedRows`).
public enum ElementType: String, CaseIterable, Hashable, Sendable {
  case f32, f64, f16, bf16, q8
  case i64, i32, i16, i8
  case u64, u32, u16, u8
  case bool

  /// Bytes of one element in memory; `bool` takes one. The scales of `q8` come on top: see `byteCount(of:)`.
  public var size: Int {
    switch self {
    case .f64, .i64, .u64: 8
    case .f32, .i32, .u32: 4
    case .f16, .bf16, .i16, .u16: 2
    case .q8, .i8, .u8, .bool: 1
    }
  }

  /// The type in which values of this type are computed: narrow floats as `f32`, the rarer integers as `i64`.
  public var computed: ElementType {
    switch self {
    case .f16, .bf16, .q8: .f32
    case .i16, .u16, .u32, .u64: .i64
    default: self
    }
  }

  /// Whether it is a floating-point type.
  public var isFloat: Bool {
    switch self {
    case .f32, .f64, .f16, .bf16, .q8: true
    default: false
    }
  }

  /// The bytes of a tensor with that shape.
  public func byteCount(of shape: [Int]) -> Int {
    let count = shape.reduce(1, *)
    return self == .q8 ? count + 4 * shape.dropLast().reduce(1, *) : count * size
  }

  /// Whether it is a whole-number type (`bool` is none).
  public var isInteger: Bool { !isFloat && self != .bool }
}
