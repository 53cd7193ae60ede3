import Foundation
import Testing
import VitIR
import VitOps

/// Holds the table of Mixers.md that says what each mixer costs as a part of the attention that it replaces.
@Suite("what mixers cost beside attention")
struct MixerCostTableTests {
  /// Dimension and heads of DeiT-T, S and B.
  private static let models = [(dim: 192, heads: 3), (384, 6), (768, 12)]

  /// The row of a mixer as it stands in the table: parameters and operations for each model.
  private func row(_ kind: MixerKind, _ options: [(String, Attribute)]) throws -> String {
    let given = Attributes(options)
    let order = try ScanOrder(.bidirectional, grid: .init(rows: 14, columns: 14), prefix: 1)
    let parts = try Self.models.map { dim, teacherHeads in
      let splitsHeads = try kind.splitsHeads(given)
      let width = try MixerLayout.width(kind.defaultWidth(given), of: dim)
      let layout = try MixerLayout(
        dim: dim, outputDim: dim, width: width,
        heads: MixerLayout.defaultHeads(
          width: width, teacherHeads: teacherHeads, order: order, splitsHeads: splitsHeads),
        order: order, splitsHeads: splitsHeads)
      let mixer = try kind.make(layout, given)
      let attention = try Registry.standard.make(
        "vit.attention", Attributes([("heads", .int(teacherHeads))]))
      let maps: [[Int]] = (0..<4).flatMap { _ in [[dim, dim], [dim]] }
      let own = try cost(mixer, mixer.parameters(layout).map(\.shape), dim)
      let whole = try cost(attention, maps, dim)
      return "\(hundredths(own.parameters, whole.parameters)) · \(hundredths(own.flops, whole.flops))"
    }
    let options = options.map { "\($0.0)=\($0.1.text.filter { $0 != "\"" })" }.joined(separator: ",")
    return "| `\(kind.name)\(options.isEmpty ? "" : "{\(options)}")` | " + parts.joined(separator: " | ")
      + " |"
  }

  private func cost(_ operation: any VitIR.Operation, _ shapes: [[Int]], _ dim: Int) throws -> (
    parameters: Int, flops: Int
  ) {
    let operands = Operands(
      [TensorType(.f32, fixed: [1, 197, dim])] + shapes.map { TensorType(.f32, fixed: $0) })
    let results = try operation.resultTypes(operands)
    return (shapes.reduce(0) { $0 + $1.reduce(1, *) }, operation.cost(operands, results).flops)
  }

  private func hundredths(_ part: Int, _ whole: Int) -> String {
    String(format: "%.2f", Double(part) / Double(whole))
  }

  @Test("the table has a row for each kind, and its numbers are those of the operations")
  func table() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let page = try String(
      contentsOf: root.appending(path: "Sources/Vitc/Vitc.docc/Mixers.md"), encoding: .utf8)
    let lines = page.split(separator: "\n").map(String.init)
    let rows =
      try Mixers.all.map { try row($0, []) } + [row(Mixers.named("lstm"), [("form", .string("full"))])]
    for row in rows { #expect(lines.contains(row), "there is no row \(row)") }
  }
}
