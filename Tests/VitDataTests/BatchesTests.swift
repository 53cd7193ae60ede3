import Testing
import VitData
import VitFormats
import VitIR
import VitTestSupport

/// Memory of a view, for the time of a test.
private final class Memory {
  let view: View
  init(_ shape: [Int]) {
    let count = shape.reduce(1, *)
    let base = UnsafeMutableRawPointer.allocate(byteCount: 4 * count, alignment: 64)
    base.initializeMemory(as: Float.self, repeating: .nan, count: count)
    view = View(base: base, element: .f32, shape: shape)
  }
  deinit { view.base.deallocate() }
  var values: [Float] { Array(UnsafeBufferPointer(start: view.f32, count: view.count)) }
}

/// A pool that runs tasks backwards: what depends on the order of tasks shows.
private final class BackwardPool: WorkPool {
  private let serial = SerialPool()
  var workers: Int { 1 }
  func scratch(_ worker: Int) -> UnsafeMutableRawPointer { serial.scratch(worker) }
  func run(tasks: Int, _ body: (Int, Int) -> Void) {
    for task in (0..<tasks).reversed() { body(task, 0) }
  }
}

@Suite struct BatchesTests {
  private let scratch: Scratch
  private let warnings = Warnings()
  private let preprocess: Preprocess = {
    var value = Preprocess(channels: 1, height: 1, width: 1)
    (value.mean, value.deviation, value.scale) = ([0], [1], 1)
    return value
  }()

  init() throws { scratch = try Scratch() }

  private func numbers(_ count: Int) throws -> Dataset {
    try NPY.write(
      Tensor(.u8, shape: [count, 1, 1], values: (0..<count).map(Double.init)), to: scratch.file("x.npy"))
    return try open("x.npy")
  }

  private func open(_ name: String) throws -> Dataset {
    try Dataset.open(
      scratch.file(name), defaultSplit: .train, channels: 1, height: 1, width: 1, warn: warnings.collect)
  }

  @Test("one pass gives each sample once, in order, and ends with a smaller batch")
  func pass() throws {
    var batches = Batches(try numbers(7), preprocess)
    let memory = Memory([3, 1, 1, 1])
    var seen: [[Int]] = []
    while let batch = try batches.next(into: memory.view, pool: SerialPool()) {
      seen.append(batch.samples)
      #expect(memory.values.prefix(batch.count).map { Int($0) } == batch.samples)
    }
    #expect(seen == [[0, 1, 2], [3, 4, 5], [6]])
  }

  @Test("shuffled epochs hold each sample once, differ, repeat with the seed and resume at a position")
  func shuffled() throws {
    let data = try numbers(10)
    func draw(_ seed: UInt64, from position: Int, _ count: Int, _ pool: any WorkPool) throws -> [Int] {
      var batches = Batches(data, preprocess, order: .shuffled(seed: seed))
      batches.position = position
      let memory = Memory([4, 1, 1, 1])
      var result: [Int] = []
      for _ in 0..<count {
        let batch = try #require(try batches.next(into: memory.view, pool: pool))
        #expect(batch.count == 4)
        #expect(memory.values.map { Int($0) } == batch.samples)
        result += batch.samples
      }
      return result
    }
    let order = try draw(1, from: 0, 10, SerialPool())
    for epoch in 0..<4 { #expect(order[10 * epoch..<10 * epoch + 10].sorted() == Array(0..<10)) }
    let epochs = Set((0..<4).map { epoch -> [Int] in Array(order[10 * epoch..<10 * epoch + 10]) })
    #expect(epochs.count == 4)
    #expect(try draw(1, from: 0, 10, BackwardPool()) == order)
    #expect(try draw(1, from: 12, 2, SerialPool()) == Array(order[12..<20]))
    #expect(try draw(2, from: 0, 10, SerialPool()) != order)
  }

  @Test("unreadable samples are left out, the next ones move up, and each is warned of once")
  func unreadable() throws {
    let whole = try Fixture.bytes("formats/gray.png")
    for index in 0..<6 {
      try scratch.write([1, 4].contains(index) ? Array(whole.dropLast(20)) : whole, to: "f/\(index).png")
    }
    let data = try open("f")
    #expect(data.count == 6 && data.skipped == 0)
    var batches = Batches(data, preprocess)
    let memory = Memory([3, 1, 1, 1])
    #expect(try batches.next(into: memory.view, pool: BackwardPool())?.samples == [0, 2, 3])
    #expect(try batches.next(into: memory.view, pool: BackwardPool())?.samples == [5])
    #expect(try batches.next(into: memory.view, pool: BackwardPool()) == nil)
    #expect(data.skipped == 2)
    var endless = Batches(data, preprocess, order: .shuffled(seed: 3))
    for _ in 0..<5 {
      let batch = try #require(try endless.next(into: memory.view, pool: SerialPool()))
      #expect(batch.count == 3 && !batch.samples.contains(1) && !batch.samples.contains(4))
      #expect(memory.values.allSatisfy { !$0.isNaN })
    }
    #expect(data.skipped == 2 && warnings.all.count == 2)
    #expect(warnings.all.first?.location.file == scratch.file("f/1.png"))
  }

  @Test("where no sample can be read, the error says so and why", arguments: [false, true])
  func noneReadable(_ isShuffled: Bool) throws {
    let whole = try Fixture.bytes("formats/gray.png")
    for index in 0..<3 { try scratch.write(Array(whole.dropLast(20)), to: "f/\(index).png") }
    var batches = Batches(try open("f"), preprocess, order: isShuffled ? .shuffled(seed: 1) : .once)
    let memory = Memory([2, 1, 1, 1])
    let error = #expect(throws: VitError.self) { try batches.next(into: memory.view, pool: SerialPool()) }
    #expect(error?.kind == .input)
    #expect(error?.diagnostic.message.contains("none of the 3 samples") == true)
  }

  @Test("augmentation depends on seed and position only, mirrors half and shifts within its bound")
  func augment() throws {
    let count = 200
    let row: [Double] = (0..<5 * count).map { Double($0 % 5) * 10 }
    try NPY.write(Tensor(.u8, shape: [count, 1, 5], values: row), to: scratch.file("x.npy"))
    var wide = Preprocess(channels: 1, height: 1, width: 5)
    (wide.mean, wide.deviation, wide.scale, wide.resize) = ([0], [1], 1, .none)
    let data = try open("x.npy")
    func draw(_ pool: any WorkPool, _ augment: Augment) throws -> [[Float]] {
      var batches = Batches(data, wide, order: .shuffled(seed: 5), augment: augment)
      let memory = Memory([count, 1, 1, 5])
      _ = try batches.next(into: memory.view, pool: pool)
      return (0..<count).map { Array(memory.values[5 * $0..<5 * $0 + 5]) }
    }
    let rows = try draw(SerialPool(), Augment(flips: true, shift: 1))
    #expect(try draw(BackwardPool(), Augment(flips: true, shift: 1)) == rows)
    let possible: [[Float]] = [[0, 10, 20, 30, 40], [0, 0, 10, 20, 30], [10, 20, 30, 40, 40]]
    let mirrored = possible.map { Array($0.reversed()) }
    #expect(Set(rows) == Set(possible + mirrored))
    let flips = rows.count { ($0.last ?? 0) < $0[0] }
    #expect(abs(flips - count / 2) < 40)
    #expect(try Set(draw(SerialPool(), Augment(flips: false, shift: 0))) == [[0, 10, 20, 30, 40]])
  }

  @Test("held-out samples are disjoint from the others, complete, and repeat with the seed")
  func heldOut() throws {
    let samples = (0..<50).map { 2 * $0 }
    let (training, heldOut) = Dataset.holdOut(10, of: samples, seed: 4)
    #expect(heldOut.count == 10 && (training + heldOut).sorted() == samples)
    #expect(Dataset.holdOut(10, of: samples, seed: 4).heldOut == heldOut)
    #expect(Dataset.holdOut(10, of: samples, seed: 5).heldOut != heldOut)
    let data = try numbers(30)
    #expect(data.sample(count: 40, seed: 1) == Array(0..<30))
    let few = data.sample(count: 8, seed: 1)
    #expect(few.count == 8 && Set(few).count == 8 && few == few.sorted() && few != Array(0..<8))
  }
}
