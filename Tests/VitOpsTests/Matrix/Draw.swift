import Foundation
import VitIR
import VitTestSupport

/// The sizes that every operation must cope with.
enum Extents: String, CaseIterable {
  case oneRow, oneColumn, emptyBatch, odd, wide
}

/// Random sizes, numbers and choices of a problem, all decided by a seed.
struct Draw {
  let extents: Extents
  /// Images or sequences at once: none where the batch is empty.
  let batch: Int
  /// Tokens of a sequence, rows of a matrix, pixels of a column.
  let rows: Int
  /// Channels of a token, columns of a matrix, pixels of a row: more than a vector has lanes where `extents` is wide.
  let columns: Int
  private var random: SplitMix

  init(_ extents: Extents, seed: UInt64) {
    var random = SplitMix(seed: seed).split(extents.rawValue)
    func odd(_ range: ClosedRange<Int>) -> Int {
      (range.lowerBound + random.below(range.count)) | 1
    }
    self.extents = extents
    batch = extents == .emptyBatch ? 0 : extents == .wide || extents == .oneRow ? 1 : 2 + random.below(2)
    rows = extents == .oneRow ? 1 : odd(3...7)
    columns = extents == .oneColumn ? 1 : extents == .wide ? odd(33...69) : odd(3...13)
    self.random = random
  }

  /// `[batch, rows, columns]`.
  var shape: [Int] { [batch, rows, columns] }

  mutating func below(_ bound: Int) -> Int { random.below(bound) }
  mutating func flip() -> Bool { random.below(2) == 0 }
  mutating func pick<Choice>(_ choices: [Choice]) -> Choice { choices[random.below(choices.count)] }

  /// Normal numbers.
  mutating func normal(_ shape: [Int], scale: Double = 1) -> Tensor {
    tensor(.f32, shape) { $0.normal() * scale }
  }

  /// Evenly distributed numbers.
  mutating func uniform(_ shape: [Int], _ range: ClosedRange<Double>) -> Tensor {
    tensor(.f32, shape) { range.lowerBound + $0.uniform() * (range.upperBound - range.lowerBound) }
  }

  /// Whole numbers.
  mutating func whole(_ shape: [Int], _ range: ClosedRange<Int>, _ element: ElementType = .i64) -> Tensor {
    tensor(element, shape) { Double(range.lowerBound + $0.below(range.count)) }
  }

  /// Logarithms of whole numbers.
  mutating func logarithms(_ shape: [Int], _ range: ClosedRange<Int>) -> Tensor {
    tensor(.f32, shape) { Foundation.log(Double(range.lowerBound + $0.below(range.count))) }
  }

  /// True or false.
  mutating func bools(_ shape: [Int]) -> Tensor { whole(shape, 0...1, .bool) }

  /// A shape that broadcasts to `shape` as operand two: the same, the last axes alone, one column, one number.
  mutating func broadcasting(to shape: [Int]) -> [Int] {
    switch random.below(4) {
    case 0: shape
    case 1: Array(shape.suffix(1))
    case 2: Array(shape.suffix(2).dropLast()) + [1]
    default: []
    }
  }

  private mutating func tensor(_ element: ElementType, _ shape: [Int], _ next: (inout SplitMix) -> Double)
    -> Tensor
  {
    let values = (0..<shape.reduce(1, *)).map { _ in next(&random) }
    return Tensor(element, shape: shape, values: values)
  }
}

extension Tensor {
  /// One number.
  static func scalar(_ value: Double, _ element: ElementType = .f32) -> Tensor {
    Tensor(element, shape: [], values: [value])
  }

  /// Whole numbers in a row.
  static func list(_ values: [Int]) -> Tensor { Tensor(shape: [values.count], integers: values) }
}
