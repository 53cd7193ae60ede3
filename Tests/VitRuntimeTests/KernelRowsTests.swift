internal import Glibc
import Testing
internal import VitIR
internal import VitRuntime

@Suite struct KernelRowsTests {
  static let shapes = [(1, 1), (3, 7), (5, 16), (2, 33), (9, 197), (40, 50), (0, 4), (4, 256)]

  static func softmax(_ x: [Double]) -> [Double] {
    let top = x.max() ?? 0
    guard top > -.infinity else { return x.map { _ in 0 } }
    let e = x.map { exp($0 - top) }
    let sum = e.reduce(0, +)
    return e.map { $0 / sum }
  }

  static func byRow(_ values: [Double], _ width: Int, _ body: ([Double]) -> [Double]) -> [Double] {
    stride(from: 0, to: values.count, by: width).flatMap { body(Array(values[$0..<$0 + width])) }
  }

  @Test(
    "softmax, its logarithm and log-sum-exp are the ones in double, with and without a bias",
    arguments: Variant.all)
  func softmaxes(variant: Variant) {
    variant.run {
      for (rows, width) in Self.shapes {
        let x = Buffer(variant.element, [rows, width], seed: 1, scale: 4)
        for biasRows in [0, 1, rows] {
          let bias = biasRows == 0 ? nil : Buffer(variant.element, [biasRows, width], seed: 2, scale: 2)
          let sums = (0..<rows * width).map { index in
            0.3 * x[index] + (bias.map { $0[$0.view.count == 0 ? 0 : index % $0.view.count] } ?? 0)
          }
          let y = Buffer(variant.element, [rows, width])
          let lse = Buffer(variant.element, [rows])
          Kernel.softmax(
            x.view, scale: 0.3, bias: bias?.view, into: y.view, logSumExp: lse.view, pool: SerialPool())
          let expected = Self.byRow(sums, width, Self.softmax)
          #expect(error(y.values, expected) < variant.bound(2e-6, 1e-14))
          let logarithms = Self.byRow(sums, width) { row in
            let top = row.max() ?? 0
            let total = top + log(row.reduce(0) { $0 + exp($1 - top) })
            return row.map { $0 - total }
          }
          #expect(
            error(lse.values, (0..<rows).map { sums[$0 * width] - logarithms[$0 * width] })
              < variant.bound(2e-6, 1e-14))
          Kernel.logSoftmax(x.view, scale: 0.3, bias: bias?.view, into: y.view, pool: SerialPool())
          #expect(error(y.values, logarithms) < variant.bound(2e-6, 1e-14))
        }
      }
    }
  }

  @Test("a fully masked row becomes zeros, a masked key gets none, NaN stays NaN", arguments: Variant.all)
  func masks(variant: Variant) {
    variant.run {
      for width in [3, 16, 37] {
        let mask = Buffer(variant.element, [3, width]) { index in
          index < width ? -.infinity : index % width == 1 ? -.infinity : 0
        }
        let x = Buffer(variant.element, [3, width]) { $0 == 2 * width + 2 ? .nan : 1 }
        let lse = Buffer(variant.element, [3])
        Kernel.softmax(x.view, bias: mask.view, into: x.view, logSumExp: lse.view, pool: SerialPool())
        #expect(x.values[..<width].allSatisfy { $0 == 0 })
        #expect(lse[0] == -.infinity && lse[2].isNaN)
        #expect(x[width + 1] == 0 && abs(x[width] - 1 / Double(width - 1)) < 1e-6)
        #expect(x.values[(2 * width)...].enumerated().allSatisfy { $1.isNaN || $0 == 1 })
      }
    }
  }

  @Test(
    "the gradients of softmax and its logarithm are the formulas in double, added", arguments: Variant.all)
  func softmaxGradients(variant: Variant) {
    variant.run {
      for (rows, width) in Self.shapes {
        let x = Buffer(variant.element, [rows, width], seed: 3)
        let dy = Buffer(variant.element, [rows, width], seed: 4)
        let y = Buffer(variant.element, [rows, width])
        for logarithm in [false, true] {
          let dx = Buffer(variant.element, [rows, width]) { Double($0 % 3) }
          if logarithm {
            Kernel.logSoftmax(x.view, scale: 0.7, into: y.view, pool: SerialPool())
            Kernel.logSoftmaxGradient(y: y.view, dy: dy.view, scale: 0.7, adding: dx.view, pool: SerialPool())
          } else {
            Kernel.softmax(x.view, scale: 0.7, into: y.view, pool: SerialPool())
            Kernel.softmaxGradient(y: y.view, dy: dy.view, scale: 0.7, adding: dx.view, pool: SerialPool())
          }
          var expected = [Double](repeating: 0, count: rows * width)
          for row in 0..<rows {
            let range = row * width..<(row + 1) * width
            let sum = range.reduce(0) { $0 + (logarithm ? 1 : y[$1]) * dy[$1] }
            for i in range {
              let slope = logarithm ? dy[i] - exp(y[i]) * sum : y[i] * (dy[i] - sum)
              expected[i] = Double(i % 3) + 0.7 * slope
            }
          }
          #expect(error(dx.values, expected) < variant.bound(2e-6, 1e-14))
        }
      }
    }
  }

  @Test("layer norm and RMS norm are the formulas in double", arguments: Variant.all)
  func norms(variant: Variant) {
    variant.run {
      for (rows, width) in Self.shapes {
        for centred in [true, false] {
          let x = Buffer(variant.element, [rows, width], seed: 5, scale: 3)
          let gain = Buffer(variant.element, [width], seed: 6)
          let bias = Buffer(variant.element, [width], seed: 7)
          let y = Buffer(variant.element, [rows, width])
          let saved = Buffer(variant.element, [rows, 2])
          let norm = centred ? Kernel.layerNorm : Kernel.rmsNorm
          norm(x.view, gain.view, bias.view, 1e-5, y.view, saved.view, SerialPool())
          let normal = Self.byRow(x.values, width) { Self.normal($0, centred: centred) }
          let expected = normal.enumerated().map { $1 * gain[$0 % width] + bias[$0 % width] }
          #expect(error(y.values, expected) < variant.bound(2e-6, 1e-13))
        }
      }
    }
  }

  static func normal(_ row: [Double], centred: Bool) -> [Double] {
    let mean = centred ? row.reduce(0, +) / Double(row.count) : 0
    let square = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
    return row.map { ($0 - mean) / (square + 1e-5).squareRoot() }
  }

  @Test("the gradients of the norms are central differences", arguments: [true, false])
  func normGradients(centred: Bool) {
    for (rows, width) in [(3, 7), (2, 33), (70, 5)] {
      let x = Buffer(.f64, [rows, width], seed: 8)
      let gain = Buffer(.f64, [width], seed: 9)
      let dy = Buffer(.f64, [rows, width], seed: 10)
      func loss() -> Double {
        let normal = Self.byRow(x.values, width) { Self.normal($0, centred: centred) }
        return normal.enumerated().reduce(0) { $0 + $1.1 * gain[$1.0 % width] * dy[$1.0] }
      }
      let saved = Buffer(.f64, [rows, 2])
      let y = Buffer(.f64, [rows, width])
      let dx = Buffer(.f64, [rows, width]) { _ in 1 }
      let dgain = Buffer(.f64, [width]) { _ in 2 }
      let dbias = Buffer(.f64, [width]) { _ in 3 }
      let norm = centred ? Kernel.layerNorm : Kernel.rmsNorm
      norm(x.view, gain.view, nil, 1e-5, y.view, saved.view, SerialPool())
      let gradient = centred ? Kernel.layerNormGradient : Kernel.rmsNormGradient
      gradient(x.view, gain.view, saved.view, dy.view, dx.view, dgain.view, dbias.view, SerialPool())
      for (buffer, found, offset) in [(x, dx, 1.0), (gain, dgain, 2.0)] {
        for index in 0..<buffer.view.count {
          let (value, step) = (buffer[index], 1e-5)
          buffer[index] = value + step
          let above = loss()
          buffer[index] = value - step
          let below = loss()
          buffer[index] = value
          #expect(abs((above - below) / (2 * step) + offset - found[index]) < 1e-6)
        }
      }
      let sums = (0..<width).map { j in 3 + (0..<rows).reduce(0) { $0 + dy[$1 * width + j] } }
      #expect(error(dbias.values, sums) < 1e-13)
    }
  }

  @Test("f32 gradients of the norms are those in double at every level", arguments: Variant.all)
  func normGradientLevels(variant: Variant) {
    variant.run {
      let (rows, width) = (150, 77)
      func gradients(_ element: ElementType) -> [[Double]] {
        let x = Buffer(element, [rows, width], seed: 11)
        let gain = Buffer(element, [width], seed: 12)
        let dy = Buffer(element, [rows, width], seed: 13)
        let saved = Buffer(element, [rows, 2])
        let results = [[rows, width], [width], [width]].map { Buffer(element, $0) }
        Kernel.layerNorm(
          x.view, gain: gain.view, epsilon: 1e-6, into: results[0].view, saving: saved.view,
          pool: SerialPool())
        results[0].view.zero()
        Kernel.layerNormGradient(
          x.view, gain: gain.view, saved: saved.view, dy: dy.view, adding: results[0].view, results[1].view,
          results[2].view, pool: SerialPool())
        return results.map(\.values)
      }
      for (found, expected) in zip(gradients(variant.element), gradients(.f64)) {
        #expect(error(found, expected) < variant.bound(3e-6, 1e-15))
      }
    }
  }

  @Test("rows have the same bits for every number of workers")
  func workers() {
    let (rows, width) = (700, 197)
    let x = Buffer(.f32, [rows, width], seed: 14)
    let saved = Buffer(.f32, [rows, 2])
    withPools { pool in
      let results = [[rows, width], [rows, width], [rows, width], [width], [width]].map { Buffer(.f32, $0) }
      Kernel.softmax(x.view, into: results[0].view, pool: pool)
      Kernel.layerNorm(x.view, epsilon: 1e-6, into: results[1].view, saving: saved.view, pool: pool)
      Kernel.layerNormGradient(
        x.view, saved: saved.view, dy: results[0].view, adding: results[2].view, results[3].view,
        results[4].view, pool: pool)
      return results.flatMap(\.bits)
    }
  }
}
