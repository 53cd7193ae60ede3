internal import VitIR
internal import VitRuntime

/// A copy of elements from one strided region of memory to another of the same extents.
///
/// Transposing, slicing, joining, repeating and padding all are such copies; their gradients are the same
/// copies backwards, added. Strides and offsets count elements and may be zero or negative.
struct Move: Sendable {
  /// A place in a tensor: the element that index zero means, and the step along each axis.
  struct Region: Sendable {
    var offset = 0
    var strides: [Int]
  }

  /// The extents of both regions.
  var shape: [Int]
  /// What is read.
  var source: Region
  /// What is written.
  var target: Region

  /// A copy of regions of `shape`.
  init(shape: [Int], source: Region, target: Region) {
    self.shape = shape
    self.source = source
    self.target = target
  }

  /// Fills a whole row-major tensor of `shape`.
  init(shape: [Int], source: Region) {
    self.init(shape: shape, source: source, target: Region(strides: rowMajorStrides(shape)))
  }

  /// The number of elements.
  var count: Int { shape.reduce(1, *) }

  /// The same copy in the other direction.
  var reversed: Move { Move(shape: shape, source: target, target: source) }

  /// The same copy with as few axes as possible: those of extent one are dropped, those that run on are
  /// joined.
  var coalesced: Move {
    var result = Move(
      shape: [], source: Region(offset: source.offset, strides: []),
      target: Region(offset: target.offset, strides: []))
    for axis in shape.indices where shape[axis] != 1 {
      let (s, t) = (source.strides[axis], target.strides[axis])
      if let last = result.shape.indices.last, result.source.strides[last] == s * shape[axis],
        result.target.strides[last] == t * shape[axis]
      {
        result.shape[last] *= shape[axis]
        result.source.strides[last] = s
        result.target.strides[last] = t
      } else {
        result.shape.append(shape[axis])
        result.source.strides.append(s)
        result.target.strides.append(t)
      }
    }
    return result
  }

  /// The same copy with its axes in another order.
  private func permuted(_ order: [Int]) -> Move {
    Move(
      shape: order.map { shape[$0] },
      source: Region(offset: source.offset, strides: order.map { source.strides[$0] }),
      target: Region(offset: target.offset, strides: order.map { target.strides[$0] }))
  }
}

/// Row-major strides, in elements.
func rowMajorStrides(_ shape: [Int]) -> [Int] {
  var result = [Int](repeating: 1, count: shape.count)
  for axis in stride(from: shape.count - 2, through: 0, by: -1) {
    result[axis] = result[axis + 1] * shape[axis + 1]
  }
  return result
}

/// Calls `body` with the source's and target's place of each entry of the `outer` first axes of a move in
/// `range`.
private func forEachPlace(
  _ move: Move, outer: Int, in range: Range<Int>, _ body: (_ source: Int, _ target: Int) -> Void
) {
  guard !range.isEmpty else { return }
  var index = [Int](repeating: 0, count: outer)
  var (source, target) = (move.source.offset, move.target.offset)
  var rest = range.lowerBound
  for axis in stride(from: outer - 1, through: 0, by: -1) {
    index[axis] = rest % move.shape[axis]
    rest /= move.shape[axis]
    source += index[axis] * move.source.strides[axis]
    target += index[axis] * move.target.strides[axis]
  }
  for _ in range {
    body(source, target)
    for axis in stride(from: outer - 1, through: 0, by: -1) {
      index[axis] += 1
      source += move.source.strides[axis]
      target += move.target.strides[axis]
      if index[axis] < move.shape[axis] { break }
      source -= index[axis] * move.source.strides[axis]
      target -= index[axis] * move.target.strides[axis]
      index[axis] = 0
    }
  }
}

// MARK: - Copying

extension Move {
  /// The most axes that a kernel walks over.
  private static let mostAxes = 16

  /// Copies elements; both views hold elements of one size.
  func copy(_ from: View, to: View, _ pool: any WorkPool) {
    let move = coalesced
    guard move.shape.count > Self.mostAxes else {
      return Kernel.copy(
        shape: move.shape, from: from, offset: move.source.offset, strides: move.source.strides, to: to,
        toOffset: move.target.offset, toStrides: move.target.strides, pool: pool)
    }
    for index in 0..<move.shape[0] { move.entry(index).copy(from, to: to, pool) }
  }

  /// The move of entry `index` of the outermost axis.
  private func entry(_ index: Int) -> Move {
    func inner(_ region: Region) -> Region {
      Region(offset: region.offset + index * region.strides[0], strides: Array(region.strides.dropFirst()))
    }
    return Move(shape: Array(shape.dropFirst()), source: inner(source), target: inner(target))
  }
}

// MARK: - Adding

extension Move {
  /// About how many elements one task adds.
  private static let grain = 1 << 15

  /// Adds the source's elements to the target's, several to one where a target's stride is zero. Both are
  /// `f32` or `f64`.
  func add(_ from: View, to: View, _ pool: any WorkPool) {
    if from.element == .f64 {
      add(from.f64, to.f64, pool)
    } else {
      add(from.f32, to.f32, pool)
    }
  }

  private func add<T: BinaryFloatingPoint & SIMDScalar>(
    _ from: UnsafeMutablePointer<T>, _ to: UnsafeMutablePointer<T>, _ pool: any WorkPool
  ) {
    guard count > 0 else { return }
    // Axes that several tasks may share come first, then those that are summed, last the one whose targets lie
    // closest.
    let move = coalesced
    var kept = move.shape.indices.filter { move.target.strides[$0] != 0 }
    let summed = move.shape.indices.filter { move.target.strides[$0] == 0 }
    let near = kept.indices.min {
      move.target.strides[kept[$0]].magnitude < move.target.strides[kept[$1]].magnitude
    }.map { kept.remove(at: $0) }
    let (columns, sourceStep, targetStep) =
      near.map { (move.shape[$0], move.source.strides[$0], move.target.strides[$0]) } ?? (1, 0, 0)
    let outer = move.permuted(kept)
    let inner = move.permuted(summed)
    let (outerCount, innerCount) = (outer.count, inner.count)
    let width = min(columns, 1024)
    let across = (columns + width - 1) / width
    let perTask = max(1, Self.grain / max(1, width * innerCount))
    let units = outerCount * across
    pool.run(tasks: (units + perTask - 1) / perTask) { task, _ in
      for unit in task * perTask..<min((task + 1) * perTask, units) {
        let (place, piece) = (unit / across, unit % across)
        let first = piece * width
        let length = min(width, columns - first)
        forEachPlace(outer, outer: outer.shape.count, in: place..<place + 1) { source, target in
          let base = to + target + first * targetStep
          if innerCount == 1 {
            let row = from + source + first * sourceStep
            for column in 0..<length { base[column &* targetStep] += row[column &* sourceStep] }
            return
          }
          var sums = inner
          sums.source.offset = source + first * sourceStep
          sums.target.offset = 0
          if length == 1 {
            var sum: T = 0
            forEachPlace(sums, outer: sums.shape.count, in: 0..<innerCount) { at, _ in sum += from[at] }
            base[0] += sum
          } else {
            forEachPlace(sums, outer: sums.shape.count, in: 0..<innerCount) { at, _ in
              let row = from + at
              for column in 0..<length { base[column &* targetStep] += row[column &* sourceStep] }
            }
          }
        }
      }
    }
  }
}

// MARK: - Known values

extension Move {
  /// Copies known values.
  func copy<T>(_ from: [T], to: inout [T]) {
    guard count > 0 else { return }
    forEachPlace(self, outer: shape.count, in: 0..<count) { source, target in to[target] = from[source] }
  }
}
