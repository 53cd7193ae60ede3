internal import VitIR

/// The nodes of two graphs side by side, in the order of the data, whatever they are called and in whatever order a file lists
/// them.
///
/// Nodes that do the same with the same constants are put beside each other first, as many as the order allows (Myers, "An
/// O(ND) difference algorithm and its variations", 1986); between those, nodes of the same operation on constants of the same shapes;
/// and what is left of the same operation alone. So a block that is missing is the one that is missing, and a weight that changed
/// is found where it stands.
struct GraphAlignment {
  /// One place in both.
  enum Row: Equatable {
    /// Nodes that answer each other, by their places in the graphs.
    case pair(Int, Int)
    /// Nodes between such places that nothing answers.
    case gap(a: [Int], b: [Int])
  }

  /// All nodes that outputs depend on.
  let rows: [Row]
  /// For each node of the first graph the one of the second.
  let counterpart: [Int: Int]
  /// The nodes of the second graph that answer one of the first.
  let answers: Set<Int>

  init(_ a: Graph, _ b: Graph) throws {
    let levels: [(Graph, Int) throws -> Int] = [
      { try $0.key(of: $1, withContents: true) }, { try $0.key(of: $1, withContents: false) },
      { graph, node in graph.nodes[node].name.hashValue },
    ]
    var rows = [Row.gap(a: a.nodesByDataflow(), b: b.nodesByDataflow())]
    for key in levels {
      rows = try rows.flatMap { row in
        guard case .gap(let left, let right) = row else { return [row] }
        return GraphAlignment.align(
          left, right, try left.map { try key(a, $0) }, try right.map { try key(b, $0) })
      }
    }
    self.rows = rows
    counterpart = Dictionary(
      uniqueKeysWithValues: rows.compactMap { if case .pair(let x, let y) = $0 { (x, y) } else { nil } })
    answers = Set(counterpart.values)
  }

  /// The nodes of a gap with those of the same key side by side.
  private static func align(_ a: [Int], _ b: [Int], _ keysOfA: [Int], _ keysOfB: [Int]) -> [Row] {
    let pairs = LongestMatch.pairs(keysOfA, keysOfB)
    var rows: [Row] = []
    var (doneA, doneB) = (0, 0)
    func gap(_ endA: Int, _ endB: Int) {
      if doneA < endA || doneB < endB {
        rows.append(.gap(a: Array(a[doneA..<endA]), b: Array(b[doneB..<endB])))
      }
    }
    for (x, y) in pairs {
      gap(x, y)
      rows.append(.pair(a[x], b[y]))
      (doneA, doneB) = (x + 1, y + 1)
    }
    gap(a.count, b.count)
    return rows
  }
}

/// Elements of two sequences that answer each other.
package enum LongestMatch {
  /// The places of equal elements, in order, as many as the order allows.
  package static func pairs<Element: Hashable>(_ a: [Element], _ b: [Element]) -> [(Int, Int)] {
    // What is the same at both ends costs nothing. Of what is between, as many as take a moment to compare.
    let head = zip(a, b).prefix { $0 == $1 }.count
    let tail = zip(a.dropFirst(head).reversed(), b.dropFirst(head).reversed()).prefix { $0 == $1 }.count
    let (x, y) = (Array(a[head..<a.count - tail]), Array(b[head..<b.count - tail]))
    let middle = x.count + y.count <= LongestMatch.most ? LongestMatch.middle(x, y) : []
    return (0..<head).map { ($0, $0) } + middle.map { (head + $0, head + $1) }
      + (0..<tail).map { (a.count - tail + $0, b.count - tail + $0) }
  }

  /// The most elements whose differences are looked for.
  private static let most = 12_000

  private static func middle<Element: Hashable>(_ a: [Element], _ b: [Element]) -> [(Int, Int)] {
    var (gone, come): (Set<Int>, Set<Int>) = ([], [])
    for change in b.difference(from: a) {
      switch change {
      case .remove(let offset, _, _): gone.insert(offset)
      case .insert(let offset, _, _): come.insert(offset)
      }
    }
    return Array(zip(a.indices.filter { !gone.contains($0) }, b.indices.filter { !come.contains($0) }))
  }
}

extension Graph {
  /// A number that is the same for nodes that do the same: the operation, and of constants that it reads the contents, with the
  /// attributes, or the shapes alone.
  fileprivate func key(of place: Int, withContents: Bool) throws -> Int {
    let node = nodes[place]
    var hasher = Hasher()
    hasher.combine(node.name)
    if withContents { hasher.combine(node.operation.attributes.text) }
    for operand in node.operands {
      guard let operand, let tensor = tensor(operand) else {
        hasher.combine(operand == nil)
        continue
      }
      hasher.combine(tensor.shape)
      if withContents, !tensor.isElided { try tensor.storage.withBytes { hasher.combine(bytes: $0) } }
    }
    return hasher.finalize()
  }
}
