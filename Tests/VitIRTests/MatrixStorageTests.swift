import Testing
import VitIR

@Suite("matrices turned on demand") struct MatrixStorageTests {
  private static let matrix = Tensor(.f32, shape: [37, 70], values: (0..<37 * 70).map(Double.init))

  @Test("a transpose has the elements with the axes exchanged, and turning it again gives the matrix")
  func transposes() throws {
    let turned = Self.matrix.transposed()
    #expect(turned.shape == [70, 37])
    let expected = (0..<70).flatMap { column in (0..<37).map { Float($0 * 70 + column) } }
    #expect(try turned.floats() == expected)
    #expect(try turned.transposed().floats() == (try Self.matrix.floats()))
  }

  @Test(
    "rows come in the order asked for, of a matrix and of a transpose", arguments: [[0], [5, 2, 36, 2], []])
  func rows(_ rows: [Int]) throws {
    let plain = Self.matrix.selecting(rows)
    #expect(plain.shape == [rows.count, 70])
    #expect(try plain.floats() == rows.flatMap { row in (0..<70).map { Float(row * 70 + $0) } })
    let turned = Self.matrix.transposed().selecting(rows).selecting(Array(rows.indices))
    #expect(turned.shape == [rows.count, 37])
    #expect(try turned.floats() == rows.flatMap { row in (0..<37).map { Float($0 * 70 + row) } })
  }

  @Test("entries of the first axis of a tensor with more axes stay whole")
  func entries() throws {
    let tensor = Tensor(.f16, shape: [3, 2, 2], values: (0..<12).map(Double.init))
    let chosen = tensor.selecting([2, 0])
    #expect(chosen.shape == [2, 2, 2])
    #expect(try chosen.doubles() == [8, 9, 10, 11, 0, 1, 2, 3])
  }
}
