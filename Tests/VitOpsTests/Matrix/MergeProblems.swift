import VitIR
import VitTestSupport

extension OpProblem {
  /// A table of places for `batch` images: each of the tokens behind `prefix` stands for one place at least.
  static func table(_ draw: inout Draw, prefix: Int, tokens: Int, places: Int) -> Tensor {
    var numbers: [Int] = []
    for _ in 0..<draw.batch {
      for place in 0..<places {
        numbers.append(prefix + (place < tokens - prefix ? place : draw.below(tokens - prefix)))
      }
    }
    return Tensor(shape: [draw.batch, places], integers: numbers)
  }

  /// The operations that merge tokens. Tables are constants: nothing here computes them.
  static let merging: [OpProblem] = [
    OpProblem("vit.match") { draw in
      let (prefix, heads, width) = (draw.below(3), draw.pick([1, 2]), draw.pick([1, 4]))
      let tokens = prefix + draw.rows
      let hasMap = draw.flip()
      let table =
        draw.flip() ? table(&draw, prefix: prefix, tokens: tokens, places: draw.rows + 4) : nil
      return .of(
        draw.normal([draw.batch, tokens, draw.columns]),
        hasMap ? draw.normal([heads * width, draw.columns]) : nil,
        hasMap && draw.flip() ? draw.normal([heads * width]) : nil, table,
        attributes: [
          "count": .int(draw.pick([0, 1, 2, 9])), "prefix": .int(prefix), "heads": .int(hasMap ? heads : 1),
        ])
    },
    OpProblem("vit.merge") { draw in
      let prefix = draw.below(3)
      let places = draw.rows + 3
      let tokens = prefix + draw.rows
      let isFirst = draw.flip()
      let own = isFirst ? prefix + places : tokens + draw.below(3)
      let merged = table(&draw, prefix: prefix, tokens: tokens, places: places)
      let before = isFirst ? nil : table(&draw, prefix: prefix, tokens: own, places: places)
      return .of(
        draw.normal([draw.batch, own, draw.columns]), merged, before,
        attributes: ["tokens": .int(tokens), "prefix": .int(prefix)])
    },
    OpProblem("vit.unmerge") { draw in
      let prefix = draw.below(3)
      let tokens = prefix + draw.rows
      let places = table(&draw, prefix: prefix, tokens: tokens, places: draw.rows + 3)
      return .of(
        draw.normal([draw.batch, tokens, draw.columns]), places, attributes: ["prefix": .int(prefix)])
    },
    OpProblem("vit.log_size") { draw in
      let prefix = draw.below(3)
      let tokens = prefix + draw.rows
      let places = table(&draw, prefix: prefix, tokens: tokens, places: draw.rows + 3)
      return .of(places, attributes: ["tokens": .int(tokens), "prefix": .int(prefix)])
    },
  ]
}
