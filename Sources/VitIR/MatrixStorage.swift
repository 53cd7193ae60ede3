/// Rows of a matrix that lies in another storage, or of its transpose: put together each time they are asked for, so that
/// a weight which was turned round takes no memory beside the file it came from.
public final class MatrixStorage: TensorStorage {
  /// What is taken of the source.
  struct View: Hashable {
    let elementSize: Int
    /// Where each row starts, in elements of the source.
    let starts: [Int]
    let columns: Int
    /// How far the elements of a row lie apart.
    let stride: Int
  }

  /// Where the rows lie.
  let source: any TensorStorage
  /// Which they are.
  let view: View
  private var elementSize: Int { view.elementSize }
  private var starts: [Int] { view.starts }
  private var columns: Int { view.columns }
  private var stride: Int { view.stride }

  private init(_ source: any TensorStorage, _ view: View) {
    self.source = source
    self.view = view
  }

  /// The number of bytes.
  public var byteCount: Int { starts.count * columns * elementSize }

  /// Lends a copy in order, and gives the source's memory back.
  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    let copy = try MemoryStorage(byteCount: byteCount) { target in
      try source.withBytes { write($0, to: target) }
    }
    source.release()
    return try copy.withBytes(body)
  }

  private func write(_ source: UnsafeRawBufferPointer, to target: UnsafeMutableRawBufferPointer) {
    guard let from = source.baseAddress, let to = target.baseAddress else { return }
    let (size, row) = (elementSize, columns * elementSize)
    guard stride != 1 else {
      for (place, start) in starts.enumerated() {
        (to + place * row).copyMemory(from: from + start * size, byteCount: row)
      }
      return
    }
    // In blocks, so that neither side leaves the cache.
    for left in Swift.stride(from: 0, to: columns, by: 32) {
      for (place, start) in starts.enumerated() {
        for column in left..<min(left + 32, columns) {
          (to + place * row + column * size).copyMemory(
            from: from + (start + column * stride) * size, byteCount: size)
        }
      }
    }
  }

  /// Gives the source's memory back.
  public func release() { source.release() }

  /// The transpose of a matrix with `shape` in `storage`.
  static func transpose(of storage: any TensorStorage, shape: [Int], elementSize: Int) -> MatrixStorage {
    MatrixStorage(storage, transposition(of: shape, elementSize: elementSize))
  }

  /// The view that turns a matrix with `shape`.
  static func transposition(of shape: [Int], elementSize: Int) -> View {
    View(elementSize: elementSize, starts: Array(0..<shape[1]), columns: shape[0], stride: shape[1])
  }

  /// `rows` of a matrix with `columns` columns in `storage`.
  static func rows(
    _ rows: [Int], of storage: any TensorStorage, columns: Int, elementSize: Int
  ) -> MatrixStorage {
    if let matrix = storage as? MatrixStorage, matrix.columns == columns, matrix.elementSize == elementSize {
      return MatrixStorage(
        matrix.source,
        View(
          elementSize: elementSize, starts: rows.map { matrix.starts[$0] }, columns: columns,
          stride: matrix.stride))
    }
    return MatrixStorage(
      storage,
      View(elementSize: elementSize, starts: rows.map { $0 * columns }, columns: columns, stride: 1))
  }
}

extension Tensor {
  /// The transpose of this matrix, whose bytes are turned when they are asked for; of a transpose, what it was made of.
  public func transposed() -> Tensor {
    precondition(shape.count == 2)
    guard !element.isQuantised else { return dequantised.transposed() }
    if let matrix = storage as? MatrixStorage, matrix.source.byteCount == matrix.byteCount,
      matrix.view == MatrixStorage.transposition(of: [shape[1], shape[0]], elementSize: element.size)
    {
      return Tensor(unchecked: element, shape: [shape[1], shape[0]], storage: matrix.source)
    }
    return Tensor(
      unchecked: element, shape: [shape[1], shape[0]],
      storage: MatrixStorage.transpose(of: storage, shape: shape, elementSize: element.size))
  }

  /// The entries `rows` of the first axis, in that order, put together when they are asked for.
  public func selecting(_ rows: [Int]) -> Tensor {
    precondition(rows.allSatisfy { $0 >= 0 && $0 < shape.first ?? 0 })
    guard !element.isQuantised else { return dequantised.selecting(rows) }
    let columns = shape.dropFirst().reduce(1, *)
    return Tensor(
      unchecked: element, shape: [rows.count] + shape.dropFirst(),
      storage: MatrixStorage.rows(rows, of: storage, columns: columns, elementSize: element.size))
  }
}
