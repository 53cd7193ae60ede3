import Foundation
import VitIR
import VitTestSupport

/// Operands and ONNX Runtime's results of single operators, as tools/fixtures writes them.
struct OnnxFixture: Decodable, Sendable, CustomStringConvertible {
  let op: String
  let note: String
  let opset: Int
  let attributes: [String: FixtureAttribute]
  let grad: Bool
  let tol: Double
  let constants: [Int]
  let inputs: [FixtureTensor?]
  let outputs: [FixtureTensor]

  var description: String {
    let shapes = inputs.map { $0.map { "\($0.e)\($0.s)" } ?? "-" }.joined(separator: ", ")
    let list = attributes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.attribute)" }.joined(
      separator: " ")
    return "\(op)(\(shapes)) \(list) \(note)"
  }

  /// The cases of one file.
  static func load(_ name: String) -> [OnnxFixture] {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let url = root.appending(path: "golden/operators/\(name)")
    guard let data = try? Data(contentsOf: url) else { return [] }
    do { return try JSONDecoder().decode([OnnxFixture].self, from: data) } catch {
      preconditionFailure("\(name): \(error)")
    }
  }

  /// The case, with attributes as a decoder hands them over.
  func makeCase() throws -> OpCase {
    let list = attributes.sorted { $0.key < $1.key }.map { ($0.key, $0.value.attribute) }
    return try OpCase(
      op, list, inputs: inputs.map { $0?.tensor }, resultCount: outputs.count, opset: opset,
      constantOperands: Set(constants))
  }

  /// How far a run is from the reference, in units of its largest magnitude; infinite where shapes differ.
  func difference(_ results: [Tensor]) throws -> Double {
    guard results.count == outputs.count else { return .infinity }
    return try zip(results, outputs).reduce(0) { worst, pair in
      max(worst, try relativeDifference(pair.0, pair.1.tensor, floor: 1e-3))
    }
  }
}

/// One attribute as JSON has it.
enum FixtureAttribute: Decodable, Sendable {
  case value(Attribute)

  var attribute: Attribute { if case .value(let value) = self { value } else { .int(0) } }

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let value = try? container.decode(Int.self) {
      self = .value(.int(value))
    } else if let value = try? container.decode(Double.self) {
      self = .value(.float(value))
    } else if let value = try? container.decode([Int].self) {
      self = .value(.ints(value))
    } else if let value = try? container.decode([Double].self) {
      self = .value(.floats(value))
    } else if let value = try? container.decode([String].self) {
      self = .value(.strings(value))
    } else {
      self = .value(.string(try container.decode(String.self)))
    }
  }
}

/// One tensor: element type, shape, values; numbers that are none stand as text.
struct FixtureTensor: Decodable, Sendable {
  let e: String
  let s: [Int]
  let v: [Number]

  enum Number: Decodable, Sendable {
    case whole(Int)
    case real(Double)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let value = try? container.decode(Int.self) {
        self = .whole(value)
      } else if let value = try? container.decode(Double.self) {
        self = .real(value)
      } else {
        self = .real(Double(try container.decode(String.self)) ?? .nan)
      }
    }

    var double: Double {
      switch self {
      case .whole(let value): Double(value)
      case .real(let value): value
      }
    }
  }

  var tensor: Tensor {
    let element = ElementType(rawValue: e) ?? .f32
    let whole = v.compactMap { if case .whole(let value) = $0 { value } else { nil } }
    if element == .i64, whole.count == v.count { return Tensor(shape: s, integers: whole) }
    return Tensor(element, shape: s, values: v.map(\.double))
  }
}
