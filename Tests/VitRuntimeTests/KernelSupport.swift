internal import CVitKernels
import Testing
internal import VitIR
internal import VitRuntime

/// Memory of a test, with random contents unless told otherwise.
final class Buffer {
  let view: View

  init(_ element: ElementType, _ shape: [Int], fill: (Int) -> Double = { _ in 0 }) {
    let count = shape.reduce(1, *)
    view = View(
      base: .allocate(byteCount: max(1, count * element.size), alignment: 64), element: element, shape: shape)
    if element == .f32 || element == .f64 { for index in 0..<count { self[index] = fill(index) } }
  }

  /// Normal numbers of deviation `scale`.
  convenience init(_ element: ElementType, _ shape: [Int], seed: UInt64, scale: Double = 1) {
    var random = SplitMix(seed: seed)
    self.init(element, shape) { _ in scale * random.normal() }
  }

  deinit { view.base.deallocate() }

  subscript(index: Int) -> Double {
    get { view.element == .f64 ? view.f64[index] : Double(view.f32[index]) }
    set { if view.element == .f64 { view.f64[index] = newValue } else { view.f32[index] = Float(newValue) } }
  }

  var values: [Double] { (0..<view.count).map { self[$0] } }

  var bits: [UInt8] { Array(UnsafeRawBufferPointer(start: view.base, count: view.byteCount)) }
}

/// A kernel variant under test.
struct Variant: CustomTestStringConvertible, Sendable {
  let element: ElementType
  let level: Int
  var testDescription: String { "\(element) at level \(level)" }

  /// f32 at every level that the machine has, and f64.
  static let all =
    (0...Int(vk_level())).map { Variant(element: .f32, level: $0) } + [Variant(element: .f64, level: 0)]

  /// `f32` or `f64`, whichever bound is for the type.
  func bound(_ f32: Double, _ f64: Double) -> Double { element == .f64 ? f64 : f32 }

  /// Runs `body` with this thread's level capped.
  func run(_ body: () throws -> Void) rethrows {
    vk_cap_thread_level(Int32(level))
    defer { vk_cap_thread_level(-1) }
    try body()
  }
}

/// The largest difference of sums beside what rounding explains: the rounding unit of the type for each of `terms` terms,
/// and a few for what comes after the sum, times the sum of the terms' sizes. At most 1 whatever the order of summation.
func sumError(_ found: [Double], _ expected: [Double], sizes: [Double], terms: Int, _ variant: Variant)
  -> Double
{
  guard found.count == expected.count, sizes.count == expected.count else { return .infinity }
  let unit = Double(terms + 16) * variant.bound(0x1p-24, 0x1p-53)
  var worst = 0.0
  for (index, (a, b)) in zip(found, expected).enumerated() where a != b {
    let share = abs(a - b) / (unit * sizes[index])
    worst = share.isNaN ? .infinity : max(worst, share)
  }
  return worst
}

/// The largest difference beside the scale of what was expected; infinite where the lengths or the NaN differ.
func error(_ found: [Double], _ expected: [Double]) -> Double {
  guard found.count == expected.count else { return .infinity }
  let scale = expected.reduce(1e-30) { $1.isFinite ? max($0, abs($1)) : $0 }
  var worst = 0.0
  for (a, b) in zip(found, expected) where a != b && !(a.isNaN && b.isNaN) {
    let difference = abs(a - b) / scale
    worst = difference.isNaN ? .infinity : max(worst, difference)
  }
  return worst
}

/// Results with a pool of one worker and of two, which must have the same bits.
func withPools(_ body: (any WorkPool) -> [UInt8]) {
  let one = body(SerialPool())
  #expect(body(ThreadPool(threads: 2)) == one)
  #expect(body(ThreadPool(threads: 3)) == one)
}
