import VitIR
import VitTestSupport

extension OpProblem {
  /// A table of places for `batch` images: each of the tokens behind `prefix` stands for one place at least.
  static func table(_ draw: inout Draw, _ prefix: Int, _ tokens: Int, _ places: Int) -> Tensor {
    var numbers: [Int] = []
    for _ in 0..<draw.batch {
      for place in 0..<places {
        numbers.append(prefix + (place < tokens - prefix ? place : draw.below(tokens - prefix)))
      }
    }
    return Tensor(shape: [draw.batch, places], integers: numbers)
  }

  /// A table of places in which some have no token, and the number behind the last.
  static func gaps(_ draw: inout Draw, _ prefix: Int, _ tokens: Int, _ places: Int) -> Tensor {
    var numbers: [Int] = []
    for _ in 0..<draw.batch {
      var next = prefix
      for place in 0..<places {
        // As many as there are tokens have one, in order, wherever they are.
        let isKept = next < tokens && (places - place <= tokens - next || draw.flip())
        numbers.append(isKept ? next : tokens)
        if isKept { next += 1 }
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
        draw.flip() ? table(&draw, prefix, tokens, draw.rows + 4) : nil
      return .of(
        draw.normal([draw.batch, tokens, draw.columns]),
        hasMap ? draw.normal([heads * width, draw.columns]) : nil,
        hasMap && draw.flip() ? draw.normal([heads * width]) : nil, table,
        attributes: [
          "count": .int(draw.pick([0, 1, 2, 9])), "prefix": .int(prefix), "heads": .int(hasMap ? heads : 1),
        ])
    },
    OpProblem("vit.keep") { draw in
      let (prefix, kvHeads, width) = (draw.below(3), draw.pick([1, 2]), draw.pick([1, 4]))
      let heads = kvHeads * draw.pick([1, 2])
      let tokens = prefix + draw.rows
      let before =
        draw.flip() ? gaps(&draw, prefix, tokens, draw.rows + 2) : nil
      return .of(
        draw.normal([draw.batch, tokens, draw.columns]), draw.normal([heads * width, draw.columns]),
        draw.flip() ? draw.normal([heads * width]) : nil, draw.normal([kvHeads * width, draw.columns]),
        before,
        attributes: [
          "count": .int(1 + draw.below(draw.rows)), "prefix": .int(prefix), "heads": .int(heads),
          "kv_heads": .int(kvHeads), "scale": .float(0.5), "rows": .int(prefix > 0 ? 1 : 0),
        ])
    },
    OpProblem("vit.keep_least") { draw in
      let prefix = draw.below(3)
      let tokens = prefix + draw.rows
      let before =
        draw.flip() ? gaps(&draw, prefix, tokens, draw.rows + 2) : nil
      return .of(
        draw.normal([draw.batch, tokens, 1]), before,
        attributes: ["count": .int(1 + draw.below(draw.rows)), "prefix": .int(prefix)])
    },
    OpProblem("vit.merge") { draw in
      let prefix = draw.below(3)
      let places = draw.rows + 3
      let tokens = prefix + draw.rows
      let isFirst = draw.flip()
      let own = isFirst ? prefix + places : tokens + draw.below(3)
      let hasGaps = draw.flip()
      let make = hasGaps ? gaps : table
      let merged = make(&draw, prefix, tokens, places)
      let before = isFirst ? nil : make(&draw, prefix, own, places)
      return .of(
        draw.normal([draw.batch, own, draw.columns]), merged, before,
        attributes: ["tokens": .int(tokens), "prefix": .int(prefix), "gaps": .bool(hasGaps)])
    },
    OpProblem("vit.unmerge") { draw in
      let prefix = draw.below(3)
      let (tokens, places) = (prefix + draw.rows, draw.rows + 3)
      let hasGaps = draw.flip()
      let make = hasGaps ? gaps : table
      return .of(
        draw.normal([draw.batch, tokens, draw.columns]), make(&draw, prefix, tokens, places),
        hasGaps && draw.flip() ? draw.normal([draw.batch, prefix + places, draw.columns]) : nil,
        attributes: ["prefix": .int(prefix), "gaps": .bool(hasGaps)])
    },
    OpProblem("vit.log_size") { draw in
      let prefix = draw.below(3)
      let tokens = prefix + draw.rows
      let places = table(&draw, prefix, tokens, draw.rows + 3)
      return .of(places, attributes: ["tokens": .int(tokens), "prefix": .int(prefix)])
    },
  ]
}
