internal import VitIR
internal import VitOps

/// A convolution whose steps are its kernel, flattened to rows of patches, becomes `vit.patch_embed`.
enum RaisePatchEmbed: Pattern {
  static let name = "patch-embed"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    let layouts = LayoutAnalysis(rewriter.graph)
    for (index, node) in rewriter.nodes.enumerated() where node.isAny(Onnx.conv) {
      guard let image = node.operands[0], let weight = node.operands[1], let map = node.results.first,
        rewriter.type(map).rank == 4, rewriter.type(map).element == .f32, rewriter.constant(weight) != nil,
        isPatching(node, rewriter)
      else { continue }
      let shape = rewriter.type(map).shape
      let axes = layouts[map].axes
      // The value further down that is the map as [batch, rows·columns, width].
      let wanted = [
        Layout.normalised(axes[0]), Layout.normalised(axes[2] + axes[3]), Layout.normalised(axes[1]),
      ]
      guard
        let tokens = descendant(
          of: index, rewriter,
          where: { id in
            let layout = layouts[id]
            return layout.source == map && layout.scale == 1 && layout.axes.map(Layout.normalised) == wanted
              && rewriter.type(id).shape == [shape[0], shape[2] * shape[3], shape[1]]
          })
      else { continue }
      let bias = node.operands.count > 2 ? node.operands[2] : nil
      rewriter.tryReplace(tokens, at: node) { builder throws(VitError) in
        try builder.add(VitPatchEmbed.self, [image, weight, bias])
      }
    }
  }

  private static func isPatching(_ node: Node, _ rewriter: Rewriter) -> Bool {
    guard let weight = node.operands[1], let kernel = rewriter.type(weight).fixedShapeTail(2),
      let image = node.operands[0],
      let map = node.results.first
    else { return false }
    func ints(_ name: String) -> [Int]? {
      if case .ints(let values)? = node.operation.attributes[name] { values } else { nil }
    }
    func int(_ name: String) -> Int? {
      if case .int(let value)? = node.operation.attributes[name] { value } else { nil }
    }
    let (inputShape, outputShape) = (rewriter.type(image).shape, rewriter.type(map).shape)
    let fits = zip(kernel, 2...3).allSatisfy { size, axis in
      outputShape[axis] * .fixed(size) == inputShape[axis]
        || inputShape[axis].floorDivided(by: .fixed(size)) == outputShape[axis]
    }
    return ints("strides") == kernel && (ints("pads") ?? []).allSatisfy { $0 == 0 }
      && (ints("dilations") ?? []).allSatisfy { $0 == 1 } && (int("group") ?? 1) == 1 && fits
  }

  /// The first value below a node, through operations with one reader that only move elements, that fits.
  private static func descendant(
    of index: Int, _ rewriter: Rewriter, where fits: (ValueID) -> Bool
  ) -> ValueID? {
    var value = rewriter.nodes[index].results.first
    for _ in 0..<6 {
      guard let id = value else { return nil }
      if fits(id) { return id }
      guard let next = rewriter.onlyUser(of: id) else { return nil }
      value = next.node.results.first
    }
    return nil
  }
}

extension TensorType {
  /// The last `count` extents, where they are numbers.
  func fixedShapeTail(_ count: Int) -> [Int]? {
    guard shape.count >= count else { return nil }
    let tail = shape.suffix(count).compactMap(\.fixedValue)
    return tail.count == count ? tail : nil
  }
}

/// Two linear maps with an activation between them become `vit.mlp`.
enum RaiseMLP: Pattern {
  static let name = "mlp"

  static func sweep(_ rewriter: inout Rewriter) throws(VitError) {
    for node in rewriter.nodes where node.isAny(VitLinear.self) {
      guard let hidden = node.operands[0], let result = node.results.first, rewriter.isUsedOnce(hidden),
        let (_, middle) = rewriter.producer(of: hidden), let activation = activation(middle),
        let inner = middle.operands[0], rewriter.isUsedOnce(inner),
        let first = rewriter.node(VitLinear.self, defining: inner), !hasActivation(first),
        !hasActivation(node)
      else { continue }
      func bias(_ node: Node) -> ValueID? { node.operands.count > 2 ? node.operands[2] : nil }
      rewriter.tryReplace(result, at: first) { builder throws(VitError) in
        try builder.add(
          VitMLP.self, [first.operands[0], first.operands[1], bias(first), node.operands[1], bias(node)],
          [("activation", .string(activation))])
      }
    }
  }

  private static func hasActivation(_ node: Node) -> Bool {
    if case .string(let name)? = node.operation.attributes["activation"] { name != "none" } else { false }
  }

  private static func activation(_ node: Node) -> String? {
    switch node.name {
    case Onnx.gelu.name:
      if case .string("tanh")? = node.operation.attributes["approximate"] { return "gelu_tanh" }
      return "gelu"
    case Microsoft.gelu.name: return "gelu"
    case Microsoft.fastGelu.name where node.operands.count == 1: return "gelu_tanh"
    case Onnx.relu.name: return "relu"
    case Microsoft.quickGelu.name:
      if case .float(let alpha)? = node.operation.attributes["alpha"] {
        if alpha == 1 { return "silu" }
        if abs(alpha - 1.702) < 1e-6 { return "quick_gelu" }
      }
      return nil
    default: return nil
    }
  }
}
