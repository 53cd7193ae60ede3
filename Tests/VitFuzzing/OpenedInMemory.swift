internal import CVitc
internal import VitIR

/// A model that the C library opens from memory, and runs where it is small.
struct OpenedInMemory {
  private let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Opens it, asks what there is to ask, and runs it on zeros; throws what the library says of it.
  func run() throws {
    var model: OpaquePointer?
    var options = vitc_model_options()
    (options.size, options.threads) = (MemoryLayout<vitc_model_options>.size, 1)
    try checkLibrary { vitc_model_open_memory(bytes, bytes.count, "m", &options, &model, $0) }
    defer { vitc_model_free(model) }
    for index in 0...vitc_model_label_count(model) { _ = vitc_model_label(model, index) }
    for index in 0...vitc_model_message_count(model) { _ = vitc_model_message(model, index) }
    var session: OpaquePointer?
    try checkLibrary { vitc_session_open(model, 1, &session, $0) }
    defer { vitc_session_free(session) }
    let inputs = try (0..<vitc_model_input_count(model)).map {
      try Zeros(vitc_model_input(model, $0)?.pointee)
    }
    var given = inputs.map(\.tensor)
    var outputs: [Zeros] = []
    for index in 0..<vitc_model_output_count(model) {
      var (shape, rank) = ([Int64](repeating: 0, count: 16), 16)
      try checkLibrary { vitc_session_output_shape(session, &given, given.count, index, &shape, &rank, $0) }
      guard let value = vitc_model_output(model, index)?.pointee else { throw FuzzFinding("no output") }
      outputs.append(try Zeros(value.type, Array(shape[..<rank])))
    }
    var taken = outputs.map(\.tensor)
    try withExtendedLifetime((inputs, outputs)) {
      try checkLibrary { vitc_session_run(session, &given, given.count, &taken, taken.count, $0) }
    }
  }
}

/// Does a call of the C library; throws what it says, and a finding where its status and its error do not fit.
func checkLibrary(_ call: (UnsafeMutablePointer<OpaquePointer?>) -> vitc_status) throws {
  var error: OpaquePointer?
  let status = call(&error)
  defer { vitc_error_free(error) }
  guard (status == VITC_OK) == (error == nil) else {
    throw FuzzFinding("status \(status) without an error")
  }
  if let text = vitc_error_text(error) { throw VitError(String(cString: text)) }
}

/// Memory of a tensor: one entry along axes that are open.
private final class Zeros {
  private let bytes: UnsafeMutableRawBufferPointer
  private let shape: UnsafeMutableBufferPointer<Int64>
  private let type: vitc_type
  var tensor: vitc_tensor {
    vitc_tensor(
      type: type, data: bytes.baseAddress, rank: shape.count, shape: UnsafePointer(shape.baseAddress),
      strides: nil)
  }

  /// For an input; throws where it is larger than is worth running.
  convenience init(_ value: vitc_value?) throws {
    guard let value else { throw FuzzFinding("no input") }
    try self.init(value.type, (0..<value.rank).map { value.shape[$0] < 0 ? 1 : value.shape[$0] })
  }

  init(_ type: vitc_type, _ extents: [Int64]) throws {
    var count = 8
    for extent in extents {
      guard extent >= 0, extent < 1 << 20, count * Int(extent) < 1 << 24 else { throw VitError("too large") }
      count *= Int(extent)
    }
    self.type = type
    bytes = .allocate(byteCount: max(8, count), alignment: 64)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    shape = .allocate(capacity: extents.count)
    _ = shape.initialize(from: extents)
  }

  deinit {
    bytes.deallocate()
    shape.deallocate()
  }
}
