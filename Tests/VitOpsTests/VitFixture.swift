import Foundation
import Testing
import VitIR
import VitTestSupport

/// Reference results and gradients that PyTorch computed: see tools/fixtures/vit_fixture.py and those that use it.
struct VitFixture: Sendable, CustomTestStringConvertible {
  let name: String
  let operation: String
  let attributes: [(String, Attribute)]
  let operands: [Tensor?]
  let result: Tensor
  /// The gradient of the result that the gradients follow from.
  let upstream: Tensor
  let gradients: [Tensor?]

  var testDescription: String { name }

  /// All cases.
  static let all: [VitFixture] = {
    do { return try ["vit_operations", "lstm_full", "ssd", "taps"].flatMap(load) } catch {
      fatalError("the fixtures cannot be read: \(error)")
    }
  }()

  /// The cases of one operation.
  static func of(_ operation: String) -> [VitFixture] { all.filter { $0.operation == operation } }

  private struct Header: Decodable {
    let cases: [Entry]
  }

  private struct Entry: Decodable {
    let name: String
    let operation: String
    let attributes: [String: Value]
    let operands: [TensorEntry?]
    let result: TensorEntry
    let upstream: TensorEntry
    let gradients: [TensorEntry?]
  }

  private struct Value: Decodable {
    let attribute: Attribute

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let value = try? container.decode(Bool.self) {
        attribute = .bool(value)
      } else if let value = try? container.decode(Int.self) {
        attribute = .int(value)
      } else if let value = try? container.decode(Double.self) {
        attribute = .float(value)
      } else if let value = try? container.decode([Int].self) {
        attribute = .ints(value)
      } else {
        attribute = .string(try container.decode(String.self))
      }
    }
  }

  private struct TensorEntry: Decodable {
    let shape: [Int]
    let offset: Int

    init(from decoder: any Decoder) throws {
      var container = try decoder.unkeyedContainer()
      shape = try container.decode([Int].self)
      offset = try container.decode(Int.self)
    }
  }

  private static func load(_ name: String) throws -> [VitFixture] {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let file = root.appending(path: "golden/operators/\(name).bin")
    let data = try Data(contentsOf: file)
    guard let end = data.firstIndex(of: 10) else { throw VitError("the fixtures have no header") }
    let header = try JSONDecoder().decode(Header.self, from: data[..<end])
    let numbers = Data(data[(end + 1)...])
    func tensor(_ entry: TensorEntry) throws -> Tensor {
      let count = entry.shape.reduce(1, *)
      return try Tensor(.f64, shape: entry.shape) { buffer in
        numbers.copyBytes(to: buffer, from: entry.offset * 8..<(entry.offset + count) * 8)
      }
    }
    return try header.cases.map { entry in
      try VitFixture(
        name: entry.name, operation: entry.operation,
        attributes: entry.attributes.sorted { $0.key < $1.key }.map { ($0.key, $0.value.attribute) },
        operands: entry.operands.map { try $0.map(tensor) }, result: tensor(entry.result),
        upstream: tensor(entry.upstream),
        gradients: entry.gradients.map { try $0.map(tensor) })
    }
  }
}
