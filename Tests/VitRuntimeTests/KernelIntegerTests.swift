import Testing
internal import VitIR
internal import VitRuntime

@Suite struct KernelIntegerTests {
  /// Bytes of a test.
  final class Bytes {
    let view: View
    let values: [Int]
    init(_ element: ElementType, _ shape: [Int], seed: UInt64) {
      let count = shape.reduce(1, *)
      var random = SplitMix(seed: seed)
      view = View(base: .allocate(byteCount: max(1, count), alignment: 64), element: element, shape: shape)
      var values: [Int] = []
      for index in 0..<count {
        let byte = UInt8(truncatingIfNeeded: random.next())
        view.pointer(as: UInt8.self)[index] = byte
        values.append(element == .i8 ? Int(Int8(bitPattern: byte)) : Int(byte))
      }
      self.values = values
    }
    deinit { view.base.deallocate() }
  }

  @Test("a product of bytes is exact for every signedness and kind of zero point", arguments: Variant.all)
  func products(variant: Variant) {
    variant.run {
      for (m, n, k) in [(1, 1, 1), (3, 5, 7), (2, 32, 9), (17, 70, 40), (4, 3, 0), (0, 2, 2)] {
        for (left, right) in [(ElementType.u8, ElementType.i8), (.i8, .u8), (.u8, .u8), (.i8, .i8)] {
          for (batch, shared) in [(1, false), (3, true), (2, false)] {
            let a = Bytes(left, [batch, m, k], seed: 1)
            let b = Bytes(right, shared ? [k, n] : [batch, k, n], seed: 2)
            let aZero = Bytes(left, [batch == 2 ? m : 1], seed: 3)
            let bZero = Bytes(right, [batch == 2 ? 1 : n], seed: 4)
            let c = View(
              base: .allocate(byteCount: max(1, 4 * batch * m * n), alignment: 64), element: .i32,
              shape: [batch, m, n])
            defer { c.base.deallocate() }
            Kernel.gemmBytes(
              m: m, n: n, k: k, a: a.view, aZero: aZero.view, b: b.view, bZero: bZero.view, c: c,
              pool: SerialPool())
            var equal = true
            for item in 0..<batch {
              for i in 0..<m {
                for j in 0..<n {
                  let sum = (0..<k).reduce(0) {
                    let x = a.values[(item * m + i) * k + $1] - aZero.values[i % aZero.values.count]
                    let y =
                      b.values[((shared ? 0 : item) * k + $1) * n + j] - bZero.values[j % bZero.values.count]
                    return $0 + x * y
                  }
                  equal = equal && Int(c.pointer(as: Int32.self)[(item * m + i) * n + j]) == sum
                }
              }
            }
            #expect(equal, "\(m)×\(n)×\(k) \(left) \(right)")
          }
        }
      }
    }
  }

  @Test(
    "quantising rounds halves to even, cuts to the range, and is undone up to half a step",
    arguments: Variant.all)
  func quantisation(variant: Variant) {
    variant.run {
      let inputs: [Double] = [0, 0.25, 0.75, 1.25, -0.25, -1, 1000, -1000, .infinity, -.infinity, .nan]
      let x = Buffer(variant.element, [inputs.count]) { inputs[$0] }
      let scale = Buffer(variant.element, [1]) { _ in 0.5 }
      for (element, zero, expected) in [
        (ElementType.u8, UInt8(10), [10, 10, 12, 12, 10, 8, 255, 0, 255, 0, 10]),
        (.i8, UInt8(bitPattern: -3), [-3, -3, -1, -1, -3, -5, 127, -128, 127, -128, -3]),
      ] {
        let offset = Bytes(element, [1], seed: 1)
        offset.view.pointer(as: UInt8.self)[0] = zero
        let y = Bytes(element, [inputs.count], seed: 2)
        Kernel.quantise(x.view, scale: scale.view, zero: offset.view, into: y.view, pool: SerialPool())
        let found = (0..<inputs.count).map { index in
          element == .i8
            ? Int(y.view.pointer(as: Int8.self)[index]) : Int(y.view.pointer(as: UInt8.self)[index])
        }
        #expect(found == expected)
        let back = Buffer(variant.element, [inputs.count])
        Kernel.dequantise(y.view, scale: scale.view, zero: offset.view, into: back.view, pool: SerialPool())
        for index in 0..<6 { #expect(abs(back[index] - inputs[index]) <= 0.25) }
      }
    }
  }

  @Test("scales along an axis apply to their own slices")
  func axis() {
    let x = Buffer(.f32, [2, 3, 50]) { Double($0 / 50 % 3) * 4 }
    let scale = Buffer(.f32, [3]) { Double($0 + 1) }
    let y = Bytes(.i8, [2, 3, 50], seed: 1)
    Kernel.quantise(x.view, scale: scale.view, axis: 1, into: y.view, pool: SerialPool())
    let rows = [0, 2, 3]  // 0/1, 4/2, 8/3
    #expect((0..<300).allSatisfy { Int(y.view.pointer(as: Int8.self)[$0]) == rows[$0 / 50 % 3] })
  }
}
