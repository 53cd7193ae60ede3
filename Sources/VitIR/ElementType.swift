/// The type of one element of a tensor.
///
/// Values that are computed have the types `f32` (or `f64`, for gradient checks), `i64`, `i32`, `i8`, `u8` and
/// `bool`; the narrower floats are storage types, widened when a tensor is loaded. Tensors alone have the last three, whole numbers with
/// scales (`QuantisedRows`): `q8`, of 8 bits, in which products are computed; and `w8` and `w4`, of 8 and 4, how weights are stored
/// that are computed with as the floats that they stand for.
public enum ElementType: String, CaseIterable, Hashable, Sendable {
  case f32, f64, f16, bf16, q8, w8, w4
  case i64, i32, i16, i8
  case u64, u32, u16, u8
  case bool

  /// Bytes of one element in memory; `bool` takes one. Whole numbers with scales take what `byteCount(of:)` says.
  public var size: Int {
    switch self {
    case .f64, .i64, .u64: 8
    case .f32, .i32, .u32: 4
    case .f16, .bf16, .i16, .u16: 2
    case .q8, .w8, .w4, .i8, .u8, .bool: 1
    }
  }

  /// The type in which values of this type are computed: narrow floats as `f32`, the rarer integers as `i64`.
  public var computed: ElementType {
    switch self {
    case .f16, .bf16, .q8, .w8, .w4: .f32
    case .i16, .u16, .u32, .u64: .i64
    default: self
    }
  }

  /// Whether it is a floating-point type.
  public var isFloat: Bool {
    switch self {
    case .f32, .f64, .f16, .bf16, .q8, .w8, .w4: true
    default: false
    }
  }

  /// The bytes of a tensor with that shape.
  public func byteCount(of shape: [Int]) -> Int {
    QuantisedRows(self, shape: shape)?.byteCount ?? shape.reduce(1, *) * size
  }

  /// Whether it is whole numbers with scales.
  public var isQuantised: Bool { self == .q8 || self == .w8 || self == .w4 }

  /// Whether it is a whole-number type (`bool` is none).
  public var isInteger: Bool { !isFloat && self != .bool }
}
