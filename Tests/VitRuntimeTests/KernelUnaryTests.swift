internal import Glibc
import Testing
internal import VitIR
internal import VitRuntime

@Suite struct KernelUnaryTests {
  static func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
  static func softplus(_ x: Double) -> Double { x > 20 ? x : log1p(exp(x)) }
  static func swish(_ x: Double, _ a: Double) -> Double { x * sigmoid(a * x) }

  /// Each kind, its value in double, and the magnitude of operands it is tried at.
  static let kinds: [(UnaryKind, @Sendable (Double) -> Double, Double)] = [
    (.identity, { $0 }, 3), (.exp, { exp($0) }, 3), (.log, { log($0) }, 3), (.sqrt, { $0.squareRoot() }, 3),
    (.reciprocal, { 1 / $0 }, 3), (.negate, { -$0 }, 3), (.abs, { abs($0) }, 3), (.square, { $0 * $0 }, 3),
    (.erf, { erf($0) }, 2), (.tanh, { tanh($0) }, 3), (.sigmoid, { sigmoid($0) }, 5),
    (.silu, { swish($0, 1) }, 5), (.relu, { max($0, 0) }, 3),
    (.leakyRelu(slope: 0.1), { $0 < 0 ? 0.1 * $0 : $0 }, 3),
    (.gelu, { 0.5 * $0 * erfc(-$0 / 2.0.squareRoot()) }, 3),
    (.geluTanh, { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }, 3),
    (.quickGelu(alpha: 1.702), { swish($0, 1.702) }, 3),
    (.hardSigmoid(alpha: 0.2, beta: 0.5), { min(max(0.2 * $0 + 0.5, 0), 1) }, 5),
    (.hardSwish, { $0 * min(max($0 / 6 + 0.5, 0), 1) }, 5),
    (.elu(alpha: 1.67, scale: 1.05), { 1.05 * ($0 < 0 ? 1.67 * expm1($0) : $0) }, 2),
    (.celu(alpha: 2), { $0 < 0 ? 2 * expm1($0 / 2) : $0 }, 2), (.softplus, { softplus($0) }, 9),
    (.softsign, { $0 / (1 + abs($0)) }, 3), (.mish, { $0 * tanh(softplus($0)) }, 5),
    (.thresholdedRelu(threshold: 0.7), { $0 > 0.7 ? $0 : 0 }, 3),
    (.clip(low: -0.5, high: 1.5), { min(max($0, -0.5), 1.5) }, 3),
    (.affine(scale: 2.5, offset: -1), { 2.5 * $0 - 1 }, 3), (.sin, { sin($0) }, 9), (.cos, { cos($0) }, 9),
    (.tan, { tan($0) }, 0.5), (.floor, { floor($0) }, 9), (.ceil, { ceil($0) }, 9),
    (.round, { $0.rounded(.toNearestOrEven) }, 9), (.sign, { $0 > 0 ? 1 : $0 < 0 ? -1 : 0 }, 3),
  ]

  static func operands(_ kind: UnaryKind, _ element: ElementType, _ count: Int, _ scale: Double) -> Buffer {
    let x = Buffer(element, [count], seed: 1, scale: scale)
    switch kind {
    case .log, .sqrt, .reciprocal: for index in 0..<count { x[index] = abs(x[index]) + 0.1 }
    default: break
    }
    return x
  }

  @Test("each function is the one in double, at every level and odd length", arguments: Variant.all)
  func values(variant: Variant) {
    variant.run {
      for (kind, reference, scale) in Self.kinds {
        for count in [0, 1, 15, 16, 17, 300] {
          let x = Self.operands(kind, variant.element, count, scale)
          let y = Buffer(variant.element, [count])
          Kernel.unary(kind, x.view, into: y.view, pool: SerialPool())
          let found = error(y.values, x.values.map(reference))
          #expect(found < variant.bound(4e-7, 1e-14), "\(kind), \(count) elements")
        }
      }
    }
  }

  @Test("each gradient is the central difference, added, at every level", arguments: Variant.all)
  func gradients(variant: Variant) {
    variant.run {
      for (kind, reference, scale) in Self.kinds {
        let count = 77
        let x = Self.operands(kind, variant.element, count, scale)
        let y = Buffer(variant.element, [count])
        let dy = Buffer(variant.element, [count], seed: 2)
        let dx = Buffer(variant.element, [count]) { _ in 1 }
        Kernel.unary(kind, x.view, into: y.view, pool: SerialPool())
        Kernel.unaryGradient(kind, x: x.view, y: y.view, dy: dy.view, adding: dx.view, pool: SerialPool())
        let expected = (0..<count).map { index in
          let slope = (reference(x[index] + 1e-6) - reference(x[index] - 1e-6)) / 2e-6
          return 1 + dy[index] * slope
        }
        #expect(error(dx.values, expected) < variant.bound(2e-6, 1e-8), "\(kind)")
      }
    }
  }

  @Test("f32 exp, log, erf and tanh are within a few ulp over their whole range", arguments: Variant.all)
  func ulps(variant: Variant) {
    guard variant.element == .f32 else { return }
    func worst(_ kind: UnaryKind, _ range: ClosedRange<Double>, _ reference: (Double) -> Double) -> Double {
      let count = 40001
      let x = Buffer(.f32, [count]) {
        range.lowerBound + (range.upperBound - range.lowerBound) * Double($0) / 40000
      }
      let y = Buffer(.f32, [count])
      variant.run { Kernel.unary(kind, x.view, into: y.view, pool: SerialPool()) }
      return (0..<count).reduce(0) { worst, index in
        let expected = reference(x[index])
        guard expected != 0 else { return max(worst, y[index] == 0 ? 0 : .infinity) }
        let ulp = Double(max(Float(abs(expected)).ulp, .leastNonzeroMagnitude))
        return max(worst, abs(y[index] - expected) / ulp)
      }
    }
    #expect(worst(.exp, -104...88.72) { exp($0) } <= 2)
    #expect(worst(.exp, -1...1) { exp($0) } <= 1.5)
    #expect(worst(.log, 1e-3...4) { log($0) } <= 2)
    #expect(worst(.log, 1e-38...1e38) { log($0) } <= 2)
    #expect(worst(.log, 1e-44...1e-38) { log($0) } <= 2)
    #expect(worst(.erf, -4.5...4.5) { erf($0) } <= 2)
    #expect(worst(.tanh, -10...10) { tanh($0) } <= 3)
    #expect(worst(.sigmoid, -80...80) { Self.sigmoid($0) } <= 4)
  }

  @Test("infinities, NaN and signed zeros come out as in libm", arguments: Variant.all)
  func specials(variant: Variant) {
    let inputs = [Double.infinity, -.infinity, .nan, 0, -0.0, 1000, -1000]
    let expected: [(UnaryKind, [Double])] = [
      (.exp, [.infinity, 0, .nan, 1, 1, .infinity, 0]),
      (.log, [.infinity, .nan, .nan, -.infinity, -.infinity, log(1000), .nan]),
      (.tanh, [1, -1, .nan, 0, 0, 1, -1]), (.erf, [1, -1, .nan, 0, 0, 1, -1]),
      (.sigmoid, [1, 0, .nan, 0.5, 0.5, 1, 0]), (.relu, [.infinity, 0, .nan, 0, 0, 1000, 0]),
      (.softplus, [.infinity, 0, .nan, log(2), log(2), 1000, 0]), (.sign, [1, -1, .nan, 0, 0, 1, -1]),
    ]
    variant.run {
      for (kind, results) in expected {
        let x = Buffer(variant.element, [inputs.count]) { inputs[$0] }
        Kernel.unary(kind, x.view, into: x.view, pool: SerialPool())
        #expect(error(x.values, results) < 1e-6, "\(kind): \(x.values)")
      }
      let half = Buffer(variant.element, [6]) { [0.5, 1.5, 2.5, -0.5, -1.5, -2.5][$0] }
      Kernel.unary(.round, half.view, into: half.view, pool: SerialPool())
      #expect(half.values == [0, 2, 2, 0, -2, -2])
    }
  }
}
