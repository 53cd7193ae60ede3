import Testing
import VitIR
import VitOps
import VitPasses

@Suite("Mixers with fewer channels than the attention")
struct NarrowMixerTests {
  /// The error of the mixers of a tiny teacher, solved in closed form.
  private func errors(_ swap: String, _ teacher: Hybrid, count: Int = 64) throws -> [Double] {
    let context = TinyViT.context(count: count)
    let hybrid = try apply(
      "swap{\(swap),layers=all,images=\(count)},distil{steps=0,images=\(count)}", to: teacher, context)
    return try hybrid.layers.map { try #require($0.candidates.last?.error) }
  }

  /// A teacher whose heads of values have only half of their channels: the others are copies.
  private func halved() throws -> Hybrid {
    var teacher = try TinyViT.model()
    let heads = try #require(teacher.layers.first?.heads)
    for node in teacher.graph.nodes where node.operation is VitAttention {
      for operand in [5, 6] {
        guard let id = node.operands[operand], let tensor = teacher.graph.tensor(id) else { continue }
        var rows = try tensor.doubles()
        let (row, width) = (rows.count / tensor.shape[0], tensor.shape[0] / heads)
        for head in 0..<heads {
          for channel in width / 2..<width {
            for column in 0..<row {
              rows[(head * width + channel) * row + column] =
                rows[(head * width + channel - width / 2) * row + column]
            }
          }
        }
        teacher.graph.setTensor(Tensor(.f32, shape: tensor.shape, values: rows), of: id)
      }
    }
    return teacher
  }

  @Test(
    "half of the channels lose nothing where the others are copies",
    arguments: ["conv", "static{fit=solve}", "glr"])
  func copies(_ mixer: String) throws {
    let teacher = try halved()
    let whole = try errors("mixer=\(mixer)", teacher)
    let half = try errors("mixer=\(mixer),width=0.5", teacher)
    for (half, whole) in zip(half, whole) {
      // A recurrence has half of the gates, too.
      #expect(half < whole * (mixer == "glr" ? 1.3 : 1.02) + 1e-6, "\(half), \(whole)")
    }
  }

  @Test(
    "the fewer channels, the larger the error; and the first tokens' rows lose the same channels",
    arguments: ["conv", "glr"])
  func widths(_ mixer: String) throws {
    let teacher = try TinyViT.model()
    let context = TinyViT.context(count: 64)
    var last = [Double](repeating: 0, count: 2)
    for width in [1.0, 0.5, 0.25] {
      let found = try errors("mixer=\(mixer),width=\(width),prefix=attend", teacher)
      for (found, before) in zip(found, last) { #expect(found > before * 0.9, "\(mixer) at \(width)") }
      last = found
      let hybrid = try apply(
        "swap{mixer=\(mixer),width=\(width),prefix=attend,layers=[0]}", to: teacher, context)
      let values = hybrid.graph.nodes.filter { $0.operation is PrefixAttention }.flatMap(\.operands)
        .compactMap { $0 }.filter { hybrid.graph[$0].name == "mixer.0.wv" }
      #expect(values.count == 1)
    }
  }
}
