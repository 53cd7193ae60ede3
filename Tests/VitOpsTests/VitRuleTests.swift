import Testing
import VitIR
import VitOps

@Suite("type rules of vit.* operations")
struct VitRuleTests {
  private let batch = Dimension.symbol("batch")

  private func types(_ name: String, _ attributes: [(String, Attribute)], _ operands: [TensorType?])
    throws -> [String]
  {
    try Registry.standard.make(name, Attributes(attributes)).resultTypes(Operands(operands)).map(
      \.description)
  }

  private func types(_ name: String, _ operands: [TensorType?]) throws -> [String] {
    try types(name, [], operands)
  }

  private func f32(_ shape: Dimension...) -> TensorType { TensorType(.f32, shape) }

  /// Every operand in turn is removed, given another shape, another rank, another type: each must be refused,
  /// but for the optional ones that are removed.
  private func expectRefusals(
    _ name: String, _ attributes: [(String, Attribute)], _ operands: [TensorType?],
    optional: Set<Int> = [], anyShape: Set<Int> = [], scalars: Set<Int> = []
  ) throws {
    for index in operands.indices {
      guard let type = operands[index] else { continue }
      var wrong: [TensorType?] = [
        TensorType(.i64, type.shape), TensorType(type.element == .f32 ? .f64 : .f32, type.shape),
        TensorType(.f16, type.shape),
      ]
      if !optional.contains(index) { wrong.append(nil) }
      if !anyShape.contains(index) { wrong.append(TensorType(.f32, type.shape.dropLast() + [.fixed(97)])) }
      if type.rank > 0, !scalars.contains(index) { wrong.append(TensorType(.f32, [])) }
      for change in wrong {
        var changed = operands
        changed[index] = change
        #expect(throws: VitError.self, "operand \(index) as \(change.map(\.description) ?? "nothing")") {
          try types(name, attributes, changed)
        }
      }
    }
    #expect(throws: VitError.self) { try types(name, attributes, []) }
    #expect(throws: VitError.self) { try types(name, attributes, operands + [nil, nil, nil, nil]) }
    #expect(throws: VitError.self) { try types(name, attributes + [("colour", .int(1))], operands) }
  }

  @Test("linear maps keep all axes but the last")
  func linear() throws {
    let operands: [TensorType?] = [f32(batch, 5, 6), f32(4, 6), f32(4)]
    #expect(try types("vit.linear", [("activation", .string("gelu"))], operands) == ["f32[batch, 5, 4]"])
    try expectRefusals("vit.linear", [], operands, optional: [2])
    #expect(throws: VitError.self) { try types("vit.linear", [("activation", .string("cubic"))], operands) }
  }

  @Test("a perceptron has the width of its second map")
  func perceptron() throws {
    let operands: [TensorType?] = [f32(batch, 6), f32(8, 6), f32(8), f32(3, 8), f32(3)]
    #expect(try types("vit.mlp", operands) == ["f32[batch, 3]"])
    try expectRefusals("vit.mlp", [], operands, optional: [2, 4])
  }

  @Test("norms, sums and scales keep the type")
  func sameType() throws {
    let norm: [TensorType?] = [f32(batch, 5, 6), f32(6), f32(6)]
    #expect(try types("vit.layer_norm", norm) == ["f32[batch, 5, 6]"])
    try expectRefusals("vit.layer_norm", [], norm, optional: [2])
    let scale: [TensorType?] = [f32(batch, 5, 6), f32(6)]
    #expect(try types("vit.scale", scale) == ["f32[batch, 5, 6]"])
    try expectRefusals("vit.scale", [], scale)
    for b in [f32(batch, 5, 6), f32(1, 5, 6), f32(5, 6), f32(6), f32(1, 1, 6), f32()] {
      #expect(try types("vit.add", [f32(batch, 5, 6), b]) == ["f32[batch, 5, 6]"])
    }
    for b in [f32(5, 1), f32(batch, 1, 6), f32(2, batch, 5, 6), f32(7), TensorType(.f64, [6])] {
      #expect(throws: VitError.self) { try types("vit.add", [f32(batch, 5, 6), b]) }
    }
  }

  @Test("patches of symbolic images are counted by whole divisions")
  func patches() throws {
    let (height, width) = (Dimension.symbol("height"), Dimension.symbol("width"))
    let weight = f32(8, 3, 14, 14)
    #expect(try types("vit.patch_embed", [f32(batch, 3, 28, 43), weight]) == ["f32[batch, 6, 8]"])
    let symbolic = try types("vit.patch_embed", [f32(batch, 3, height, width), weight, f32(8)])
    #expect(symbolic == ["f32[batch, floor(height, 14)*floor(width, 14), 8]"])
    try expectRefusals(
      "vit.patch_embed", [], [f32(batch, 3, 28, 28), weight, f32(8)], optional: [2], anyShape: [0, 1])
    #expect(throws: VitError.self) {
      try types("vit.patch_embed", [f32(batch, 3, 28, 28), f32(8, 3, 0, 14)])
    }
    #expect(throws: VitError.self) { try types("vit.patch_embed", [f32(batch, 4, 28, 28), weight]) }
  }

  @Test("attention's widths follow from its weights")
  func attention() throws {
    let tokens = Dimension.symbol("tokens")
    let attributes: [(String, Attribute)] = [("heads", .int(4)), ("kv_heads", .int(2))]
    let operands: [TensorType?] = [
      f32(batch, tokens, 12), f32(20, 12), f32(20), f32(10, 12), f32(10), f32(6, 12), f32(6), f32(9, 12),
      f32(9),
      f32(batch, 1, 1, tokens),
    ]
    #expect(try types("vit.attention", attributes, operands) == ["f32[batch, tokens, 9]"])
    try expectRefusals("vit.attention", attributes, operands, optional: [2, 4, 6, 8, 9], scalars: [9])
    for wrong in [
      [("heads", 3)], [("heads", 0)], [("heads", 4), ("kv_heads", 3)], [("heads", 4), ("kv_heads", 1)],
    ] {
      #expect(throws: VitError.self) { try types("vit.attention", wrong.map { ($0, .int($1)) }, operands) }
    }
    #expect(throws: VitError.self) {
      try types("vit.attention", attributes + [("head_dim", .int(6))], operands)
    }
    #expect(throws: VitError.self) {
      try types("vit.attention", attributes + [("value_dim", .int(5))], operands)
    }
    #expect(
      try types("vit.attention", attributes + [("value_dim", .int(3)), ("head_dim", .int(5))], operands).count
        == 1)
  }

  @Test("the core takes any number of leading axes")
  func core() throws {
    let operands: [TensorType?] = [
      f32(batch, 3, 4, 5, 8), f32(batch, 3, 2, 7, 8), f32(batch, 3, 2, 7, 6), f32(3, 1, 5, 7),
    ]
    #expect(try types("vit.sdpa", operands) == ["f32[batch, 3, 4, 5, 6]"])
    try expectRefusals("vit.sdpa", [], operands, optional: [3], anyShape: [2], scalars: [3])
    #expect(
      try types("vit.sdpa", [f32(batch, 5, 8), f32(batch, 7, 8), f32(batch, 7, 8)]) == ["f32[batch, 5, 8]"])
    #expect(throws: VitError.self) {
      try types("vit.sdpa", [f32(1, 4, 5, 8), f32(1, 3, 7, 8), f32(1, 3, 7, 8)])
    }
    #expect(throws: VitError.self) {
      try types("vit.sdpa", [f32(2, 4, 5, 8), f32(1, 4, 7, 8), f32(1, 4, 7, 8)])
    }
  }

  @Test("attributes make the same operation again")
  func attributesRoundTrip() throws {
    for (name, attributes) in [
      (
        "vit.attention",
        [("heads", Attribute.int(4)), ("kv_heads", .int(2)), ("scale", .float(0.25)), ("head_dim", .int(3))]
      ),
      ("vit.sdpa", [("scale", .float(2)), ("causal", .bool(true))]),
      ("vit.mlp", [("activation", .string("quick_gelu"))]),
      ("vit.linear", [("activation", .string("hard_swish"))]), ("vit.linear", []),
      ("vit.layer_norm", [("epsilon", .float(1e-3))]),
    ] {
      let operation = try Registry.standard.make(name, Attributes(attributes))
      let again = try Registry.standard.make(name, operation.attributes)
      #expect(again.attributes == operation.attributes)
      for (key, value) in attributes { #expect(operation.attributes[key] == value) }
    }
  }
}
