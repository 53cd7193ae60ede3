internal import VitIR

/// What the type rules of the vit.* operations share.
extension Operands {
  /// Operand `index`, which must be there, hold computed floats and have at least `rank` axes.
  func float(_ index: Int, _ role: String, rank: ClosedRange<Int> = 0...64) throws(VitError) -> TensorType {
    let type = try type(index, role)
    guard type.element == .f32 || type.element == .f64 else {
      throw VitError("'\(role)' is \(type), expected floating-point numbers", code: "operand-type")
    }
    guard rank.contains(type.rank) else {
      let wanted = rank.lowerBound == rank.upperBound ? "\(rank.lowerBound)" : "at least \(rank.lowerBound)"
      throw VitError("'\(role)' is \(type), expected \(wanted) axes", code: "operand-shape")
    }
    return type
  }

  /// Throws unless operand `index` is there and is just of this type.
  func expect(_ index: Int, _ role: String, _ expected: TensorType) throws(VitError) {
    let type = try type(index, role)
    guard type == expected else {
      throw VitError("'\(role)' is \(type), expected \(expected)", code: "operand-shape")
    }
  }

  /// Throws unless operand `index` is absent or just of this type.
  func expectOptional(_ index: Int, _ role: String, _ expected: TensorType) throws(VitError) {
    note(index, role)
    if has(index) { try expect(index, role, expected) }
  }

  /// Throws unless one result is wanted.
  func expectOneResult() throws(VitError) {
    guard resultCount == 1 else {
      throw VitError("expected 1 result, found \(resultCount)", code: "result-count")
    }
  }

  /// Bytes of the operands and of `results`, each counted once.
  func bytes(_ results: [TensorType]) -> Int {
    (types.compactMap { $0 } + results).reduce(0) { $0 + $1.count * $1.element.size }
  }
}

extension TensorType {
  /// The same elements along other axes.
  func with(_ shape: Shape) -> TensorType { TensorType(element, shape) }

  /// The product of all extents but the last of a concrete type.
  var rows: Int { extents.dropLast().reduce(1, *) }

  /// The last extent of a concrete type; 1 for a scalar.
  var width: Int { extents.last ?? 1 }
}
