internal import VitIR
internal import VitOps

/// A sum of linear maps of one value becomes one linear map: adapters of low rank beside a weight, maps side by side.
///
/// The terms may be linear maps of linear maps, times a number or one for each channel, and have vectors added; they become
/// one where that takes no more numbers than their weights have.
enum RaiseSum: Pattern {
  static let name = "linear-sum"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    /// Sums that are terms of others.
    var inner: Set<ValueID> = []
    /// The maps of sums of the same weights.
    var maps: [LinearTerms.Expression: (weight: ValueID, bias: ValueID?)] = [:]
    for node in rewriter.nodes.reversed() where isSum(node) {
      guard let result = node.results.first, !inner.contains(result), rewriter.type(result).element == .f32,
        let terms = LinearTerms(result, rewriter)
      else { continue }
      inner.formUnion(terms.sums)
      rewriter.tryReplace(result, at: terms.first) { builder throws(VitError) in
        var known = maps[terms.expression]
        if known == nil {
          let map = try terms.map(rewriter: builder.graph)
          let weight = builder.graph.addConstant(map.weight, name: terms.name)
          known = (weight, map.bias.map { builder.graph.addConstant($0, name: terms.name + ".bias") })
        }
        maps[terms.expression] = known
        return try builder.add(VitLinear.self, [terms.base, known?.weight, known?.bias])
      }
    }
  }

  fileprivate static func isSum(_ node: Node) -> Bool { node.isAny(Onnx.add, Onnx.sub, VitAdd.self) }
}

/// A value as the sum of linear maps of another one.
private struct LinearTerms {
  /// The value that all terms are maps of.
  let base: ValueID
  /// The first of the maps, in order, and the name of its weight.
  let first: Node
  let name: String
  /// The sums on the way, the outermost included.
  let sums: Set<ValueID>
  let expression: Expression

  /// A value in terms of the base.
  indirect enum Expression: Hashable {
    case base
    case linear(Expression, weight: ValueID, bias: ValueID?)
    case scaled(Expression, ValueID, isDivision: Bool)
    case shifted(Expression, ValueID, factor: Double, negated: Bool)
    case sum(Expression, Expression, factor: Double)
  }

  init?(_ result: ValueID, _ rewriter: Rewriter) {
    for candidate in LinearTerms.candidates(result, rewriter).dropFirst() {
      var maps: [Node] = []
      var sums: Set<ValueID> = []
      guard
        let expression = LinearTerms.expression(
          result, of: candidate, rewriter, isResult: true, maps: &maps, sums: &sums),
        maps.count > 1, let first = maps.first, let weight = first.operands[1],
        let width = rewriter.type(candidate).shape.last?.fixedValue,
        let columns = rewriter.type(result).shape.last?.fixedValue
      else { continue }
      let numbers = maps.reduce(0) { sum, map in
        sum + (map.operands[1].flatMap { rewriter.type($0).elements.fixedValue } ?? 0)
      }
      // Two narrow maps beside each other have fewer numbers than one that is as wide as both.
      guard !sums.isEmpty, width * columns <= numbers, LinearTerms.branches(expression) > 1 else { continue }
      self.expression = expression
      (base, self.first, self.sums) = (candidate, first, sums)
      name = rewriter.graph[weight].name
      return
    }
    return nil
  }

  /// How many maps of the base are added.
  private static func branches(_ expression: Expression) -> Int {
    switch expression {
    case .base: 0
    case .linear(let inner, _, _): max(1, branches(inner))
    case .scaled(let inner, _, _): branches(inner)
    case .shifted(let inner, _, _, _): branches(inner)
    case .sum(let a, let b, _): branches(a) + branches(b)
    }
  }

  /// The values that a value may be a sum of maps of, itself first, nearest first.
  private static func candidates(_ id: ValueID, _ rewriter: Rewriter, depth: Int = 0) -> [ValueID] {
    guard depth < 12, let (_, node) = rewriter.producer(of: id) else { return [id] }
    if let inner = linear(node) ?? scaled(node, rewriter)?.inner {
      return [id] + candidates(inner, rewriter, depth: depth + 1)
    }
    guard RaiseSum.isSum(node), let a = node.operands[0], let b = node.operands[1] else { return [id] }
    if rewriter.constant(b) != nil { return [id] + candidates(a, rewriter, depth: depth + 1) }
    if rewriter.constant(a) != nil { return [id] + candidates(b, rewriter, depth: depth + 1) }
    let others = Set(candidates(b, rewriter, depth: depth + 1))
    return [id] + candidates(a, rewriter, depth: depth + 1).filter(others.contains)
  }

  /// What a linear map without function maps.
  private static func linear(_ node: Node) -> ValueID? {
    guard let operation = node.operation as? VitLinear, operation.activation == .none else { return nil }
    return node.operands[0]
  }

  /// A value times a constant number, or one for each channel.
  private static func scaled(_ node: Node, _ rewriter: Rewriter) -> (inner: ValueID, factor: ValueID)? {
    guard node.isAny(Onnx.mul, Onnx.div, VitScale.self), let a = node.operands[0], let b = node.operands[1]
    else { return nil }
    if isVector(b, like: a, rewriter) { return (a, b) }
    if !node.isAny(Onnx.div), isVector(a, like: b, rewriter) { return (b, a) }
    return nil
  }

  /// Whether a constant is one number, or one for each channel of `value`.
  private static func isVector(_ id: ValueID, like value: ValueID, _ rewriter: Rewriter) -> Bool {
    guard let tensor = rewriter.constant(id), rewriter.constant(value) == nil, tensor.element.isFloat,
      tensor.shape.count <= rewriter.type(value).rank
    else { return false }
    return tensor.count == 1
      || tensor.shape.last == tensor.count
        && rewriter.type(value).shape.last == .fixed(tensor.count)
  }

  private static func expression(
    _ id: ValueID, of base: ValueID, _ rewriter: Rewriter, isResult: Bool, depth: Int = 0,
    maps: inout [Node], sums: inout Set<ValueID>
  ) -> Expression? {
    if id == base { return .base }
    guard depth < 12, let (_, node) = rewriter.producer(of: id) else { return nil }
    if let inner = linear(node), let weight = node.operands[1], rewriter.constant(weight) != nil,
      isResult || rewriter.users(of: id).count == 1
    {
      let bias = node.operands.count > 2 ? node.operands[2] : nil
      guard bias.map({ rewriter.constant($0) != nil }) ?? true,
        let rest = expression(
          inner, of: base, rewriter, isResult: false, depth: depth + 1, maps: &maps, sums: &sums)
      else { return nil }
      maps.append(node)
      return .linear(rest, weight: weight, bias: bias)
    }
    guard isResult || rewriter.isUsedOnce(id) else { return nil }
    if let (inner, factor) = scaled(node, rewriter) {
      return expression(
        inner, of: base, rewriter, isResult: false, depth: depth + 1, maps: &maps, sums: &sums
      ).map { .scaled($0, factor, isDivision: node.isAny(Onnx.div)) }
    }
    guard RaiseSum.isSum(node), let a = node.operands[0], let b = node.operands[1] else { return nil }
    let isDifference = node.isAny(Onnx.sub)
    func part(_ id: ValueID, _ maps: inout [Node], _ sums: inout Set<ValueID>) -> Expression? {
      let part = expression(
        id, of: base, rewriter, isResult: false, depth: depth + 1, maps: &maps, sums: &sums)
      // The value itself beside maps of it is a residual.
      return part.flatMap { branches($0) > 0 ? $0 : nil }
    }
    sums.insert(id)
    if isVector(b, like: a, rewriter) {
      return part(a, &maps, &sums).map { .shifted($0, b, factor: isDifference ? -1 : 1, negated: false) }
    }
    if isVector(a, like: b, rewriter) {
      return part(b, &maps, &sums).map { .shifted($0, a, factor: 1, negated: isDifference) }
    }
    guard rewriter.type(a).shape == rewriter.type(b).shape, let x = part(a, &maps, &sums),
      let y = part(b, &maps, &sums)
    else { return nil }
    return .sum(x, y, factor: isDifference ? -1 : 1)
  }

  // MARK: Numbers

  /// Rows of a weight, and what is added; without weight the value itself.
  private struct Numbers {
    var weight: [Double]?
    var bias: [Double]?
    var rows: Int
    var factor = 1.0
  }

  /// The one map that all are.
  func map(rewriter graph: Graph) throws(VitError) -> (weight: Tensor, bias: Tensor?) {
    let width = graph.type(base).shape.last?.fixedValue ?? 0
    let numbers = try rethrowing { try LinearTerms.numbers(expression, graph, width: width) }
    guard let weight = numbers.weight else { throw VitError("expected a linear map") }
    return (
      Tensor(.f32, shape: [numbers.rows, width], values: weight),
      numbers.bias.map { Tensor(.f32, shape: [numbers.rows], values: $0) }
    )
  }

  private static func numbers(_ expression: Expression, _ graph: Graph, width: Int) throws -> Numbers {
    func constant(_ id: ValueID, _ count: Int) throws -> [Double] {
      guard let values = try graph.tensor(id)?.doubles(), values.count == count || values.count == 1 else {
        throw VitError("expected \(count) constant numbers")
      }
      return values.count == count ? values : Array(repeating: values[0], count: count)
    }
    switch expression {
    case .base: return Numbers(rows: width)
    case .linear(let inner, let weight, let bias):
      let inner = try numbers(inner, graph, width: width)
      guard let tensor = graph.tensor(weight), tensor.shape.count == 2, tensor.shape[1] == inner.rows else {
        throw VitError("expected a weight of \(inner.rows) columns")
      }
      let (rows, matrix) = (tensor.shape[0], try tensor.doubles())
      var result = Numbers(weight: matrix, bias: try bias.map { try constant($0, rows) }, rows: rows)
      if let weight = inner.weight {
        result.weight = product(matrix, weight, rows: rows, inner: inner.rows, columns: width)
      }
      if let added = inner.bias {
        let moved = product(matrix, added, rows: rows, inner: inner.rows, columns: 1)
        result.bias = result.bias.map { zip($0, moved).map(+) } ?? moved
      }
      if inner.factor != 1 { result.weight = result.weight?.map { $0 * inner.factor } }
      return result
    case .scaled(let inner, let factor, let isDivision):
      var result = try numbers(inner, graph, width: width)
      let factors = try constant(factor, result.rows).map { isDivision ? 1 / $0 : $0 }
      guard result.weight != nil else {
        guard factors.allSatisfy({ $0 == factors[0] }) else { throw VitError("expected one factor") }
        result.factor *= factors.first ?? 1
        return result
      }
      result.weight = result.weight?.enumerated().map { $0.element * factors[$0.offset / width] }
      result.bias = result.bias.map { zip($0, factors).map(*) }
      return result
    case .shifted(let inner, let vector, let factor, let negated):
      var result = try numbers(inner, graph, width: width)
      if negated {
        result.weight = result.weight?.map { -$0 }
        result.bias = result.bias?.map { -$0 }
      }
      let added = try constant(vector, result.rows).map { $0 * factor }
      result.bias = result.bias.map { zip($0, added).map(+) } ?? added
      return result
    case .sum(let a, let b, let factor):
      var result = try numbers(a, graph, width: width)
      let other = try numbers(b, graph, width: width)
      guard let x = result.weight, let y = other.weight, result.rows == other.rows else {
        throw VitError("expected maps of one width")
      }
      result.weight = zip(x, y).map { $0 + factor * $1 }
      if let added = other.bias?.map({ $0 * factor }) {
        result.bias = result.bias.map { zip($0, added).map(+) } ?? added
      }
      return result
    }
  }

  /// The product of matrices, row by row.
  private static func product(
    _ a: [Double], _ b: [Double], rows: Int, inner: Int, columns: Int
  ) -> [Double] {
    var result = [Double](repeating: 0, count: rows * columns)
    for row in 0..<rows {
      for step in 0..<inner {
        let factor = a[row * inner + step]
        for column in 0..<columns { result[row * columns + column] += factor * b[step * columns + column] }
      }
    }
    return result
  }
}
