public import VitIR

/// What an ONNX file says, in the words of the format.
public struct OnnxFile: Sendable {
  /// A node.
  public struct Node: Sendable {
    /// The operator, and what the node is called.
    public var type, name: String
    /// The names of what it reads, empty for nothing, and of what it gives.
    public var inputs, outputs: [String]
    /// Its attributes; truth values are written as whole numbers.
    public var attributes: [(name: String, value: Attribute)]
    /// An attribute that is a tensor.
    public var tensor: (name: String, value: Tensor)?

    /// A node.
    public init(
      _ type: String, name: String, inputs: [String], outputs: [String],
      attributes: [(name: String, value: Attribute)] = [], tensor: (name: String, value: Tensor)? = nil
    ) {
      (self.type, self.name, self.inputs, self.outputs) = (type, name, inputs, outputs)
      (self.attributes, self.tensor) = (attributes, tensor)
    }
  }

  /// A constant.
  public struct Initializer: Sendable {
    /// What it is called.
    public var name: String
    /// Its elements.
    public var tensor: Tensor
    /// The type in which they are written.
    public var element: ElementType

    /// A constant.
    public init(_ name: String, _ tensor: Tensor, as element: ElementType) {
      (self.name, self.tensor, self.element) = (name, tensor, element)
    }
  }

  /// The version of the standard operators.
  public var opset: Int
  /// The graph's name, and that of what wrote it with its version.
  public var name, producer, version: String
  /// What it takes and gives.
  public var inputs, outputs: [(name: String, type: TensorType)]
  /// What it computes, in order.
  public var nodes: [Node]
  /// The constants.
  public var initializers: [Initializer]
  /// What is said of the model beside, by key.
  public var metadata: [(key: String, value: String)]

  /// A file without nodes.
  public init(opset: Int, name: String, producer: String, version: String) {
    (self.opset, self.name, self.producer, self.version) = (opset, name, producer, version)
    (inputs, outputs, nodes, initializers, metadata) = ([], [], [], [], [])
  }

  /// The version of the format that goes with a version of the operators.
  var formatVersion: Int {
    switch opset {
    case ..<15: 7
    case ..<19: 8
    case ..<21: 9
    case ..<23: 10
    case 23: 11
    default: 12
    }
  }
}
