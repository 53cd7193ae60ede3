internal import VitIR
internal import VitRuntime

/// Means over the places that tokens stand for, and their gradient.
struct PlaceMeans {
  /// What stands for each place afterwards, and before.
  let table, before: PlaceTable
  /// For each image where the places of each token begin in the list of places that follows.
  private let memory: View

  /// Means by `table` of what `before` names; `memory` is of `memoryType`.
  init(_ table: PlaceTable, of before: PlaceTable, memory: View) {
    self.table = table
    self.before = before
    self.memory = memory
  }

  /// The memory that it takes.
  static func memoryType(images: Int, tokens: Int, places: Int) -> TensorType {
    TensorType(.i64, fixed: [images, tokens + 2 + places])
  }

  /// The places of an image by token, in order: those of token `t` are `list[starts[t]..<starts[t + 1]]`.
  private func lists(
    _ image: Int
  ) -> (starts: UnsafeMutablePointer<Int64>, list: UnsafeMutablePointer<Int64>) {
    let starts = memory.image(image).i64
    return (starts, starts + table.tokens + 2)
  }

  /// Writes them.
  private func sort(_ image: Int) {
    let (starts, list) = lists(image)
    for token in 0..<table.tokens + 2 { starts[token] = 0 }
    // Counted two behind, summed, and moved up to one behind while the list is filled.
    for place in 0..<table.places {
      if let token = table.token(image, place) { starts[token + 2] += 1 }
    }
    for token in 0..<table.tokens { starts[token + 2] += starts[token + 1] }
    for place in 0..<table.places {
      guard let token = table.token(image, place) else { continue }
      list[Int(starts[token + 1])] = Int64(place)
      starts[token + 1] += 1
    }
  }

  /// `y ← ` the means of `x`, `[images, …, width]`; a token without places is zero.
  func mean(_ x: View, into y: View, pool: any WorkPool) {
    // Some tasks for each image: a single one has all threads for itself.
    let pieces = max(1, min(8, table.tokens * y.shape[2] / 8192))
    pool.run(tasks: y.shape[0]) { image, _ in sort(image) }
    pool.run(tasks: y.shape[0] * pieces) { task, _ in
      let (image, piece) = (task / pieces, task % pieces)
      let tokens = table.tokens * piece / pieces..<table.tokens * (piece + 1) / pieces
      if y.element == .f64 {
        mean(image, tokens, x, y, Double.self)
      } else {
        mean(image, tokens, x, y, Float.self)
      }
    }
  }

  private func mean<T: Real>(_ image: Int, _ tokens: Range<Int>, _ x: View, _ y: View, _ type: T.Type) {
    let width = y.shape[2]
    let (from, to) = (x.image(image).pointer(as: T.self), y.image(image).pointer(as: T.self))
    let (starts, list) = lists(image)
    for token in tokens {
      let row = to + token &* width
      guard token >= table.prefix else {
        row.update(from: from + token &* width, count: width)
        continue
      }
      let range = Int(starts[token])..<Int(starts[token + 1])
      if range.count == 1, let source = before.token(image, Int(list[range.lowerBound])) {
        row.update(from: from + source &* width, count: width)
        continue
      }
      let share = 1 / Double(max(1, range.count))
      for channel in 0..<width {
        var sum = 0.0
        for entry in range {
          guard let source = before.token(image, Int(list[entry])) else { continue }
          sum += Double(from[source &* width &+ channel])
        }
        row[channel] = T(sum * share)
      }
    }
  }

  /// Adds to the gradient of each token of `x` those of the means that it is part of.
  func addGradient(_ dy: View, to dx: View, pool: any WorkPool) {
    pool.run(tasks: dy.shape[0]) { image, _ in
      if dy.element == .f64 {
        spread(image, dy, dx, Double.self)
      } else {
        spread(image, dy, dx, Float.self)
      }
    }
  }

  private func spread<T: Real>(_ image: Int, _ dy: View, _ dx: View, _ type: T.Type) {
    let width = dy.shape[2]
    let (from, to) = (dy.image(image).pointer(as: T.self), dx.image(image).pointer(as: T.self))
    for index in 0..<table.prefix * width { to[index] += from[index] }
    sort(image)
    let (starts, list) = lists(image)
    for token in table.prefix..<table.tokens {
      let range = Int(starts[token])..<Int(starts[token + 1])
      let share = T(1 / Double(max(1, range.count)))
      let row = from + token &* width
      for entry in range {
        guard let source = before.token(image, Int(list[entry])) else { continue }
        let target = to + source &* width
        for channel in 0..<width { target[channel] += share * row[channel] }
      }
    }
  }
}
