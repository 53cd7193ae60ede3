internal import Glibc
import Testing
internal import VitIR
internal import VitRuntime

/// A state space scan step by step in double, and its gradient step by step.
struct RecurrentSSD {
  let shape: SSDShape
  let order: [[Int]]
  let items: Int
  let v: [Double], k: [Double], q: [Double], r: [Double], speed: [Double], skip: [Double]
  var o: [Double]

  var steps: Int { order[0].count }

  init(
    _ shape: SSDShape, _ order: [[Int]], items: Int, v: [Double], k: [Double], q: [Double], r: [Double],
    speed: [Double], skip: [Double]
  ) {
    (self.shape, self.order, self.items) = (shape, order, items)
    (self.v, self.k, self.q, self.r, self.speed, self.skip) = (v, k, q, r, speed, skip)
    o = [Double](repeating: 0, count: v.count)
    run()
  }

  private func strength(_ row: Int, _ head: Int) -> Double {
    shape.isDelta ? log1p(exp(r[row * shape.heads + head])) : 1
  }

  private func decay(_ row: Int, _ head: Int) -> Double {
    shape.isDelta
      ? exp(-strength(row, head) * exp(speed[head]))
      : pow(1 / (1 + exp(-r[row * shape.heads + head])), 1.0 / 16)
  }

  private mutating func run() {
    let (n, w) = (shape.state, shape.width)
    for item in 0..<items {
      for head in 0..<shape.heads {
        let group = head * shape.groups / shape.heads
        var state = [Double](repeating: 0, count: n * w)
        for place in order[head * order.count / shape.heads] {
          let row = item * steps + place
          let (key, value) = (row * shape.groups * n + group * n, row * shape.heads * w + head * w)
          for i in 0..<n {
            for j in 0..<w {
              let write = k[key + i] * strength(row, head) * v[value + j]
              state[i * w + j] = decay(row, head) * state[i * w + j] + write
              o[value + j] += shape.scale * state[i * w + j] * q[key + i]
            }
          }
          for j in 0..<w { o[value + j] += skip[head] * v[value + j] }
        }
      }
    }
  }
}

@Suite("state space scans")
struct KernelSSDTests {
  struct Sizes: Sendable {
    var items = 2
    var steps: Int
    var heads = 2
    var groups = 2
    var state: Int
    var width: Int
    var isDelta = false
    var directions = 1
  }

  static let sizes = [
    Sizes(steps: 1, state: 1, width: 1), Sizes(steps: 5, state: 3, width: 2, directions: 2),
    Sizes(steps: 7, heads: 3, groups: 1, state: 4, width: 5, isDelta: true),
    Sizes(items: 1, steps: 65, heads: 4, groups: 2, state: 17, width: 9, isDelta: true, directions: 2),
    Sizes(items: 1, steps: 64, state: 16, width: 16),
    Sizes(items: 1, steps: 150, state: 33, width: 32, directions: 2),
    Sizes(items: 1, steps: 197, heads: 2, groups: 1, state: 20, width: 40),
    Sizes(items: 1, steps: 130, state: 3, width: 5, directions: 2),
    Sizes(items: 0, steps: 3, state: 2, width: 2),
  ]

  /// The operands side by side in rows that are wider than they, as a mixer's projections are.
  struct Problem {
    let shape: SSDShape
    let table: ScanTable
    let order: [[Int]]
    let rows: Buffer, speed: Buffer, skip: Buffer
    let items: Int
    let places: (v: Int, k: Int, q: Int, r: Int)

    init(_ sizes: Sizes, _ element: ElementType) {
      shape = SSDShape(
        heads: sizes.heads, groups: sizes.groups, state: sizes.state, width: sizes.width,
        isDelta: sizes.isDelta,
        scale: 0.7)
      items = sizes.items
      var random = SplitMix(seed: 11)
      order = (0..<sizes.directions).map { _ in
        var list = Array(0..<sizes.steps)
        for index in list.indices.reversed() { list.swapAt(index, random.below(index + 1)) }
        return list
      }
      table = ScanTable(order)
      let (inner, keys) = (sizes.heads * sizes.width, sizes.groups * sizes.state)
      places = (1, 1 + inner, 1 + inner + keys, 1 + inner + 2 * keys)
      let row = places.r + sizes.heads + 2
      rows = Buffer(element, [items, sizes.steps, row], seed: 3)
      speed = Buffer(element, [sizes.heads], seed: 4, scale: 0.5)
      skip = Buffer(element, [sizes.heads], seed: 5)
    }

    var columns: SSDOperands {
      func at(_ first: Int) -> ScanColumns { ScanColumns(rows.view, from: first) }
      return SSDOperands(
        v: at(places.v), k: at(places.k), q: at(places.q), r: at(places.r),
        speed: shape.isDelta ? speed.view : nil, skip: skip.view)
    }

    func part(_ values: [Double], _ first: Int, _ width: Int) -> [Double] {
      let row = rows.view.shape[2]
      return stride(from: 0, to: values.count, by: row).flatMap { values[$0 + first..<$0 + first + width] }
    }

    var widths: (inner: Int, keys: Int) { (shape.heads * shape.width, shape.groups * shape.state) }

    func recurrent(_ values: [Double], speed: [Double], skip: [Double]) -> RecurrentSSD {
      RecurrentSSD(
        shape, order, items: items, v: part(values, places.v, widths.inner),
        k: part(values, places.k, widths.keys),
        q: part(values, places.q, widths.keys), r: part(values, places.r, shape.heads), speed: speed,
        skip: skip)
    }
  }

  @Test("chunks give what steps give, at every level and for every number of threads", arguments: Variant.all)
  func chunkedIsRecurrent(variant: Variant) {
    for sizes in Self.sizes {
      let problem = Problem(sizes, variant.element)
      let expected = problem.recurrent(
        problem.rows.values, speed: problem.speed.values, skip: problem.skip.values)
      let o = Buffer(variant.element, [sizes.items, sizes.steps, sizes.heads * sizes.width]) { _ in .nan }
      variant.run {
        Kernel.ssd(problem.table, problem.shape, problem.columns, into: o.view, pool: SerialPool())
      }
      #expect(error(o.values, expected.o) < variant.bound(2e-5, 1e-13), "\(sizes)")
      guard variant.level == Variant.all[Variant.all.count - 2].level else { continue }
      withPools { pool in
        Kernel.ssd(problem.table, problem.shape, problem.columns, into: o.view, pool: pool)
        return o.bits
      }
    }
  }

  @Test("the gradient is that of the steps, by central differences in double")
  func gradients() {
    for sizes in Self.sizes where sizes.items > 0 && sizes.steps * sizes.state * sizes.width < 20000 {
      let problem = Problem(sizes, .f64)
      let (row, inner) = (problem.rows.view.shape[2], sizes.heads * sizes.width)
      let upstream = Buffer(.f64, [sizes.items, sizes.steps, inner], seed: 9)
      let slopes = Buffer(.f64, problem.rows.view.shape)
      let perHead = Buffer(.f64, [sizes.items, sizes.steps, 2 * sizes.heads])
      func at(_ first: Int) -> ScanColumns { ScanColumns(slopes.view, from: first) }
      let places = problem.places
      Kernel.ssdGradient(
        problem.table, problem.shape, problem.columns, dO: upstream.view,
        into: SSDGradients(
          v: at(places.v), k: at(places.k), q: at(places.q), r: at(places.r),
          speed: ScanColumns(perHead.view),
          skip: ScanColumns(perHead.view, from: sizes.heads)), pool: SerialPool())
      func loss(_ change: (inout [Double], inout [Double], inout [Double]) -> Void) -> Double {
        var (rows, speed, skip) = (problem.rows.values, problem.speed.values, problem.skip.values)
        change(&rows, &speed, &skip)
        return zip(problem.recurrent(rows, speed: speed, skip: skip).o, upstream.values).reduce(0) {
          $0 + $1.0 * $1.1
        }
      }
      func slope(_ change: (inout [Double], inout [Double], inout [Double], Double) -> Void) -> Double {
        (loss { change(&$0, &$1, &$2, 1e-5) } - loss { change(&$0, &$1, &$2, -1e-5) }) / 2e-5
      }
      var (found, expected) = ([Double](), [Double]())
      var random = SplitMix(seed: 8)
      for _ in 0..<(sizes.steps > 10 ? 24 : 80) {
        let index = random.below(sizes.items * sizes.steps) * row + 1 + random.below(row - 3)
        found.append(slopes[index])
        expected.append(slope { rows, _, _, step in rows[index] += step })
      }
      for head in 0..<sizes.heads {
        func sum(_ column: Int) -> Double {
          (0..<sizes.items * sizes.steps).reduce(0) { $0 + perHead[$1 * 2 * sizes.heads + column] }
        }
        found.append(sum(sizes.heads + head))
        expected.append(slope { _, _, skip, step in skip[head] += step })
        guard sizes.isDelta else { continue }
        found.append(sum(head))
        expected.append(slope { _, speed, _, step in speed[head] += step })
      }
      #expect(error(found, expected) < 1e-7, "\(sizes)")
    }
  }

  @Test("gradients in single precision are those in double, at every level", arguments: Variant.all)
  func singleGradients(variant: Variant) {
    for sizes in Self.sizes where sizes.items > 0 {
      func run(_ element: ElementType, _ pool: any WorkPool) -> (Buffer, Buffer) {
        let problem = Problem(sizes, element)
        let upstream = Buffer(element, [sizes.items, sizes.steps, sizes.heads * sizes.width], seed: 9)
        let slopes = Buffer(element, problem.rows.view.shape)
        let perHead = Buffer(element, [sizes.items, sizes.steps, 2 * sizes.heads])
        func at(_ first: Int) -> ScanColumns { ScanColumns(slopes.view, from: first) }
        let places = problem.places
        Kernel.ssdGradient(
          problem.table, problem.shape, problem.columns, dO: upstream.view,
          into: SSDGradients(
            v: at(places.v), k: at(places.k), q: at(places.q), r: at(places.r),
            speed: sizes.isDelta ? ScanColumns(perHead.view) : nil,
            skip: ScanColumns(perHead.view, from: sizes.heads)), pool: pool)
        return (slopes, perHead)
      }
      let double = run(.f64, SerialPool())
      variant.run {
        let single = run(variant.element, SerialPool())
        #expect(error(single.0.values, double.0.values) < variant.bound(5e-5, 1e-13), "\(sizes)")
        #expect(error(single.1.values, double.1.values) < variant.bound(5e-5, 1e-13), "\(sizes)")
      }
      guard variant.level == Variant.all[Variant.all.count - 2].level else { continue }
      withPools { run(variant.element, $0).0.bits }
    }
  }
}
