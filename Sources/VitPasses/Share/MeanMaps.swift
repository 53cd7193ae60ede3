internal import VitIR
internal import VitRuntime

/// The mean attention maps of layers over samples, head by head.
struct MeanMaps {
  /// For each layer, by its number, the sum of each head's maps, `[heads][queries · keys]`.
  private var sums: [Int: [[Double]]] = [:]
  /// The tokens that each row has numbers for.
  private var columns: [Int: Int] = [:]

  /// Runs a model on so many samples, spread over the data.
  init(_ hybrid: Hybrid, of layers: [Layer], images: Int, context: PassContext) throws {
    let tap = try MapTap(hybrid.graph, layers: layers, registry: context.registry)
    let tapped = zip(layers, tap.maps).compactMap { layer, map in map.map { (layer.index, $0) } }
      .filter { tap.graph.type($0.1).rank == 4 }
    guard !tapped.isEmpty else { return }
    var sums: [[[Double]]] = tapped.map { _ in [] }
    var columns = tapped.map { _ in 0 }
    try TeacherTap.each(
      tap.graph, values: tapped.map(\.1), images: images, for: Share.name, context: context
    ) { views in
      for (place, view) in views.enumerated() {
        let (batch, heads, size) = (view.shape[0], view.shape[1], view.shape[2] * view.shape[3])
        columns[place] = view.shape[3]
        if sums[place].isEmpty {
          sums[place] = [[Double]](repeating: [Double](repeating: 0, count: size), count: heads)
        }
        for (head, image) in (0..<heads).flatMap({ head in (0..<batch).map { (head, $0) } }) {
          let map = view.f32 + (image * heads + head) * size
          for index in 0..<size { sums[place][head][index] += Double(map[index]) }
        }
      }
    }
    for (place, sum) in zip(tapped, sums) { self.sums[place.0] = sum }
    for (place, count) in zip(tapped, columns) { self.columns[place.0] = count }
  }

  /// The sum of each head's maps, row by row of so many columns; `nil` where a layer has none.
  func heads(of layer: Int) -> [(map: [Double], columns: Int)]? {
    sums[layer]?.map { ($0, columns[layer] ?? 0) }
  }

  /// Pearson's correlation of the mean maps of two layers, the mean over heads in their order; `nil` where one is not known or they
  /// have other sizes.
  func correlation(_ a: Int, _ b: Int) -> Double? {
    guard let first = sums[a], let second = sums[b], first.map(\.count) == second.map(\.count), !first.isEmpty
    else { return nil }
    return zip(first, second).reduce(0) { $0 + MeanMaps.pearson($1.0, $1.1) } / Double(first.count)
  }

  /// Pearson's correlation of two lists; of those that do not vary 1 where they are equal, else 0.
  private static func pearson(_ a: [Double], _ b: [Double]) -> Double {
    let count = Double(max(a.count, 1))
    let (meanA, meanB) = (a.reduce(0, +) / count, b.reduce(0, +) / count)
    var (product, squareA, squareB) = (0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      product += (x - meanA) * (y - meanB)
      squareA += (x - meanA) * (x - meanA)
      squareB += (y - meanB) * (y - meanB)
    }
    let scale = (squareA * squareB).squareRoot()
    return scale > 0 ? product / scale : a == b ? 1 : 0
  }
}
