import Testing
import VitIR
import VitOps
import VitPasses

@Suite("Which tokens layers look at") struct InteractionMapTests {
  private func maps(_ pipeline: String?, threads: Int = 2) throws -> [InteractionMap] {
    let teacher = try TinyViT.model(layers: 2)
    let context = TinyViT.context(threads: threads, count: 16)
    let hybrid = try pipeline.map { try apply($0, to: teacher, context) } ?? teacher
    return try InteractionMap.all(of: hybrid, images: 8, context: context)
  }

  @Test("of attention they are its maps, head by head, and rows have the sum 1")
  func attention() throws {
    let found = try maps(nil)
    #expect(found.map(\.layer) == [0, 1] && found.allSatisfy { $0.kind == "attention" })
    for map in found {
      #expect(map.rows == 17 && map.columns == 17 && map.heads.count == TinyViT.heads)
      for weights in map.heads + [map.weights] {
        for row in 0..<map.rows {
          let sum = weights[row * map.columns..<(row + 1) * map.columns].reduce(0, +)
          #expect(abs(sum - 1) < 1e-4)
        }
      }
      // The mean over heads.
      for place in map.weights.indices {
        let mean = map.heads.reduce(Float(0)) { $0 + $1[place] } / Float(map.heads.count)
        #expect(abs(map.weights[place] - mean) < 1e-5)
      }
    }
  }

  @Test("of what mixes no tokens only the diagonal is there, of taps only neighbours on the grid")
  func gradients() throws {
    let none = try maps("swap{mixer=pointwise,prefix=mixer,layers=[0]}")
    #expect(none[0].kind == "pointwise" && none[0].heads.isEmpty)
    for row in 0..<none[0].rows {
      for column in 0..<none[0].columns {
        let weight = none[0].weights[row * none[0].columns + column]
        #expect(row == column ? weight > 0.99 : weight < 1e-3, "\(row) \(column) \(weight)")
      }
    }
    let taps = try maps(
      "swap{mixer=conv{kernel=3,mean=false},prefix=mixer,layers=[0]},distil{steps=0,images=16}")
    let map = taps[0]
    for row in 1..<map.rows {
      for column in 1..<map.columns {
        let (a, b) = (row - 1, column - 1)
        let isNear = abs(a / 4 - b / 4) <= 1 && abs(a % 4 - b % 4) <= 1
        if !isNear { #expect(map.weights[row * map.columns + column] < 1e-3) }
      }
    }
  }

  @Test("they are the same for any number of threads, and rows that nobody reads are not there")
  func threads() throws {
    let pipeline = "swap{mixer=glr,layers=all},distil{steps=0,images=16},trim"
    let found = try [1, 3].map { try maps(pipeline, threads: $0) }
    #expect(found[0] == found[1])
    #expect(found[0].last?.rows == 1 && found[0].last?.columns == 17)
  }
}
