import Testing
import VitIR
import VitOps
import VitTestSupport

/// Operands and attributes that an operation takes.
struct Problem {
  var inputs: [Tensor?]
  var attributes: [(String, Attribute)]
  var results: Int
  var opset: Int?
  /// The float operands that the type rule must know.
  var known: Set<Int> = []

  static func of(
    _ inputs: Tensor?..., attributes: KeyValuePairs<String, Attribute> = [:], results: Int = 1,
    opset: Int? = nil, known: Set<Int> = []
  ) -> Problem {
    Problem(
      inputs: inputs, attributes: attributes.map { ($0.key, $0.value) }, results: results, opset: opset,
      known: known)
  }
}

/// Random problems that one operation must solve at all sizes, and how exactly.
///
/// A line here for each operation that is registered puts it through every check of `OpMatrixTests`.
struct OpProblem: Sendable, CustomTestStringConvertible {
  let name: String
  /// The largest difference between single and double precision; `nil` where there is no form in double.
  let precision: Double?
  /// The largest difference between levels of the instruction set.
  let agreement: Double
  /// The results whose gradients are followed, `nil` for all: statistics beside them are constants to the gradient.
  let followed: Set<Int>?
  private let draw: @Sendable (inout Draw) throws -> Problem

  init(
    _ name: String, precision: Double? = 1e-5, agreement: Double = 1e-5, followed: Set<Int>? = nil,
    _ draw: @escaping @Sendable (inout Draw) throws -> Problem
  ) {
    self.name = name
    self.precision = precision
    self.agreement = agreement
    self.followed = followed
    self.draw = draw
  }

  var testDescription: String { name }

  /// The problem of these sizes.
  func makeCase(_ extents: Extents, constants: Bool = false) throws -> OpCase {
    var draw = Draw(extents, seed: name.unicodeScalars.reduce(7) { $0 &* 31 &+ UInt64($1.value) })
    let problem = try self.draw(&draw)
    return try OpCase(
      name, problem.attributes, inputs: problem.inputs, resultCount: problem.results, opset: problem.opset,
      constantOperands: constants ? Set(problem.inputs.indices.dropFirst()) : problem.known)
  }

  /// The problems of all operations.
  static let all: [OpProblem] =
    unary + binary + products + rows + movement + indexing + spatial + quantised + microsoft + vit + merging
}
