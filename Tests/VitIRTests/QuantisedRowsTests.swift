import Testing
import VitIR
import VitTestSupport

@Suite("Whole numbers with scales")
struct QuantisedRowsTests {
  private func numbers(_ count: Int, seed: UInt64 = 3) -> [Float] {
    var random = SplitMix(seed: seed)
    return (0..<count).map { _ in Float(random.normal()) }
  }

  @Test(
    "what is stored is as near as its bits allow, whatever the shape, and takes the bytes that its type says",
    arguments: [[1, 1], [3, 5], [4, 31], [2, 32], [5, 33], [3, 64], [2, 3, 70], [7]])
  func near(_ shape: [Int]) throws {
    let count = shape.reduce(1, *)
    let (rows, columns) = (count / (shape.last ?? 1), shape.last ?? 1)
    let values = numbers(count)
    let whole = Tensor(shape: shape, floats: values)
    for (element, steps) in [(ElementType.w8, 127.0), (.q8, 127), (.w4, 7)] {
      let tensor = try #require(try whole.quantised(to: element))
      let scales = element == .w4 ? (columns + 31) / 32 : 1
      let bytes = element == .w4 ? (columns + 1) / 2 : columns
      #expect(element.byteCount(of: shape) == rows * (4 * scales + bytes))
      #expect(tensor.element == element && tensor.storage.byteCount == element.byteCount(of: shape))
      let found = try tensor.floats()
      #expect(try tensor.doubles().map(Float.init) == found)
      #expect(try tensor.reshaped([count]).floats() == found)
      let group = element == .w4 ? 32 : columns
      for row in 0..<rows {
        for start in stride(from: 0, to: columns, by: group) {
          let places = row * columns + start..<row * columns + min(columns, start + group)
          let most = places.map { values[$0].magnitude }.max() ?? 0
          for place in places {
            // Half a step, and what a scale rounded to 8 bits makes of the greatest number.
            #expect(
              (found[place] - values[place]).magnitude <= most * Float(0.9 / steps), "\(element) \(place)")
          }
        }
      }
      // What is stored once is stored again as it is, up to the scale's own choice.
      let again = try #require(try Tensor(shape: shape, floats: found).quantised(to: element)).floats()
      for (a, b) in zip(again, found) { #expect((a - b).magnitude <= 0.02 * b.magnitude) }
    }
  }

  @Test("the scale of four bits is no worse than that of the greatest number, and mostly better")
  func fitted() {
    var better = 0
    for seed in 0..<50 {
      let values = numbers(32, seed: UInt64(seed))
      let weights = numbers(32, seed: 99 + UInt64(seed)).map { $0 * $0 }
      func error(_ scale: Float) -> Float {
        zip(values, weights).reduce(0) { sum, pair in
          let left = pair.0 - scale * min(max((pair.0 / scale).rounded(.toNearestOrEven), -8), 7)
          return sum + pair.1 * left * left
        }
      }
      let plain = (values.map(\.magnitude).max() ?? 0) / 7
      let best = GroupScale.best(values[...], weights: weights)
      #expect(error(best) <= error(plain) * 1.02)
      #expect(best.bitPattern & 0xffff == 0)
      if error(best) < 0.8 * error(plain) { better += 1 }
    }
    #expect(better > 25)
    #expect(GroupScale.best([0, 0, 0]) == 0 && GroupScale.best([]) == 0)
    #expect(GroupScale.best([.leastNonzeroMagnitude, 0]) == 0)
    // −8 is one more than 7: a number alone is met exactly by a power of two, of either sign.
    for value in [Float(8), -8] {
      let scale = GroupScale.best([value, 0, 0])
      #expect(scale * (value / scale).rounded() == value)
    }
  }

  @Test("what is no number is not stored so, and bytes of another count are refused") func refused() throws {
    for element in [ElementType.w8, .w4] {
      #expect(try Tensor(shape: [1, 2], floats: [1, .nan]).quantised(to: element) == nil)
      let tensor = try #require(try Tensor(shape: [2, 33], floats: numbers(66)).quantised(to: element))
      #expect(throws: VitError.self) {
        try Tensor(element: element, shape: [2, 36], storage: tensor.storage)
      }
      #expect(try tensor.transposed().floats() == tensor.dequantised.transposed().floats())
      #expect(try tensor.selecting([1]).floats() == Array(tensor.floats()[33...]))
    }
    #expect(try Tensor(shape: [2], floats: [1, 2]).quantised(to: .f16) == nil)
  }
}
