import FoundationEssentials
import VitIR
import VitRuntime
import VitTestSupport

/// Memory for a few views, alive as long as it is held.
final class Memory {
  private let bytes: UnsafeMutableRawBufferPointer
  private var used = 0

  init(byteCount: Int = 1 << 20) {
    bytes = .allocate(byteCount: byteCount, alignment: 64)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit { bytes.deallocate() }

  /// A view that holds these numbers.
  func view(_ values: [Double], shape: [Int]? = nil, element: ElementType = .f32) -> View {
    let view = View(
      base: bytes.baseAddress.map { $0 + used } ?? UnsafeMutableRawPointer(bitPattern: 64).unsafelyUnwrapped,
      element: element, shape: shape ?? [values.count])
    precondition(used + view.byteCount <= bytes.count)
    used += (max(view.byteCount, 1) + 63) / 64 * 64
    let buffer = UnsafeMutableRawBufferPointer(start: view.base, count: view.byteCount)
    for (index, value) in values.enumerated() { buffer.store(value, at: index, as: element) }
    return view
  }
}

extension View {
  /// The elements, whatever their type.
  var numbers: [Double] {
    let buffer = UnsafeRawBufferPointer(start: base, count: byteCount)
    return (0..<count).map { buffer.loadNumber(at: $0, as: element) }
  }
}

/// The largest difference of two lists over the larger of 1e-8 and the largest magnitude of the second.
func difference(_ a: [Double], _ b: [Double]) -> Double {
  guard a.count == b.count else { return .infinity }
  let scale = b.reduce(1e-8) { max($0, abs($1)) }
  return zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1) / scale) }
}

/// Reads `golden/train/NAME`.
func trainFixture<Value: Decodable>(_ name: String, as type: Value.Type = Value.self) throws -> Value {
  try JSONDecoder().decode(type, from: Data(Fixture.bytes("train/" + name)))
}
