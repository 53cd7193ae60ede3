internal import Glibc
internal import VitIR
internal import VitRuntime

/// Speed of the state space scan by itself, beside tools/bench_ssd.py. Prints, asserts nothing.
enum SSDBenchmarks {
  /// Measures the scan alone, and with its gradients, for `seconds` each: 8 images of 197 tokens, 6 heads of 64 channels, 64
  /// channels of state, in two directions.
  static func run(pool: any WorkPool, seconds: Double) {
    let (batch, tokens, heads, width) = (8, 197, 6, 64)
    let dim = heads * width
    let shape = SSDShape(heads: heads, groups: heads, state: width, width: width, isDelta: false, scale: 1)
    let table = ScanTable([Array(0..<tokens), Array((0..<tokens).reversed())])
    var random = SplitMix(seed: 1)
    var owned: [View] = []
    defer { for view in owned { view.base.deallocate() } }
    func memory(_ shape: [Int], scale: Double = 0, offset: Double = 0) -> View {
      let count = shape.reduce(1, *)
      let view = View(base: .allocate(byteCount: count * 4, alignment: 64), element: .f32, shape: shape)
      for index in 0..<count { view.f32[index] = Float(random.normal() * scale + offset) }
      owned.append(view)
      return view
    }
    let full = [batch, tokens, dim]
    let operands = SSDOperands(
      v: ScanColumns(memory(full, scale: 1)), k: ScanColumns(memory(full, scale: 0.125)),
      q: ScanColumns(memory(full, scale: 1)),
      r: ScanColumns(memory([batch, tokens, heads], scale: 1, offset: 3)),
      skip: memory([heads], scale: 1))
    let (o, upstream) = (memory(full), memory(full, scale: 1))
    let gradients = SSDGradients(
      v: ScanColumns(memory(full)), k: ScanColumns(memory(full)), q: ScanColumns(memory(full)),
      r: ScanColumns(memory([batch, tokens, heads])), skip: ScanColumns(memory([batch, tokens, heads])))
    func forward() { Kernel.ssd(table, shape, operands, into: o, pool: pool) }
    func both() {
      forward()
      Kernel.ssdGradient(table, shape, operands, dO: upstream, into: gradients, pool: pool)
    }
    for (name, step) in [("ssd-forward", forward), ("ssd-gradient", both)] {
      var watch = Stopwatch()
      let before = clock()
      watch.run(seconds: seconds, step)
      let processor = Double(clock() - before) / Double(CLOCKS_PER_SEC) * 1e3 / Double(watch.times.count + 1)
      print(
        "\(name) \(tokens) tokens x \(dim) x batch \(batch): \(Int(Double(batch) / watch.median)) samples/s,"
          + column(processor, digits: 2, width: 0) + " ms of processor a step")
    }
  }
}
