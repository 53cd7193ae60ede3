import Testing
import VitData
import VitFormats
import VitIR
import VitTestSupport

/// A pool that runs tasks backwards: what depends on the order of tasks shows.
private final class BackwardPool: WorkPool {
  private let serial = SerialPool()
  var workers: Int { 1 }
  func scratch(_ worker: Int) -> UnsafeMutableRawPointer { serial.scratch(worker) }
  func run(tasks: Int, _ body: (Int, Int) -> Void) {
    for task in (0..<tasks).reversed() { body(task, 0) }
  }
}

@Suite struct DatasetSamplingTests {
  private let scratch: Scratch
  private let warnings = Warnings()
  private let preprocess: Preprocess = {
    var value = Preprocess(channels: 1, height: 1, width: 1)
    (value.mean, value.deviation, value.scale) = ([0], [1], 1)
    return value
  }()

  init() throws { scratch = try Scratch() }

  private func open(_ name: String) throws -> Dataset {
    try Dataset.open(
      scratch.file(name), defaultSplit: .train, channels: 1, height: 1, width: 1, warn: warnings.collect)
  }

  @Test("unreadable samples are left out, in order on any pool, and each is warned of once")
  func unreadable() throws {
    let whole = try Fixture.bytes("formats/gray.png")
    for index in 0..<6 {
      try scratch.write([1, 4].contains(index) ? Array(whole.dropLast(20)) : whole, to: "f/\(index).png")
    }
    let data = try open("f")
    #expect(data.count == 6 && data.skipped == 0)
    #expect(try data.readable(preprocess, seed: 0, pool: BackwardPool()) == [0, 2, 3, 5])
    #expect(try data.readable(preprocess, seed: 0, pool: SerialPool()) == [0, 2, 3, 5])
    #expect(data.skipped == 2 && warnings.all.count == 2)
    #expect(warnings.all.first?.location.file == scratch.file("f/1.png"))
    let few = try data.readable(preprocess, limit: 3, seed: 0, pool: SerialPool())
    #expect(few == data.sample(count: 3, seed: 0).filter { ![1, 4].contains($0) })
  }

  @Test("where no sample can be read, the error says so and why")
  func noneReadable() throws {
    let whole = try Fixture.bytes("formats/gray.png")
    for index in 0..<3 { try scratch.write(Array(whole.dropLast(20)), to: "f/\(index).png") }
    let data = try open("f")
    let error = #expect(throws: VitError.self) {
      try data.readable(preprocess, seed: 0, pool: SerialPool())
    }
    #expect(error?.kind == .input)
    #expect(error?.diagnostic.message.contains("none of the 3 samples") == true)
  }

  @Test("augmentation depends on the random numbers only, mirrors half and shifts within its bound")
  func augment() {
    let count = 200
    func draw(_ augment: Augment) -> [[Float]] {
      (0..<count).map { index in
        var row: [Float] = [0, 10, 20, 30, 40]
        row.withUnsafeMutableBufferPointer { buffer in
          if let base = buffer.baseAddress {
            augment.apply(to: base, channels: 1, height: 1, width: 5, SplitMix(seed: 5).split(index))
          }
        }
        return row
      }
    }
    let rows = draw(Augment(flips: true, shift: 1))
    #expect(draw(Augment(flips: true, shift: 1)) == rows)
    let possible: [[Float]] = [[0, 10, 20, 30, 40], [0, 0, 10, 20, 30], [10, 20, 30, 40, 40]]
    let mirrored = possible.map { Array($0.reversed()) }
    #expect(Set(rows) == Set(possible + mirrored))
    let flips = rows.count { ($0.last ?? 0) < $0[0] }
    #expect(abs(flips - count / 2) < 40)
    #expect(Set(draw(Augment(flips: false, shift: 0))) == [[0, 10, 20, 30, 40]])
  }

  @Test("held-out samples are disjoint from the others, complete, and repeat with the seed")
  func heldOut() throws {
    let samples = (0..<50).map { 2 * $0 }
    let (training, heldOut) = Dataset.holdOut(10, of: samples, seed: 4)
    #expect(heldOut.count == 10 && (training + heldOut).sorted() == samples)
    #expect(Dataset.holdOut(10, of: samples, seed: 4).heldOut == heldOut)
    #expect(Dataset.holdOut(10, of: samples, seed: 5).heldOut != heldOut)
    try NPY.write(
      Tensor(.u8, shape: [30, 1, 1], values: (0..<30).map(Double.init)), to: scratch.file("x.npy"))
    let data = try open("x.npy")
    #expect(data.sample(count: 40, seed: 1) == Array(0..<30))
    let few = data.sample(count: 8, seed: 1)
    #expect(few.count == 8 && Set(few).count == 8 && few == few.sorted() && few != Array(0..<8))
  }
}
