import Testing
import VitIR
import VitTrain

@Suite("Sums in a tree") struct TreeSumTests {
  @Test("a sum that was cut anywhere, in two or in three, has the bits of the whole") func cuts() {
    var random = SplitMix(seed: 3)
    for count in 1...21 {
      let terms = (0..<count).map { _ in [random.normal(), 1e9 * random.normal()] }
      func sum(_ range: Range<Int>) -> TreeSum<[Double]> {
        var sum = TreeSum<[Double]>(first: range.lowerBound)
        for term in terms[range] { sum.add(term) }
        return sum
      }
      let whole = sum(0..<count).total
      for first in 0...count {
        for second in first...count {
          var parts = sum(0..<first)
          parts.add(sum(first..<second))
          parts.add(sum(second..<count))
          #expect(parts.total == whole)
        }
      }
    }
    #expect(TreeSum<Double>().total == nil)
  }

  @Test("terms are added in pairs") func pairs() {
    var sum = TreeSum<Double>()
    for term in [1e16, 1, -1e16, 1, 3] { sum.add(term) }
    #expect(sum.total == ((1e16 + 1) + (-1e16 + 1)) + 3)
  }
}
