package import VitIR
internal import VitRuntime

/// How many samples a model takes in one run, and whether its first axes count them.
package struct BatchForm: Hashable, Sendable {
  /// The samples of one run; `nil` where any number will do.
  package let count: Int?
  /// Whether the first axes of inputs and outputs count samples; else an input is one sample.
  package let isCounted: Bool

  /// The form of a model for samples of the shape `sample`; where no sample is known, what its first input looks like: an image
  /// or a matrix alone is one sample.
  package init(_ graph: Graph, sample: [Int]? = nil) {
    guard let input = graph.inputs.first else {
      (count, isCounted) = (nil, true)
      return
    }
    let type = graph.type(input)
    isCounted = sample.map { $0.count < type.rank } ?? !BatchForm.isOneSample(input, graph)
    count = isCounted ? type.shape[0].fixedValue : 1
  }

  /// An extent of one counts samples, unless the model makes images of what it reads.
  private static func isOneSample(_ input: ValueID, _ graph: Graph) -> Bool {
    let shape = graph.type(input).shape
    switch shape.count {
    case 0, 1: return true
    case 2: return shape.allSatisfy(\.isFixed) && shape[0] != 1
    case 3 where shape[0] == 1:
      return graph.nodes.contains { node in
        node.operands.first == input && node.results.first.map { graph.type($0).rank == 4 } ?? false
      }
    case 3: return shape[0].isFixed && (shape[0] == 3 || [1, 3].contains(shape[2]))
    default: return false
    }
  }

  /// The samples of one run where `wanted` would be run at once.
  func samples(_ wanted: Int) -> Int { count ?? wanted }

  /// The least number of samples in whole runs that is at least `wanted`.
  package func rounded(_ wanted: Int) -> Int {
    guard let count else { return wanted }
    let (sum, overflow) = wanted.addingReportingOverflow(count - 1)
    return overflow ? wanted : sum / count * count
  }

  /// The shape of an input for `batch` samples of the shape `sample`.
  package func shape(_ batch: Int, _ sample: [Int]) -> [Int] { isCounted ? [batch] + sample : sample }

  /// An output whose first axis counts samples.
  func rows(_ output: View) -> View { isCounted ? output : output.reshaped([1] + output.shape) }
}
