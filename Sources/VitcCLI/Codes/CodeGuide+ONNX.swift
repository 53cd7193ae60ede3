extension CodeGuide {
  /// What ONNX files hold.
  static let onnx: [CodeGuide] = [
    CodeGuide(
      "attribute-count",
      "An attribute has another number of entries than there are axes, or outputs."),
    CodeGuide(
      "attribute-missing",
      "A node lacks an attribute that its operator needs."),
    CodeGuide(
      "attribute-type",
      "An attribute is of another kind than its operator takes."),
    CodeGuide(
      "attribute-unknown",
      "A node has an attribute that its operator does not know. Its name may be mistyped."),
    CodeGuide(
      "attribute-value",
      "An attribute has a value that its operator does not take."),
    CodeGuide(
      "axis",
      "An axis is named that the tensor does not have."),
    CodeGuide(
      "bad-attribute",
      "An attribute in the file is damaged."),
    CodeGuide(
      "bad-function",
      "A function in the file is damaged."),
    CodeGuide(
      "bad-model",
      "The file holds no model that ONNX's description allows: two graphs, no graph, an impossible "
        + "version."),
    CodeGuide(
      "bad-node",
      "A node in the file is damaged."),
    CodeGuide(
      "bad-text",
      "A name or text is no UTF-8."),
    CodeGuide(
      "bad-varint",
      "A number in the file takes more bytes than it may: the file is damaged."),
    CodeGuide(
      "bad-wire",
      "The bytes are no message of protobuf: the file is damaged, or none of ONNX."),
    CodeGuide(
      "control-flow",
      "Which branch runs, or how often, depends on the data. Export the model traced, for inference."),
    CodeGuide(
      "cycle",
      "The graph reads what follows from its own result."),
    CodeGuide(
      "derived-shape",
      "The file says no shape of an input; what reads it says how many axes it has."),
    CodeGuide(
      "duplicate-attribute",
      "A node has the same attribute twice."),
    CodeGuide(
      "duplicate-name",
      "A name is defined twice."),
    CodeGuide(
      "dynamic-mode",
      "Whether a node trains is computed from data. Export for inference."),
    CodeGuide(
      "dynamic-shape",
      "A shape, axis or size is computed from data, and must be known when the model is compiled. "
        + "--input-shape may settle it."),
    CodeGuide(
      "einsum-equation",
      "The equation of an Einsum cannot be read."),
    CodeGuide(
      "element-type",
      "A type of elements is not supported there."),
    CodeGuide(
      "external-data",
      "Tensors lie in a file beside the model, which cannot be used: it is missing, too short or outside "
        + "of the model's folder."),
    CodeGuide(
      "fixed-batch",
      "The model works for one size of batch alone, whatever the file says."),
    CodeGuide(
      "fixed-extent",
      "An extent that the file leaves open was set, because the model works with that alone."),
    CodeGuide(
      "index-range",
      "An index lies outside of its axis."),
    CodeGuide(
      "input-shape",
      "The shape that is given for an input does not fit it."),
    CodeGuide(
      "input-type",
      "An input has, or is given, elements of another type than fits."),
    CodeGuide(
      "ir-version",
      "The file says a version of ONNX's representation that is newer than known ones; it is read as the "
        + "newest."),
    CodeGuide(
      "node-order",
      "Nodes are not in the order in which they define values, and are sorted."),
    CodeGuide(
      "not-onnx",
      "The file is no ONNX model; the message says what it seems to be."),
    CodeGuide(
      "operand-count",
      "A node has another number of inputs than its operator takes."),
    CodeGuide(
      "operand-missing",
      "A node lacks an input, or a command what it works on."),
    CodeGuide(
      "operand-shape",
      "An input of a node has a shape that its operator does not take."),
    CodeGuide(
      "operand-type",
      "An input of a node has elements of a type that does not fit the others."),
    CodeGuide(
      "operator-not-standard",
      "The operation has no form in standard ONNX, so the model cannot be exported with it."),
    CodeGuide(
      "opset",
      "The file asks for a version of operators that is not supported."),
    CodeGuide(
      "opset-too-old",
      "The operation exists in later versions of ONNX's operators only. Export with --opset of a later "
        + "one."),
    CodeGuide(
      "output-type",
      "An output is no tensor, or memory for it is of another type or shape."),
    CodeGuide(
      "recursive-function",
      "A function calls itself."),
    CodeGuide(
      "result-count",
      "A node has another number of results than its operator gives."),
    CodeGuide(
      "same-batch",
      "All inputs count the same images, whatever the file calls that axis."),
    CodeGuide(
      "sequence",
      "The model works with sequences of tensors where a tensor is expected."),
    CodeGuide(
      "shape-mismatch",
      "The shapes of a node's inputs do not fit each other."),
    CodeGuide(
      "tensor-data",
      "The elements of a tensor are missing, too few, or given in two ways."),
    CodeGuide(
      "too-deep",
      "Graphs, functions or messages are nested deeper than any model needs."),
    CodeGuide(
      "too-many",
      "There are more nodes, tensors or calls than any model needs."),
    CodeGuide(
      "training-mode",
      "A node takes its statistics from the batch. Export with model.eval()."),
    CodeGuide(
      "undefined-value",
      "A node reads a value that nothing defines."),
    CodeGuide(
      "unknown-input",
      "A shape is given for an input that the model does not have."),
    CodeGuide(
      "unsupported-operator",
      "The model has operators that vitc does not know; the message names them."),
  ]
}
