import Testing
import VitIR
import VitRuntime
import VitTestSupport
import VitTrain

struct LossTests {
  struct Fixtures: Decodable {
    var distillation: [Distillation]
    var squared_error: [SquaredError]
  }

  struct Distillation: Decodable {
    var rows: Int
    var classes: Int
    var batch: Int
    var temperature: Double
    var weight: Double
    var label_weight: Double
    var labels: [Int?]
    var student: [Double]
    var teacher: [Double]
    var divergence: Double
    var cross_entropy: Double
    var gradient: [Double]
  }

  struct SquaredError: Decodable {
    var scale: Double
    var prediction: [Double]
    var target: [Double]
    var loss: Double
    var gradient: [Double]
  }

  @Test("the squared error and its gradient are PyTorch's")
  func squaredError() throws {
    for fixture in try trainFixture("losses.json", as: Fixtures.self).squared_error {
      let memory = Memory()
      let (p, t) = (memory.view(fixture.prediction), memory.view(fixture.target))
      let gradient = memory.view([Double](repeating: 0, count: p.count))
      let loss = Loss.squaredError(p, t, scale: fixture.scale, adding: gradient, pool: SerialPool())
      #expect(abs(loss - fixture.loss) < 1e-6 * fixture.loss)
      #expect(difference(gradient.numbers, fixture.gradient) < 1e-6)
    }
  }

  @Test("a loss adds to the gradient that is there, and can do without one")
  func adds() {
    let memory = Memory()
    let (p, t) = (memory.view([1, 2, 3]), memory.view([0, 2, 5]))
    let gradient = memory.view([10, 20, 30])
    #expect(Loss.squaredError(p, t, scale: 0.5, adding: gradient, pool: SerialPool()) == 2.5)
    #expect(gradient.numbers == [11, 20, 28])
    #expect(Loss.squaredError(p, t, scale: 0.5, adding: nil, pool: SerialPool()) == 2.5)
  }

  @Test("rows weigh what they are said to, in the error, in its gradient and in a norm")
  func weights() {
    let memory = Memory()
    let p = memory.view([1, 2, 3, 4, 5, 6, 7, 8], shape: [2, 2, 2])
    let t = memory.view([0, 0, 0, 0, 5, 5, 5, 5], shape: [2, 2, 2])
    let gradient = memory.view([Double](repeating: 0, count: 8), shape: [2, 2, 2])
    let loss = Loss.squaredError(p, t, scale: 1, weights: [3, 1], adding: gradient, pool: SerialPool())
    // 3 · (1 + 4) + (9 + 16) + 3 · (0 + 1) + (4 + 9).
    #expect(loss == 56)
    #expect(gradient.numbers == [6, 12, 6, 8, 0, 6, 4, 6])
    // 2 · (9 + 16 + 49 + 64).
    #expect(SquaredNorm.squared(p, weights: [0, 2], pool: SerialPool()) == 276)
  }

  @Test("the squared error of many numbers is the same on any number of threads")
  func threads() {
    let memory = Memory()
    var random = SplitMix(seed: 2)
    let numbers = (0..<2).map { _ in (0..<40_010).map { _ in random.normal() } }
    let (p, t) = (
      memory.view(numbers[0], shape: [4001, 10]), memory.view(numbers[1], shape: [4001, 10])
    )
    let pools: [any WorkPool] = [SerialPool(), ThreadPool(threads: 2)]
    for weights in [[], [0.5, 2, 0]] {
      let results = pools.map { pool -> (Double, Double, [Double]) in
        let gradient = memory.view([Double](repeating: 0, count: p.count))
        return (
          Loss.squaredError(p, t, scale: 1, weights: weights, adding: gradient, pool: pool),
          SquaredNorm.squared(p, weights: weights, pool: pool), gradient.numbers
        )
      }
      #expect(results[0] == results[1])
    }
  }

  @Test("divergence at a temperature, cross entropy and their gradients are PyTorch's")
  func distillation() throws {
    for fixture in try trainFixture("losses.json", as: Fixtures.self).distillation {
      let memory = Memory()
      let shape = [fixture.rows, fixture.classes]
      let (s, t) = (memory.view(fixture.student, shape: shape), memory.view(fixture.teacher, shape: shape))
      let gradient = memory.view([Double](repeating: 0, count: s.count), shape: shape)
      let loss = Loss.distillation(
        student: s, teacher: t, labels: fixture.labels, temperature: fixture.temperature,
        weight: fixture.weight, labelWeight: fixture.label_weight,
        batch: fixture.batch, adding: gradient)
      #expect(abs(loss.divergence - fixture.divergence) < 1e-6 * fixture.divergence)
      #expect(abs(loss.crossEntropy - fixture.cross_entropy) < 1e-6 * fixture.cross_entropy)
      #expect(difference(gradient.numbers, fixture.gradient) < 1e-6, "temperature \(fixture.temperature)")
    }
  }

  @Test("the gradient of the divergence is what central differences of the divergence say")
  func centralDifferences() {
    let memory = Memory()
    var random = SplitMix(seed: 6)
    func logits() -> View { memory.view((0..<12).map { _ in 2 * random.normal() }, shape: [3, 4]) }
    let (s, t) = (logits(), logits())
    let gradient = memory.view([Double](repeating: 0, count: 12), shape: [3, 4])
    func loss(adding view: View?) -> Double {
      let loss = Loss.distillation(
        student: s, teacher: t, labels: [1, nil, 3], temperature: 2, weight: 0.7, labelWeight: 0.4, batch: 3,
        adding: view)
      return 0.7 * (loss.divergence + 0.4 * loss.crossEntropy)
    }
    _ = loss(adding: gradient)
    var estimates: [Double] = []
    for index in 0..<12 {
      let value = s.f32[index]
      // Steps that 32 bits hold exactly.
      s.f32[index] = value + 0x1p-9
      let above = (loss(adding: nil), Double(s.f32[index]))
      s.f32[index] = value - 0x1p-9
      let below = (loss(adding: nil), Double(s.f32[index]))
      s.f32[index] = value
      estimates.append((above.0 - below.0) / (above.1 - below.1))
    }
    #expect(difference(gradient.numbers, estimates) < 1e-5)
  }

  @Test("logits that leave a class no chance give a finite loss and gradient")
  func extremes() {
    let memory = Memory()
    let s = memory.view([2000, -2000, 0], shape: [1, 3])
    let t = memory.view([-2000, 2000, 0], shape: [1, 3])
    let gradient = memory.view([0, 0, 0], shape: [1, 3])
    let loss = Loss.distillation(
      student: s, teacher: t, labels: [1], temperature: 1, weight: 1, labelWeight: 1, batch: 1,
      adding: gradient)
    #expect(loss.divergence.isFinite && loss.divergence > 100)
    #expect(loss.crossEntropy.isFinite && loss.crossEntropy > 100)
    #expect(gradient.numbers == [2, -2, 0])
  }

  @Test("a label that is no class is left out")
  func strangeLabels() {
    let memory = Memory()
    let s = memory.view([1, 2], shape: [1, 2])
    for label in [-1, 2] {
      let loss = Loss.distillation(
        student: s, teacher: s, labels: [label], temperature: 1, weight: 1, labelWeight: 1, batch: 1,
        adding: nil)
      #expect(loss.crossEntropy == 0)
      #expect(loss.divergence == 0)
    }
  }
}
