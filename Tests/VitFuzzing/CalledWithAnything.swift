internal import CVitc
internal import VitIR

/// A call of the C library with arguments that bytes decide. Memory is as large as shapes and strides reach, which is all that the
/// header asks of a caller; what cannot be is to be an error.
struct CalledWithAnything {
  private var rest: ArraySlice<UInt8>
  private let region: UnsafeMutableRawBufferPointer

  /// Two inputs of different types, one with a batch that is the caller's, and two outputs.
  private static let model = """
    graph "m" (%x: f32[batch, 3, 4], %k: i64[batch, 3]) -> (y = %relu, k = %twice) {
      %relu = onnx.Relu(%x) : f32[batch, 3, 4]
      %twice = onnx.Add(%k, %k) : i64[batch, 3]
    }
    """
  private static let middle = 1 << 21

  init(_ bytes: [UInt8], in region: UnsafeMutableRawBufferPointer) {
    (rest, self.region) = (bytes[...], region)
  }

  /// Runs the call with memory of its own.
  static func run(_ bytes: [UInt8]) throws {
    let region = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * middle, alignment: 64)
    defer { region.deallocate() }
    region.initializeMemory(as: UInt8.self, repeating: 0)
    var call = CalledWithAnything(bytes, in: region)
    try call.run()
  }

  private mutating func byte() -> Int { Int(rest.popFirst() ?? 0) }

  /// Now and then anything, mostly what makes sense.
  private mutating func number(_ usual: Int) -> Int {
    switch byte() % 8 {
    case 0: Int(Int8(truncatingIfNeeded: byte()))
    case 1: [Int.max, Int.min, Int(Int32.max), Int(Int32.min), 0, -1][byte() % 6]
    default: usual
    }
  }

  private mutating func run() throws {
    let text = Array(CalledWithAnything.model.utf8)
    var model: OpaquePointer?
    var options = vitc_model_options()
    options.size = byte() % 4 == 0 ? byte() : MemoryLayout<vitc_model_options>.size
    options.threads = Int32(truncatingIfNeeded: number(1))
    try checkLibrary {
      vitc_model_open_memory(text, byte() % 16 == 0 ? byte() : text.count, nil, &options, &model, $0)
    }
    defer { vitc_model_free(model) }
    let index = number(0)
    _ = vitc_model_input(model, Int(index))
    _ = vitc_model_output(model, Int(index))
    _ = vitc_model_label(model, Int(index))
    _ = vitc_model_message(model, Int(index))
    var session: OpaquePointer?
    try checkLibrary { vitc_session_open(model, Int32(truncatingIfNeeded: 1 + byte() % 3), &session, $0) }
    defer { vitc_session_free(session) }
    let batch = number(2)
    let inputs = [tensor(VITC_F32, [batch, 3, 4]), tensor(VITC_I64, [batch, 3])]
    let outputs = [tensor(VITC_F32, [batch, 3, 4]), tensor(VITC_I64, [batch, 3])]
    defer { for tensor in inputs + outputs { tensor.free() } }
    var (given, taken) = (inputs.map(\.value), outputs.map(\.value))
    let (givenCount, takenCount) = (byte() % 8 == 0 ? byte() % 3 : 2, byte() % 8 == 0 ? byte() % 3 : 2)
    var (shape, rank) = ([Int64](repeating: 0, count: 16), byte() % 17)
    try? checkLibrary { vitc_session_output_shape(session, &given, givenCount, number(0), &shape, &rank, $0) }
    try checkLibrary { vitc_session_run(session, &given, givenCount, &taken, takenCount, $0) }
  }

  /// A tensor whose memory the caller has, or one that reaches nowhere.
  private struct Described {
    let type: vitc_type
    let data: UnsafeMutableRawPointer?
    let shape, strides: UnsafeMutableBufferPointer<Int64>
    let hasStrides: Bool
    var value: vitc_tensor {
      vitc_tensor(
        type: type, data: data, rank: shape.count, shape: UnsafePointer(shape.baseAddress),
        strides: hasStrides ? UnsafePointer(strides.baseAddress) : nil)
    }
    func free() {
      shape.deallocate()
      strides.deallocate()
    }
  }

  private mutating func tensor(_ type: Int, _ usual: [Int]) -> Described {
    var extents = usual.map { number($0) }
    if byte() % 8 == 0 { extents = Array(extents.prefix(byte() % 4)) }
    if byte() % 8 == 0 { extents += Array(repeating: 1, count: byte() % 20) }
    let type = vitc_type(byte() % 4 == 0 ? byte() % 16 : type)
    // Strides of bytes that stay in the region.
    var strides = extents.map { _ in 0 }
    var step = 8
    for axis in extents.indices.reversed() {
      strides[axis] = byte() % 4 == 0 ? Int(Int8(truncatingIfNeeded: byte())) : step
      step = min(4096, step * min(max(1, extents[axis]), 64))
    }
    // There is memory for what is small alone.
    let isSmall = extents.allSatisfy { (0...64).contains($0) }
    let hasStrides = byte() % 2 == 0
    let data = byte() % 16 == 0 || !isSmall ? nil : region.baseAddress.map { $0 + CalledWithAnything.middle }
    func copy(_ values: [Int]) -> UnsafeMutableBufferPointer<Int64> {
      let copy = UnsafeMutableBufferPointer<Int64>.allocate(capacity: max(1, values.count))
      for (place, value) in values.enumerated() { copy[place] = Int64(value) }
      return UnsafeMutableBufferPointer(rebasing: copy[..<values.count])
    }
    return Described(
      type: type, data: data, shape: copy(extents), strides: copy(strides), hasStrides: hasStrides)
  }
}
