/// Writes the wire format of protocol buffers, right or wrong: what tests of the reader are made of.
struct Wire {
  var bytes: [UInt8] = []

  static func varint(_ value: UInt64) -> [UInt8] {
    var (rest, result) = (value, [UInt8]())
    while rest > 0x7f {
      result.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    return result + [UInt8(rest)]
  }

  func adding(_ more: [UInt8]) -> Wire { Wire(bytes: bytes + more) }

  func tag(_ field: Int, _ type: Int) -> Wire { adding(Wire.varint(UInt64(field << 3 | type))) }

  func int(_ field: Int, _ value: Int) -> Wire {
    tag(field, 0).adding(Wire.varint(UInt64(bitPattern: Int64(value))))
  }

  func data(_ field: Int, _ value: [UInt8]) -> Wire {
    tag(field, 2).adding(Wire.varint(UInt64(value.count))).adding(value)
  }

  func text(_ field: Int, _ value: String) -> Wire { data(field, Array(value.utf8)) }

  func message(_ field: Int, _ value: Wire) -> Wire { data(field, value.bytes) }

  func messages(_ field: Int, _ values: [Wire]) -> Wire { values.reduce(self) { $0.message(field, $1) } }
}

/// The messages of ONNX.
enum Onnx {
  static func node(
    _ type: String, _ inputs: [String], _ outputs: [String], name: String = "", domain: String = "",
    _ attributes: [Wire] = []
  ) -> Wire {
    var wire = inputs.reduce(Wire()) { $0.text(1, $1) }
    wire = outputs.reduce(wire) { $0.text(2, $1) }
    return wire.text(3, name).text(4, type).text(7, domain).messages(5, attributes)
  }

  static func attribute(_ name: String, int value: Int) -> Wire {
    Wire().text(1, name).int(3, value).int(20, 2)
  }

  static func attribute(_ name: String, graph: Wire) -> Wire {
    Wire().text(1, name).message(6, graph).int(20, 5)
  }

  static func tensor(_ name: String, _ dims: [Int], floats: [Float]) -> Wire {
    let raw = floats.flatMap { value in
      (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) }
    }
    return dims.reduce(Wire()) { $0.int(1, $1) }.int(2, 1).text(8, name).data(9, raw)
  }

  static func value(_ name: String, _ dims: [Int?], element: Int = 1) -> Wire {
    let shape = dims.reduce(Wire()) { $0.message(1, $1.map { Wire().int(1, $0) } ?? Wire().text(2, "N")) }
    return Wire().text(1, name).message(2, Wire().message(1, Wire().int(1, element).message(2, shape)))
  }

  static func graph(
    _ nodes: [Wire], inputs: [Wire] = [value("x", [nil, 2])], outputs: [String] = ["y"],
    constants: [Wire] = []
  ) -> Wire {
    Wire().messages(1, nodes).messages(5, constants).messages(11, inputs)
      .messages(12, outputs.map { Wire().text(1, $0) })
  }

  static func model(_ graph: Wire, opset: Int = 17, functions: [Wire] = []) -> Wire {
    Wire().int(1, 8).message(7, graph).message(8, Wire().int(2, opset)).messages(25, functions)
  }

  static func function(
    _ name: String, _ inputs: [String], _ outputs: [String], _ nodes: [Wire], opset: Int = 17
  ) -> Wire {
    var wire = Wire().text(1, name).text(10, "local")
    wire = inputs.reduce(wire) { $0.text(4, $1) }
    return outputs.reduce(wire) { $0.text(5, $1) }.messages(7, nodes).message(9, Wire().int(2, opset))
  }
}
