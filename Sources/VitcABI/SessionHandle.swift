public import CVitc
internal import VitIR
internal import Vitc

/// A session as C sees it.
final class SessionHandle: Handle {
  let session: Session

  init(_ session: Session) { self.session = session }
}

/// A tensor in memory of the caller's, looked over: its shape is one, and what it takes can be counted.
private struct ForeignTensor {
  let element: ElementType
  let shape: [Int]
  private let data: UnsafeMutableRawPointer?
  /// The bytes from one entry to the next along each axis; `nil` where there are no gaps.
  private let strides: [Int]?
  /// The bytes of all elements, one behind the other.
  private let byteCount: Int

  init(_ tensor: vitc_tensor, _ name: String) throws(VitError) {
    element = try ElementTypes.type(tensor.type)
    shape = try ForeignTensor.shape(tensor, name)
    // From the last axis on; an axis of no entries counts as one, so that what overflows does so whatever stands before it.
    var (dense, bytes) = ([Int](repeating: element.size, count: shape.count), element.size)
    for axis in shape.indices.reversed() {
      dense[axis] = bytes
      let (product, isTooLarge) = bytes.multipliedReportingOverflow(by: max(1, shape[axis]))
      guard !isTooLarge else { throw misuse("\(name) has more elements than memory has bytes: \(shape)") }
      bytes = product
    }
    byteCount = shape.contains(0) ? 0 : bytes
    data = tensor.data
    let extents = shape
    strides = tensor.strides.flatMap { given in
      let own = extents.indices.map { Int(given[$0]) }
      // Along an axis of one entry nothing moves.
      return extents.indices.allSatisfy { own[$0] == dense[$0] || extents[$0] < 2 } ? nil : own
    }
  }

  /// The shape alone, whatever the rest may be.
  static func shape(_ tensor: vitc_tensor, _ name: String) throws(VitError) -> [Int] {
    guard (0...Int(VITC_MAX_RANK)).contains(tensor.rank) else {
      throw misuse("\(name) has \(UInt(bitPattern: tensor.rank)) axes, expected at most \(VITC_MAX_RANK)")
    }
    guard tensor.rank > 0 else { return [] }
    let extents = try required(tensor.shape, "\(name).shape")
    let shape = (0..<tensor.rank).map { Int(extents[$0]) }
    if let wrong = shape.first(where: { $0 < 0 || $0 > ForeignTensor.longest }) {
      throw misuse("\(name) has an axis of \(wrong) entries")
    }
    return shape
  }

  /// The most entries of an axis.
  private static let longest = 1 << 40

  /// Lends its elements, row by row without gaps: in a copy where it has gaps. With `isWritten`, the copy is written back, and
  /// not made before. Throws where there is no memory for one.
  func withView<Result>(
    _ name: String, isWritten: Bool, _ body: (View) throws -> Result
  ) throws -> Result {
    let isAligned = UInt(bitPattern: data) % UInt(element.size) == 0
    if strides == nil, isAligned || byteCount == 0 {
      // A view of no elements has a base all the same.
      let spare = UnsafeMutableRawPointer.allocate(byteCount: element.size, alignment: element.size)
      defer { spare.deallocate() }
      let base = try byteCount == 0 ? spare : required(data, "\(name).data")
      return try body(View(base: base, element: element, shape: shape))
    }
    let base = try required(data, "\(name).data")
    let copy = try Tensor(element, shape: shape) { target in
      guard !isWritten, let start = target.baseAddress else { return }
      move { start.advanced(by: $0).copyMemory(from: base.advanced(by: $1), byteCount: $2) }
    }
    return try copy.storage.withBytes { bytes in
      // The memory is this tensor's alone.
      guard let start = bytes.baseAddress.map(UnsafeMutableRawPointer.init(mutating:)) else {
        throw misuse("\(name) has no elements")
      }
      let result = try body(View(base: start, element: element, shape: shape))
      if isWritten { move { base.advanced(by: $1).copyMemory(from: start.advanced(by: $0), byteCount: $2) } }
      return result
    }
  }

  /// Calls `move` with the place of each element among all, that in the caller's memory, both in bytes, and how many bytes are moved.
  private func move(_ move: (Int, Int, Int) -> Void) {
    guard byteCount > 0 else { return }
    guard let strides else { return move(0, 0, byteCount) }
    var index = [Int](repeating: 0, count: shape.count)
    for place in stride(from: 0, to: byteCount, by: element.size) {
      move(place, zip(index, strides).reduce(0) { $0 &+ $1.0 &* $1.1 }, element.size)
      for axis in shape.indices.reversed() {
        index[axis] += 1
        if index[axis] < shape[axis] { break }
        index[axis] = 0
      }
    }
  }

  /// The tensors of a list.
  static func all(
    _ list: UnsafePointer<vitc_tensor>?, _ count: Int, _ name: String
  ) throws(VitError) -> [ForeignTensor] {
    guard count > 0 else { return [] }
    let list = try required(list, name)
    var all: [ForeignTensor] = []
    for place in 0..<count { all.append(try ForeignTensor(list[place], "\(name)[\(place)]")) }
    return all
  }

  /// Lends the elements of all of them.
  static func withViews<Result>(
    _ all: ArraySlice<ForeignTensor>, _ name: String, isWritten: Bool, views: [View] = [],
    _ body: ([View]) throws -> Result
  ) throws -> Result {
    guard let first = all.first else { return try body(views) }
    return try first.withView("\(name)[\(all.startIndex)]", isWritten: isWritten) { view in
      try withViews(all.dropFirst(), name, isWritten: isWritten, views: views + [view], body)
    }
  }
}

/// Throws where a model takes another number of tensors.
private func check(_ found: Int, _ expected: Int, _ what: String) throws(VitError) {
  guard found == expected else { throw misuse("the model has \(expected) \(what), found \(found)") }
}

/// Writes a shape where there is room for so many extents.
func write(
  _ shape: [Int], _ target: UnsafeMutablePointer<Int64>?, _ rank: UnsafeMutablePointer<Int>?
) throws(VitError) {
  let rank = try required(rank, "rank")
  guard shape.count <= rank.pointee else {
    throw misuse("the shape has \(shape.count) extents, found room for \(rank.pointee)")
  }
  if !shape.isEmpty {
    let target = try required(target, "shape")
    for (axis, extent) in shape.enumerated() { target[axis] = Int64(extent) }
  }
  rank.pointee = shape.count
}

/// See `vitc.h`.
@c @implementation
public func vitc_session_open(
  _ model: OpaquePointer!, _ threads: Int32, _ session: UnsafeMutablePointer<OpaquePointer?>!,
  _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let model = ModelHandle.at(try required(model, "model")).model
    let target = try required(session, "session")
    let made = try Session(model, threads: ThreadCount(threads).value)
    target.pointee = SessionHandle(made).handedOver()
    return done
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_session_free(_ session: OpaquePointer!) { SessionHandle.free(session) }

/// See `vitc.h`.
@c @implementation
public func vitc_session_output_shape(
  _ session: OpaquePointer!, _ inputs: UnsafePointer<vitc_tensor>!, _ inputCount: Int, _ index: Int,
  _ shape: UnsafeMutablePointer<Int64>!, _ rank: UnsafeMutablePointer<Int>!,
  _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let session = SessionHandle.at(try required(session, "session")).session
    try check(inputCount, session.graph.inputs.count, "inputs")
    let list = try required(inputs, "inputs")
    let shapes = try (0..<inputCount).map { try ForeignTensor.shape(list[$0], "inputs[\($0)]") }
    let found = try session.outputShapes(for: shapes)
    guard found.indices.contains(index) else {
      throw misuse("there is no output \(index): the model has \(found.count)")
    }
    try write(found[index], shape, rank)
    return done
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_session_run(
  _ session: OpaquePointer!, _ inputs: UnsafePointer<vitc_tensor>!, _ inputCount: Int,
  _ outputs: UnsafePointer<vitc_tensor>!, _ outputCount: Int, _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let session = SessionHandle.at(try required(session, "session")).session
    try check(inputCount, session.graph.inputs.count, "inputs")
    try check(outputCount, session.graph.outputs.count, "outputs")
    let given = try ForeignTensor.all(inputs, inputCount, "inputs")
    let wanted = try ForeignTensor.all(outputs, outputCount, "outputs")
    try ForeignTensor.withViews(given[...], "inputs", isWritten: false) { inputs in
      try ForeignTensor.withViews(wanted[...], "outputs", isWritten: true) { outputs in
        try session.run(inputs, into: outputs)
      }
    }
    return done
  }
}
