import Testing
import VitIR
import VitOps

@Suite("scan orders")
struct MixerScanOrderTests {
  private func walks(
    _ pattern: ScanOrder.Pattern, _ placement: ScanOrder.Placement, rows: Int = 2, columns: Int = 3,
    prefix: Int = 2
  ) throws -> [[Int]] {
    let order = try ScanOrder(
      pattern, grid: .init(rows: rows, columns: columns), prefix: prefix, outputs: min(prefix, 1),
      placement: placement)
    return order.directions.map { $0.indices.map(order.token(ofRow:)) }
  }

  // A class token 0, a register 1, patches 2 to 7 in two rows of three.

  @Test("the class token comes last in every direction")
  func last() throws {
    #expect(try walks(.forward, .last) == [[1, 2, 3, 4, 5, 6, 7, 0]])
    #expect(try walks(.bidirectional, .last) == [[1, 2, 3, 4, 5, 6, 7, 0], [1, 7, 6, 5, 4, 3, 2, 0]])
    #expect(
      try walks(.cross, .last) == [
        [1, 2, 3, 4, 5, 6, 7, 0], [1, 7, 6, 5, 4, 3, 2, 0], [1, 2, 5, 3, 6, 4, 7, 0],
        [1, 7, 4, 6, 3, 5, 2, 0],
      ])
  }

  @Test("a class token in the middle is reversed with everything else")
  func middle() throws {
    #expect(try walks(.bidirectional, .middle) == [[2, 3, 4, 1, 0, 5, 6, 7], [7, 6, 5, 0, 1, 4, 3, 2]])
  }

  @Test("a class token that is read twice gives its second result")
  func double() throws {
    #expect(try walks(.forward, .double) == [[0, 1, 2, 3, 4, 5, 6, 7, 0]])
    #expect(try walks(.bidirectional, .double)[1] == [0, 1, 7, 6, 5, 4, 3, 2, 0])
    let order = try ScanOrder(
      .forward, grid: .init(rows: 2, columns: 3), prefix: 2, outputs: 1, placement: .double)
    #expect(order.rows == 9 && order.row(ofToken: 0) == 8 && order.row(ofToken: 1) == 1)
  }

  @Test("a single row or column makes rows and columns the same")
  func oneRow() throws {
    let directions = try walks(.cross, .last, rows: 1, columns: 4, prefix: 0)
    #expect(directions[0] == directions[2] && directions[1] == directions[3])
    #expect(try walks(.cross, .last, rows: 4, columns: 1, prefix: 0) == directions)
  }

  @Test("every direction is a permutation, undone by its inverse", arguments: ScanOrder.Pattern.allCases)
  func inverses(_ pattern: ScanOrder.Pattern) throws {
    for placement in ScanOrder.Placement.allCases {
      let order = try ScanOrder(
        pattern, grid: .init(rows: 3, columns: 5), prefix: 3, outputs: 2, placement: placement)
      for direction in order.directions {
        #expect(direction.count == order.rows)
        #expect(direction.inverse.indices.map { direction[$0] } == Array(0..<order.rows))
        #expect(direction.inverse.inverse == direction)
        #expect(direction.reversed.inverse.indices == direction.inverse.indices.map { order.rows - 1 - $0 })
      }
    }
  }

  @Test("numbers that contradict one another are usage errors")
  func refusals() throws {
    for (rows, columns, prefix, outputs) in [
      (-1, 2, 0, 0), (2, 2, -1, 0), (2, 2, 1, 2), (1 << 40, 1 << 40, 0, 0), (1 << 8, 1 << 8, 1, 1),
      (1, 1, .max, 0),
    ] {
      let error = #expect(throws: VitError.self) {
        try ScanOrder(.forward, grid: .init(rows: rows, columns: columns), prefix: prefix, outputs: outputs)
      }
      #expect(error?.kind == .usage)
    }
    let longest = try ScanOrder(.forward, grid: .init(rows: 1 << 8, columns: (1 << 8) - 1), prefix: 1 << 8)
    #expect(longest.tokens == ScanOrder.maximumTokens)
  }
}
