internal import CVitKernels
internal import Glibc
import Testing
internal import VitIR
internal import VitRuntime

@Suite struct KernelBroadcastTests {
  /// Result shape, and two shapes that broadcast to it.
  static let shapes: [([Int], [Int], [Int])] = [
    ([5], [5], [5]), ([], [], []), ([3, 17], [3, 17], [17]), ([3, 17], [3, 1], [17]),
    ([4, 1, 6], [1, 1], [4, 1, 6]),
    ([2, 3, 20], [2, 1, 20], [3, 1]), ([2, 3, 4, 5], [3, 1, 5], [2, 1, 4, 1]), ([0, 3], [1, 3], [0, 3]),
    ([1, 1], [1], [1, 1]), ([40, 33], [40, 1], [1]), ([2, 5, 1, 3], [5, 1, 1], [2, 1, 1, 3]),
  ]

  /// The element of an operand of `shape` at `index` of a result of `full`.
  static func source(_ index: Int, _ full: [Int], _ shape: [Int]) -> Int {
    var (rest, offset, step) = (index, 0, 1)
    for axis in (0..<full.count).reversed() {
      let position = rest % full[axis]
      rest /= full[axis]
      let own = axis - (full.count - shape.count)
      guard own >= 0 else { continue }
      offset += shape[own] == 1 ? 0 : position * step
      step *= shape[own]
    }
    return offset
  }

  static func apply(_ kind: BinaryKind, _ a: Double, _ b: Double) -> Double {
    switch kind {
    case .add: a + b
    case .subtract: a - b
    case .multiply: a * b
    case .divide: a / b
    case .power: pow(a, b)
    case .maximum: max(a, b)
    case .minimum: min(a, b)
    }
  }

  @Test("each function broadcasts as in NumPy, at every level", arguments: Variant.all)
  func values(variant: Variant) {
    variant.run {
      for kind in BinaryKind.allCases {
        for (shape, first, second) in Self.shapes {
          let a = Buffer(variant.element, first, seed: 1)
          let b = Buffer(variant.element, second, seed: 2)
          for index in 0..<a.view.count where kind == .power { a[index] = abs(a[index]) + 0.2 }
          let y = Buffer(variant.element, shape) { _ in 1 }
          Kernel.binary(kind, a.view, b.view, into: y.view, adding: true, pool: SerialPool())
          let expected = (0..<y.view.count).map {
            1 + Self.apply(kind, a[Self.source($0, shape, first)], b[Self.source($0, shape, second)])
          }
          #expect(error(y.values, expected) < variant.bound(1e-6, 1e-14), "\(kind) \(shape)")
        }
      }
    }
  }

  @Test("each gradient is the central difference, summed over what was broadcast", arguments: Variant.all)
  func gradients(variant: Variant) {
    variant.run {
      for kind in BinaryKind.allCases {
        for (shape, first, second) in Self.shapes {
          let a = Buffer(variant.element, first, seed: 3)
          let b = Buffer(variant.element, second, seed: 4)
          for index in 0..<a.view.count where kind == .power { a[index] = abs(a[index]) + 0.2 }
          for index in 0..<b.view.count where kind == .divide { b[index] = abs(b[index]) + 0.5 }
          let dy = Buffer(variant.element, shape, seed: 5)
          let da = Buffer(variant.element, first) { _ in 1 }
          let db = Buffer(variant.element, second) { _ in 2 }
          Kernel.binaryGradient(
            kind, a.view, b.view, dy: dy.view, adding: da.view, db.view, pool: SerialPool())
          var expected = (
            [Double](repeating: 1, count: da.view.count), [Double](repeating: 2, count: db.view.count)
          )
          for index in 0..<dy.view.count {
            let (i, j) = (Self.source(index, shape, first), Self.source(index, shape, second))
            let step = 1e-6
            let alongA = Self.apply(kind, a[i] + step, b[j]) - Self.apply(kind, a[i] - step, b[j])
            let alongB = Self.apply(kind, a[i], b[j] + step) - Self.apply(kind, a[i], b[j] - step)
            expected.0[i] += dy[index] * alongA / (2 * step)
            expected.1[j] += dy[index] * alongB / (2 * step)
          }
          #expect(error(da.values, expected.0) < variant.bound(3e-6, 1e-7), "\(kind) \(shape) a")
          #expect(error(db.values, expected.1) < variant.bound(3e-6, 1e-7), "\(kind) \(shape) b")
        }
      }
    }
  }

  @Test("whole numbers broadcast, wrap and divide without a trap")
  func wholeNumbers() {
    let a = View(base: .allocate(byteCount: 64, alignment: 64), element: .i64, shape: [2, 2])
    let b = View(base: .allocate(byteCount: 64, alignment: 64), element: .i64, shape: [2])
    let y = View(base: .allocate(byteCount: 64, alignment: 64), element: .i64, shape: [2, 2])
    defer { for view in [a, b, y] { view.base.deallocate() } }
    for (index, value) in [7, Int64.min, -7, 3].enumerated() { a.i64[index] = value }
    func result(_ kind: BinaryKind, _ first: Int64, _ second: Int64) -> [Int64] {
      (b.i64[0], b.i64[1]) = (first, second)
      Kernel.binary(kind, a, b, into: y, pool: SerialPool())
      return (0..<4).map { y.i64[$0] }
    }
    #expect(result(.divide, 2, -1) == [3, .min, -3, -3])
    #expect(result(.divide, 0, 2) == [0, .min / 2, 0, 1])
    #expect(result(.add, 1, -1) == [8, .max, -6, 2])
    #expect(result(.power, 3, 2) == [343, 0, -343, 9])
    #expect(result(.power, -1, 0) == [0, 1, 0, 1])
    #expect(result(.maximum, 0, 5) == [7, 5, 0, 5])
  }

  static func reference(_ kind: ReductionKind, _ x: [Double]) -> Double {
    switch kind {
    case .sum: x.reduce(0, +)
    case .mean: x.reduce(0, +) / Double(x.count)
    case .max: x.max() ?? -.infinity
    case .min: x.min() ?? .infinity
    case .product: x.reduce(1, *)
    case .sumOfSquares: x.reduce(0) { $0 + $1 * $1 }
    case .l1: x.reduce(0) { $0 + abs($1) }
    case .l2: x.reduce(0) { $0 + $1 * $1 }.squareRoot()
    case .logSumExp: log(x.reduce(0) { $0 + exp($1) })
    }
  }

  @Test("reductions over any axes are the ones in double, at every level", arguments: Variant.all)
  func reductions(variant: Variant) {
    variant.run {
      let cases: [([Int], [Int])] = [
        ([7], [0]), ([3, 40], [1]), ([3, 40], [0]), ([70, 5], [0]), ([2, 3, 4, 5], [1, 3]),
        ([2, 3, 4, 5], [0, 2]),
        ([6, 1, 5], [1]), ([2, 150, 3], [1]), ([4, 4], [0, 1]), ([], []), ([5, 3], []), ([2, 0, 3], [1]),
        ([1, 1], [0]), ([200, 17, 2], [0, 2]),
      ]
      for kind in ReductionKind.allCases {
        for (shape, axes) in cases {
          let x = Buffer(variant.element, shape, seed: 6, scale: kind == .product ? 0.8 : 2)
          let kept = (0..<shape.count).filter { !axes.contains($0) }.map { shape[$0] }
          let y = Buffer(variant.element, kept) { _ in 0.5 }
          var groups = [[Double]](repeating: [], count: y.view.count)
          let masked = shape.indices.map { axes.contains($0) ? 1 : shape[$0] }
          for index in 0..<x.view.count { groups[Self.source(index, shape, masked)].append(x[index]) }
          Kernel.reduce(kind, x.view, axes: axes, into: y.view, adding: true, pool: SerialPool())
          let expected = groups.map { 0.5 + Self.reference(kind, $0) }
          #expect(error(y.values, expected) < variant.bound(2e-6, 1e-13), "\(kind) \(shape) \(axes)")
        }
      }
    }
  }

  @Test("the greatest of numbers and NaN is NaN, along both kinds of axes", arguments: Variant.all)
  func maximumOfNaN(variant: Variant) {
    variant.run {
      let x = Buffer(variant.element, [20, 20]) { $0 == 45 ? .nan : Double($0) }
      for axis in 0..<2 {
        let y = Buffer(variant.element, [20])
        Kernel.reduce(.max, x.view, axes: [axis], into: y.view, pool: SerialPool())
        #expect(y.values.filter(\.isNaN).count == 1 && y[axis == 0 ? 5 : 2].isNaN)
      }
    }
  }

  @Test("a sum to the shape of a broadcast operand adds what was repeated")
  func sumToShape() {
    for (shape, operand, _) in Self.shapes {
      let x = Buffer(.f64, shape, seed: 7)
      let y = Buffer(.f64, operand) { _ in 3 }
      Kernel.reduceSum(x.view, toShapeOf: y.view, pool: SerialPool())
      var expected = [Double](repeating: 3, count: y.view.count)
      for index in 0..<x.view.count { expected[Self.source(index, shape, operand)] += x[index] }
      #expect(error(y.values, expected) < 1e-14)
    }
  }

  @Test("a transpose by any permutation, of any element size, is the naive one")
  func transposes() {
    let shapes = [
      [3], [4, 5], [40, 70], [2, 3, 4], [2, 33, 5, 7], [1, 6, 1, 4], [0, 3], [2, 2, 2, 2, 2, 2, 2, 2],
    ]
    for element in [ElementType.f32, .f64, .u8, .i16] {
      for shape in shapes {
        var random = SplitMix(seed: 8)
        for _ in 0..<4 {
          let permutation = random.shuffled(Array(0..<shape.count))
          let count = shape.reduce(1, *)
          let from = View(
            base: .allocate(byteCount: max(1, count * 8), alignment: 64), element: element, shape: shape)
          let to = View(
            base: .allocate(byteCount: max(1, count * 8), alignment: 64), element: element,
            shape: permutation.map { shape[$0] })
          defer {
            from.base.deallocate()
            to.base.deallocate()
          }
          let bytes = from.pointer(as: UInt8.self)
          for index in 0..<from.byteCount { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
          Kernel.transpose(from, permutation: permutation, into: to, pool: SerialPool())
          let strides = permutation.map { from.strides[$0] }
          var equal = true
          for index in 0..<count {
            var (rest, offset) = (index, 0)
            for axis in to.shape.indices.reversed() {
              offset += rest % to.shape[axis] * strides[axis]
              rest /= to.shape[axis]
            }
            for byte in 0..<element.size {
              let copied = to.pointer(as: UInt8.self)[index * element.size + byte]
              equal = equal && copied == bytes[offset * element.size + byte]
            }
          }
          #expect(equal, "\(element) \(shape) \(permutation)")
        }
      }
    }
  }

  @Test("what is inserted along an axis is what is extracted, and a negative step reverses")
  func concatenation() {
    for axis in 0..<3 {
      var (partShape, wholeShape) = ([3, 4, 5], [3, 4, 5])
      partShape[axis] = 2
      wholeShape[axis] = 7
      let part = Buffer(.f32, partShape, seed: 9)
      let whole = Buffer(.f32, wholeShape)
      Kernel.insert(part.view, into: whole.view, axis: axis, at: 4, pool: SerialPool())
      #expect(whole.values.filter { $0 != 0 }.count == part.view.count)
    }
    let row = Buffer(.f32, [1, 3]) { Double($0) }
    let all = Buffer(.f32, [2, 2, 3])
    Kernel.broadcast(row.view, into: all.view, pool: SerialPool())
    #expect(all.values == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
  }

  @Test("broadcasts, reductions and copies have the same bits for every number of workers")
  func workers() {
    let x = Buffer(.f32, [300, 7, 64], seed: 10)
    let row = Buffer(.f32, [64], seed: 11)
    withPools { pool in
      let results = [[300, 7, 64], [64], [300], [7, 64], [64, 7, 300], [64]].map { Buffer(.f32, $0) }
      Kernel.binary(.multiply, x.view, row.view, into: results[0].view, pool: pool)
      Kernel.reduce(.sum, x.view, axes: [0, 1], into: results[1].view, pool: pool)
      Kernel.reduce(.logSumExp, x.view, axes: [1, 2], into: results[2].view, pool: pool)
      Kernel.reduce(.max, x.view, axes: [0], into: results[3].view, pool: pool)
      Kernel.transpose(x.view, permutation: [2, 1, 0], into: results[4].view, pool: pool)
      Kernel.binaryGradient(.multiply, x.view, row.view, dy: x.view, adding: nil, results[5].view, pool: pool)
      return results.flatMap(\.bits)
    }
  }
}
