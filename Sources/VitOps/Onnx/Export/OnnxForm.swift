public import VitIR

/// A node as a file of one version of the standard operators has it.
public struct OnnxForm: Sendable {
  /// What a node reads.
  public enum Operand: Sendable {
    /// A value of the graph; `nil` for nothing.
    case value(ValueID?)
    /// Numbers that are an attribute in vitc's form.
    case constant(Tensor)
  }

  /// The operator.
  public private(set) var type: String
  /// Its attributes, by name; truth values are 0 and 1 in a file.
  public private(set) var attributes: [(name: String, value: Attribute)]
  /// An attribute that is a tensor.
  public private(set) var tensor: (name: String, value: Tensor)?
  /// What it reads; nothing at the end is left out.
  public private(set) var operands: [Operand]
  /// What it gives must be brought into the type that the value has: the operator gives another.
  public private(set) var needsCast = false

  /// The versions that are written.
  public static let versions = 13...24

  /// The form of a node in version `opset`. Throws where there is none: the operator is no standard one, or came later.
  public init(_ node: Node, in graph: Graph, opset: Int) throws(VitError) {
    guard let type = OnnxForm.standardType(of: node) else {
      throw OnnxForm.none(node, "is no standard operator")
    }
    (self.type, operands) = (type, node.operands.map(Operand.value))
    attributes = node.operation.attributes.entries.filter { !OnnxForm.isAbsent($0.value) }
    if let since = OnnxVersions.operators[type], since > opset {
      throw OnnxForm.none(node, "is in the standard since version \(since)", opset: since)
    }
    try moveAxes(node, graph, opset)
    try moveOthers(node, graph, opset)
    let later = OnnxVersions.attributes[type] ?? [:]
    for (name, value) in attributes {
      guard let entry = later[name], entry.since > opset else { continue }
      guard value == entry.neutral else {
        throw OnnxForm.none(
          node, "with '\(name)' is in the standard since version \(entry.since)", opset: entry.since)
      }
      self[name] = nil
    }
    while case .value(nil)? = operands.last { operands.removeLast() }
  }

  /// The standard operator that a node is; `nil` where it is none.
  public static func standardType(of node: Node) -> String? {
    let parts = node.name.split(separator: ".", maxSplits: 1)
    guard parts.count == 2, parts[0] == "onnx" else { return nil }
    let type = String(parts[1])
    return OnnxVersions.unknown.contains(type) ? nil : type
  }

  private static func isAbsent(_ value: Attribute) -> Bool {
    switch value {
    case .ints(let list): list.isEmpty
    case .floats(let list): list.isEmpty
    case .strings(let list): list.isEmpty
    default: false
    }
  }

  private static func none(_ node: Node, _ why: String, opset: Int? = nil) -> VitError {
    VitError(
      "\(node.name) \(why)", code: opset == nil ? "operator-not-standard" : "opset-too-old",
      location: node.location, help: opset.map { "write version \($0) or later" })
  }

  private subscript(name: String) -> Attribute? {
    get { attributes.first { $0.name == name }?.value }
    set {
      attributes.removeAll { $0.name == name }
      if let newValue { attributes.append((name, newValue)) }
    }
  }

  private func operand(_ index: Int) -> ValueID? {
    guard index < operands.count, case .value(let id) = operands[index] else { return nil }
    return id
  }

  private mutating func set(_ index: Int, _ operand: Operand) {
    while operands.count <= index { operands.append(.value(nil)) }
    operands[index] = operand
  }

  /// Axes, which are an operand in newer versions and an attribute in older ones.
  private mutating func moveAxes(_ node: Node, _ graph: Graph, _ opset: Int) throws(VitError) {
    guard let areOperand = OnnxVersions.axesAreOperand(type, opset: opset) else { return }
    if areOperand {
      if case .ints(let axes)? = self["axes"] {
        set(1, .constant(Tensor(shape: [axes.count], integers: axes)))
      }
      self["axes"] = nil
      return
    }
    if let id = operand(1) {
      guard let axes = try? graph.tensor(id)?.integers() else {
        throw OnnxForm.none(node, "with computed axes is in the standard since version 18", opset: 18)
      }
      self["axes"] = axes.isEmpty ? nil : .ints(axes)
      operands.removeLast(operands.count - 1)
    }
    if self["noop_with_empty_axes"] == .bool(true), self["axes"] == nil {
      (type, attributes) = ("Identity", [])
    }
    self["noop_with_empty_axes"] = nil
  }

  /// What else is written otherwise than vitc's operations have it.
  private mutating func moveOthers(_ node: Node, _ graph: Graph, _ opset: Int) throws(VitError) {
    let result = node.results.first.map { graph.type($0).element }
    switch type {
    case "Softmax", "LogSoftmax", "Hardmax": try moveSoftmax(node, graph)
    case "Split":
      if case .ints(let sizes)? = self["split"] {
        set(1, .constant(Tensor(shape: [sizes.count], integers: sizes)))
      }
      self["split"] = nil
      if operands.count > 1 { self["num_outputs"] = nil }
      if operands.count == 1, opset >= 18, self["num_outputs"] == nil {
        self["num_outputs"] = .int(node.results.count)
      }
      if opset < 18, case .int(let count)? = self["num_outputs"] { try splitEvenly(count, node, graph) }
    case "Clip":
      for (place, name) in ["min", "max"].enumerated() {
        if case .float(let bound)? = self[name], let result {
          set(place + 1, .constant(Tensor(result, shape: [], values: [bound])))
        }
        self[name] = nil
      }
    case "Dropout":
      if case .float(let ratio)? = self["ratio"] {
        set(1, .constant(Tensor(.f32, shape: [], values: [ratio])))
      }
      self["ratio"] = nil
    case "ConstantOfShape":
      var number = 0.0
      if case .float(let value)? = self["value"] { number = value }
      tensor = ("value", Tensor(result ?? .f32, shape: [1], values: [number]))
      (self["value"], self["element"]) = (nil, nil)
    case "Col2Im": (self["kernel_shape"], self["auto_pad"]) = (nil, nil)
    case "GroupNormalization":
      guard self["scale_per_group"] != .bool(true) else {
        throw OnnxForm.none(node, "with a scale for each group is in no version any more")
      }
      self["scale_per_group"] = nil
    case "Attention":
      for name in ["left_window_size", "right_window_size"] {
        guard self[name] ?? .int(-1) == .int(-1) else {
          throw OnnxForm.none(node, "with windows is no standard operator")
        }
        self[name] = nil
      }
    case "SpaceToDepth":
      guard self["mode"] ?? .string("DCR") == .string("DCR") else {
        throw OnnxForm.none(node, "in another order is no standard operator")
      }
      self["mode"] = nil
    case "Upsample":
      // What Resize does by another name since version 10.
      guard operands.count > 1 else { throw OnnxForm.none(node, "without scales is in no version any more") }
      type = "Resize"
      operands = [operands[0], .value(nil), operands[1]]
      self["coordinate_transformation_mode"] = .string("asymmetric")
      if self["mode"] == .string("nearest") { self["nearest_mode"] = .string("floor") }
    case "Resize":
      if self["scales_first"] == .bool(true), operands.count == 2 {
        operands = [operands[0], .value(nil), operands[1]]
      }
      self["scales_first"] = nil
    case "Pad" where operands.count > 3 && opset < 18: try padAllAxes(node, graph)
    case "Cast", "EyeLike": moveType(graph, node)
    case "QuantizeLinear", "DequantizeLinear":
      // What has 16 bits is computed in 64, of which the standard knows nothing here.
      let quantised = type == "QuantizeLinear" ? result : operand(0).map { graph.type($0).element }
      guard [.i8, .u8, .i32].contains(quantised) else {
        throw OnnxForm.none(node, "of 16 bits is not written")
      }
    default: break
    }
  }

  /// A softmax over several axes as one, as versions before 13 had it, is one over the last where that is the only one.
  private mutating func moveSoftmax(_ node: Node, _ graph: Graph) throws(VitError) {
    if self["coerce2d"] == .bool(true), let id = operand(0) {
      var axis = -1
      if case .int(let value)? = self["axis"] { axis = value }
      let rank = graph.type(id).rank
      guard axis == -1 || axis == rank - 1 else {
        throw OnnxForm.none(node, "over several axes at once was not taken apart")
      }
    }
    self["coerce2d"] = nil
  }

  /// The sizes of equal parts, which older versions cannot be asked for if the last is smaller.
  private mutating func splitEvenly(_ count: Int, _ node: Node, _ graph: Graph) throws(VitError) {
    self["num_outputs"] = nil
    var axis = 0
    if case .int(let value)? = self["axis"] { axis = value }
    guard let id = operand(0) else { return }
    let rank = graph.type(id).rank
    let place = axis < 0 ? axis + rank : axis
    guard place >= 0, place < rank, let extent = graph.type(id).shape[place].fixedValue else { return }
    let size = (extent + count - 1) / max(1, count)
    let sizes = (0..<count).map { min(size, extent - $0 * size) }
    set(1, .constant(Tensor(shape: [count], integers: sizes)))
  }

  /// The numbers of rows for all axes, which older versions want in place of those for some.
  private mutating func padAllAxes(_ node: Node, _ graph: Graph) throws(VitError) {
    guard let x = operand(0), let pads = try? operand(1).flatMap(graph.tensor)?.integers(),
      let axes = try? operand(3).flatMap(graph.tensor)?.integers(), pads.count == 2 * axes.count
    else { throw OnnxForm.none(node, "of computed axes is in the standard since version 18", opset: 18) }
    let rank = graph.type(x).rank
    var all = [Int](repeating: 0, count: 2 * rank)
    for (place, axis) in axes.enumerated() {
      let own = axis < 0 ? axis + rank : axis
      guard own >= 0, own < rank else { throw OnnxForm.none(node, "has no axis \(axis) to pad") }
      (all[own], all[rank + own]) = (pads[place], pads[axes.count + place])
    }
    set(1, .constant(Tensor(shape: [2 * rank], integers: all)))
    operands.removeLast()
  }

  /// A type that vitc computes in another is cast to, and back.
  private mutating func moveType(_ graph: Graph, _ node: Node) {
    let name = type == "Cast" ? "to" : "dtype"
    guard let own = node.results.first.map({ graph.type($0).element.onnx }) else { return }
    if case .int(let code)? = self[name] {
      needsCast = code != own
    } else if type == "Cast" {
      self[name] = .int(own)
    }
  }
}
