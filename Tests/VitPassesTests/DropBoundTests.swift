import Testing

import VitPasses

@Suite("How far an accuracy may fall")
struct DropBoundTests {
  @Test(
    "few that differ: the exact bound of the binomial distribution",
    arguments: [
      // scipy.stats.beta.ppf(0.95, hits + 1, count - hits)
      (0, 5, 0.450719728346941), (3, 10, 0.6066242161054123), (10, 20, 0.6980460887135065),
      (24, 24, 1.0), (0, 1, 0.95),
    ])
  func exact(_ hits: Int, _ count: Int, _ expected: Double) {
    #expect(abs(DropBound.upper(hits, of: count) - expected) < 1e-9)
  }

  @Test("many that differ: the paired difference and its standard error")
  func normal() throws {
    // 60 lost, 40 gained of 1,000: 0.02 + 1.645 · sqrt((100 − 20² / 1000) / 1000²)
    let bound = try #require(DropBound.bound(lost: 60, gained: 40, of: 1000))
    #expect(abs(bound - (0.02 + 1.6448536269514722 * (100.0 - 0.4).squareRoot() / 1000)) < 1e-12)
  }

  @Test("the bound is above the drop, and grows with what is lost")
  func order() throws {
    for count in [30, 200, 5000] {
      var last = -1.0
      for lost in 0...30 {
        let bound = try #require(DropBound.bound(lost: lost, gained: 3, of: count))
        #expect(bound > Double(lost - 3) / Double(count))
        #expect(bound > last - 2e-3)
        last = bound
      }
    }
    #expect(DropBound.bound(lost: 0, gained: 0, of: 0) == nil)
    let none = try #require(DropBound.bound(lost: 0, gained: 0, of: 100))
    #expect(none > 0.02 && none < 0.04)
  }
}
