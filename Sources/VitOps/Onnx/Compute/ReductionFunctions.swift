internal import VitIR
internal import VitRuntime

enum ReduceSumFunction: ReductionFunction {
  static let (name, summary) = ("onnx.ReduceSum", "The sum over some axes")
  static let kind = ReductionKind.sum
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { 1 }
  static var dimension: ((Dimension, Dimension) -> Dimension?)? { { $0 + $1 } }
}

enum ReduceMeanFunction: ReductionFunction {
  static let (name, summary) = ("onnx.ReduceMean", "The mean over some axes")
  static let kind = ReductionKind.mean
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { 1 / T(count) }
  static func finishWhole<T: FixedWidthInteger>(_ x: T, _ count: Int) -> T {
    count == 0 ? 0 : T(truncatingIfNeeded: Int64(x) / Int64(count))
  }
}

enum ReduceProdFunction: ReductionFunction {
  static let (name, summary) = ("onnx.ReduceProd", "The product over some axes")
  static let kind = ReductionKind.product
  static let survey = ReductionSurvey.zeros
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { y / x }
  static func initialWhole<T: FixedWidthInteger>(_ type: T.Type) -> T { 1 }
  static func joinWhole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a &* b }
  static var dimension: ((Dimension, Dimension) -> Dimension?)? { { $0 * $1 } }
}

enum ReduceMaxFunction: ReductionFunction {
  static let kind = ReductionKind.max
  static let (name, summary) = (
    "onnx.ReduceMax", "The largest element over some axes; NaN where there is one"
  )
  static let elements = ElementType.numbers + [.bool]
  static let survey = ReductionSurvey.ties
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { x == y ? 1 : 0 }
  static func initialWhole<T: FixedWidthInteger>(_ type: T.Type) -> T { T.min }
  static func joinWhole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a > b ? a : b }
  static var dimension: ((Dimension, Dimension) -> Dimension?)? { MaxFunction.dimension }
}

enum ReduceMinFunction: ReductionFunction {
  static let kind = ReductionKind.min
  static let (name, summary) = (
    "onnx.ReduceMin", "The smallest element over some axes; NaN where there is one"
  )
  static let elements = ElementType.numbers + [.bool]
  static let survey = ReductionSurvey.ties
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { x == y ? 1 : 0 }
  static func initialWhole<T: FixedWidthInteger>(_ type: T.Type) -> T { T.max }
  static func joinWhole<T: FixedWidthInteger>(_ a: T, _ b: T) -> T { a < b ? a : b }
  static var dimension: ((Dimension, Dimension) -> Dimension?)? { MinFunction.dimension }
}

enum ReduceSumSquareFunction: ReductionFunction {
  static let (name, summary) = ("onnx.ReduceSumSquare", "The sum of squares over some axes")
  static let kind = ReductionKind.sumOfSquares
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { 2 * x }
  static func termWhole<T: FixedWidthInteger>(_ x: T) -> T { x &* x }
}

enum ReduceL1Function: ReductionFunction {
  static let (name, summary) = ("onnx.ReduceL1", "The sum of absolute values over some axes")
  static let kind = ReductionKind.l1
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { x > 0 ? 1 : x < 0 ? -1 : 0 }
  static func termWhole<T: FixedWidthInteger>(_ x: T) -> T { x < 0 ? 0 &- x : x }
}

enum ReduceL2Function: ReductionFunction {
  static let (name, summary) = ("onnx.ReduceL2", "The square root of the sum of squares over some axes")
  static let kind = ReductionKind.l2
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { y == 0 ? 0 : x / y }
  static func termWhole<T: FixedWidthInteger>(_ x: T) -> T { x &* x }
  static func finishWhole<T: FixedWidthInteger>(_ x: T, _ count: Int) -> T {
    T(exactly: Double(x).squareRoot().rounded(.towardZero)) ?? 0
  }
}

enum ReduceLogSumFunction: ReductionFunction {
  static let (name, summary) = ("onnx.ReduceLogSum", "The logarithm of the sum over some axes")
  static let kind = ReductionKind.sum
  static let isLogarithm = true
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { T.exp(-y) }
  static func finishWhole<T: FixedWidthInteger>(_ x: T, _ count: Int) -> T { wholeLog(x) }
}

enum ReduceLogSumExpFunction: ReductionFunction {
  static let kind = ReductionKind.logSumExp
  static let (name, summary) = (
    "onnx.ReduceLogSumExp", "The logarithm of the sum of exponentials over some axes"
  )
  static let elements = ElementType.reals
  static func slope<T: Real>(_ x: T, _ y: T, _ count: Int) -> T { T.exp(x - y) }
}

/// The logarithm cut off to a whole number, kept in range.
private func wholeLog<T: FixedWidthInteger>(_ x: T) -> T {
  let value = Double.log(Double(x)).rounded(.towardZero)
  return T(exactly: value) ?? (value < 0 ? T.min : 0)
}
