public import VitIR
package import VitRuntime

/// What running a graph costs, node by node.
public struct ModelCost: Sendable {
  /// The cost of each node of `Graph.nodes`; nothing for what does not depend on the input.
  public let nodes: [Cost]
  /// The sum of the nodes, with the parameters of the graph.
  public let total: Cost

  /// The cost for inputs of these shapes; throws where a type rule refuses them.
  public init(_ graph: Graph, inputShapes: [[Int]], pool: any WorkPool) throws {
    let inputs = zip(graph.inputs, inputShapes).map { TensorType(graph.type($0).element, fixed: $1) }
    let (types, known) = try GraphBuilder.infer(
      graph, inputTypes: inputs, fold: ConstantFolder(pool: pool).fold)
    nodes = graph.nodes.map { node in
      guard node.results.contains(where: { known[$0.index] == nil }),
        node.results.allSatisfy({ types[$0.index].fixedShape != nil })
      else { return Cost() }
      let operands = Operands(
        node.operands.map { $0.map { types[$0.index] } },
        values: node.operands.map { $0.flatMap { known[$0.index] } },
        resultCount: node.results.count)
      return node.operation.cost(operands, node.results.map { types[$0.index] })
    }
    var total = nodes.reduce(Cost(), +)
    total.parameters = graph.parameterCount
    self.total = total
  }
}

extension Graph {
  /// The number of weights: elements of what the layers have learned, whole numbers that stand for quantised ones
  /// among them; not of 64-bit integers and truth values, with which shapes are computed.
  public var parameterCount: Int {
    parameters().reduce(0) { sum, parameter in
      guard let tensor = tensor(parameter.id), tensor.element != .i64, tensor.element != .bool else {
        return sum
      }
      return sum + tensor.count
    }
  }

  /// The places in `nodes` of all nodes between two values: what depends on `input` and what `output` depends on.
  public func nodes(from input: ValueID, to output: ValueID) -> [Int] {
    var reached: Set<ValueID> = [input]
    var candidates: [Int] = []
    for (place, node) in nodes.enumerated()
    where node.operands.contains(where: { $0.map(reached.contains) ?? false }) {
      reached.formUnion(node.results)
      candidates.append(place)
    }
    var needed: Set<ValueID> = [output]
    var result: [Int] = []
    for place in candidates.reversed() where nodes[place].results.contains(where: needed.contains) {
      for case let id? in nodes[place].operands where id != input { needed.insert(id) }
      result.append(place)
    }
    return result.reversed()
  }
}

/// The time that one run takes, over many.
public struct Timing: Hashable, Sendable {
  /// The median, in milliseconds.
  public var median: Double
  /// The tenth percentile.
  public var low: Double
  /// The ninetieth percentile.
  public var high: Double

  /// The timing of these runs, of which there is at least one.
  public init(_ runs: [Double]) {
    let sorted = runs.sorted()
    func quantile(_ share: Double) -> Double { sorted[Int((Double(sorted.count - 1) * share).rounded())] }
    median = quantile(0.5)
    low = quantile(0.1)
    high = quantile(0.9)
  }

  /// Runs the executors in turn, so that what disturbs the machine disturbs all of them, until `seconds` have passed and
  /// each has run at least `rounds` times; before that twice without measuring.
  package static func measure(
    _ executors: [Executor], rounds: Int = 15, seconds: Double = 1, isCancelled: () -> Bool = { false }
  ) -> [Timing] {
    let clock = ContinuousClock()
    for _ in 0..<2 { for executor in executors { executor.run() } }
    var runs = executors.map { _ in [Double]() }
    let start = clock.now
    while runs[0].count < rounds || start.duration(to: clock.now) < .seconds(seconds), !isCancelled() {
      for (index, executor) in executors.enumerated() {
        runs[index].append(clock.measure { executor.run() } / .milliseconds(1))
      }
    }
    return runs.map { Timing($0.isEmpty ? [.nan] : $0) }
  }
}

extension Fidelity {
  /// What a model says of labelled samples, compared with no other.
  public init(images: Int, accuracy: Double?) {
    self.init()
    self.images = images
    self.accuracy = accuracy
  }
}

extension Executor {
  /// The median milliseconds of each node over runs until `seconds` have passed, at least 15; `nil` where a node does not run.
  package func times(seconds: Double, isCancelled: () -> Bool = { false }) -> [Double?] {
    let clock = ContinuousClock()
    for _ in 0..<2 { run() }
    var runs = [[Double]](repeating: [], count: graph.nodes.count)
    let start = clock.now
    var rounds = 0
    while rounds < 15 || start.duration(to: clock.now) < .seconds(seconds), !isCancelled() {
      var begin = clock.now
      run { step, done in
        if done {
          runs[step.node].append(begin.duration(to: clock.now) / .milliseconds(1))
        } else {
          begin = clock.now
        }
      }
      rounds += 1
    }
    return runs.map { $0.isEmpty ? nil : Timing($0).median }
  }
}
