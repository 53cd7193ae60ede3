import Testing
import VitIR
import VitRuntime
import VitTestSupport
import VitTrain

struct AdamWTests {
  struct Run: Decodable, Sendable, CustomTestStringConvertible {
    var clip: Double
    var shapes: [[Int]]
    var decays: [Bool]
    var factors: [Double]
    var rates: [Double]
    var first: [[Double]]
    var gradients: [[[Double]]]
    var norms: [Double]
    var last: [[Double]]
    var average: [[Double]]
    var testDescription: String { "clip \(clip)" }
  }

  /// Weights, their gradients and an optimiser.
  private final class Setting {
    let memory = Memory()
    let weights: [View]
    let gradients: [View]
    let optimiser: AdamW

    init(_ weights: [[Double]], decays: [Bool], factors: [Double]? = nil, pool: any WorkPool = SerialPool())
      throws
    {
      let memory = memory
      self.weights = weights.map { memory.view($0) }
      gradients = weights.map { memory.view([Double](repeating: 0, count: $0.count)) }
      optimiser = try AdamW(
        parameters: self.weights, gradients: gradients, decays: decays, factors: factors, pool: pool)
    }

    func setGradients(_ values: [[Double]]) {
      for (view, list) in zip(gradients, values) {
        for (index, value) in list.enumerated() { view.f32[index] = Float(value) }
      }
    }

    func setRandomGradients(_ random: inout SplitMix) {
      for view in gradients { for index in 0..<view.count { view.f32[index] = Float(random.normal()) } }
    }
  }

  @Test("weights, their average and the norm follow PyTorch's AdamW, with decay and without, clipped or not")
  func followsPyTorch() throws {
    for run in try trainFixture("adamw.json", as: [Run].self) {
      let setting = try Setting(run.first, decays: run.decays, factors: run.factors)
      for (step, rate) in run.rates.enumerated() {
        setting.setGradients(run.gradients[step])
        let norm = setting.optimiser.step(rate: rate, clip: run.clip)
        #expect(abs(norm - run.norms[step]) < 1e-6 * run.norms[step], "\(run.testDescription), step \(step)")
      }
      #expect(setting.optimiser.steps == run.rates.count)
      for place in run.last.indices {
        #expect(difference(setting.weights[place].numbers, run.last[place]) < 2e-6, "\(run.testDescription)")
      }
      setting.optimiser.exchangeAverage()
      for place in run.average.indices {
        #expect(difference(setting.weights[place].numbers, run.average[place]) < 2e-6)
      }
      setting.optimiser.exchangeAverage()
      #expect(difference(setting.weights[0].numbers, run.last[0]) < 2e-6)
    }
  }

  @Test("decay shrinks only the parameters marked for it")
  func decaysWhatIsMarked() throws {
    let setting = try Setting([[1, -2], [1, -2]], decays: [true, false])
    setting.optimiser.step(rate: 0.1, clip: 1)
    #expect(difference(setting.weights[0].numbers, [0.995, -1.99]) < 1e-6)
    #expect(setting.weights[1].numbers == [1, -2])
  }

  @Test("gradients that are no finite numbers change nothing")
  func leavesOutBrokenGradients() throws {
    let setting = try Setting([[1, 2], [3]], decays: [true, true])
    for broken in [Double.nan, .infinity] {
      setting.setGradients([[1, broken], [1]])
      #expect(!setting.optimiser.step(rate: 0.1, clip: 1).isFinite)
    }
    #expect(setting.weights.map(\.numbers) == [[1, 2], [3]])
    #expect(setting.optimiser.steps == 0)
  }

  @Test("an optimiser that takes up a state goes on as if it had never stopped, to the bit")
  func restoresItsState() throws {
    let first = [(0..<50).map { Double($0) / 7 }, [0.5, -0.25]]
    var random = SplitMix(seed: 4)
    let whole = try Setting(first, decays: [true, false])
    for _ in 0..<3 {
      whole.setRandomGradients(&random)
      whole.optimiser.step(rate: 1e-2, clip: 1)
    }
    let state = whole.optimiser.stateBytes
    let resumed = try Setting(first, decays: [true, false])
    var reader = StateReader(state)
    try resumed.optimiser.restore(from: &reader)
    #expect(resumed.optimiser.stateBytes == state)
    var copy = random
    for _ in 0..<3 {
      whole.setRandomGradients(&random)
      resumed.setRandomGradients(&copy)
      whole.optimiser.step(rate: 1e-2, clip: 1)
      resumed.optimiser.step(rate: 1e-2, clip: 1)
    }
    #expect(resumed.optimiser.stateBytes == whole.optimiser.stateBytes)
    #expect(resumed.optimiser.steps == 6)
  }

  @Test("a state of other parameters is refused")
  func refusesAnotherState() throws {
    let setting = try Setting([[1, 2]], decays: [true])
    let other = try Setting([[1, 2, 3]], decays: [true])
    #expect(throws: VitError("the training state has 56 bytes, expected 40", code: "checkpoint")) {
      var reader = StateReader(other.optimiser.stateBytes)
      try setting.optimiser.restore(from: &reader)
    }
  }

  @Test("forgetting starts moments, steps and average anew")
  func forgets() throws {
    let setting = try Setting([[1, 2]], decays: [true])
    setting.setGradients([[1, 1]])
    setting.optimiser.step(rate: 0.1, clip: 1)
    setting.optimiser.resetState()
    #expect(setting.optimiser.steps == 0)
    let fresh = try Setting([setting.weights[0].numbers], decays: [true])
    #expect(setting.optimiser.stateBytes == fresh.optimiser.stateBytes)
  }

  @Test("one thread and three give the same bytes, the norm included")
  func isTheSameOnAnyThreads() throws {
    // More than the blocks that steps and norms are cut into.
    var random = SplitMix(seed: 9)
    let first = [(0..<70_001).map { _ in random.normal() }, [1, 2, 3]]
    let pools: [any WorkPool] = [SerialPool(), ThreadPool(threads: 3)]
    let results = try pools.map { pool -> (state: [UInt8], norm: Double) in
      var random = SplitMix(seed: 10)
      let setting = try Setting(first, decays: [true, false], pool: pool)
      var norm = 0.0
      for _ in 0..<2 {
        setting.setRandomGradients(&random)
        norm = setting.optimiser.step(rate: 1e-3, clip: 1)
      }
      return (setting.optimiser.stateBytes, norm)
    }
    #expect(results[0].state == results[1].state)
    #expect(results[0].norm == results[1].norm)
  }
}

extension AdamW {
  /// The state as a checkpoint holds it.
  fileprivate var stateBytes: [UInt8] {
    var bytes: [UInt8] = []
    writeState { bytes.append(contentsOf: $0) }
    return bytes
  }
}

struct ScheduleTests {
  @Test("the rate rises linearly, then falls by half a cosine to a hundredth of the peak")
  func shape() {
    let schedule = Schedule(peak: 2, steps: 100)
    #expect(schedule.warmUp == 5)
    #expect((0..<5).map { schedule.rate(at: $0) } == [0.4, 0.8, 1.2, 1.6, 2])
    #expect(schedule.rate(at: 5) == 2)
    let middle = 5 + 95 / 2.0
    #expect(abs((schedule.rate(at: 52) + schedule.rate(at: 53)) / 2 - 2 * 0.505) < 1e-9, "at \(middle)")
    #expect(abs(schedule.rate(at: 100) - 0.02) < 1e-12)
    #expect(abs(schedule.rate(at: 1000) - 0.02) < 1e-12)
    for step in 5..<100 { #expect(schedule.rate(at: step + 1) < schedule.rate(at: step)) }
  }

  @Test("a run of one step, or of none, has a rate")
  func shortRuns() {
    #expect(Schedule(peak: 3, steps: 1).rate(at: 0) == 3)
    #expect(Schedule(peak: 3, steps: 0).rate(at: 0) == 3)
    #expect(Schedule(peak: 3, steps: 10, warmUpShare: 0).rate(at: 0) == 3)
  }
}
