internal import Glibc
internal import VitIR
public import VitPasses

/// A compile's report as one HTML page that needs nothing else: no network, no script, no file beside it.
public struct ReportPage {
  private let report: ReportDocument
  /// What was drawn of the models; `nil` for nothing.
  public var figures: ReportFigures?

  /// The page of the report in a file, as `vitc compile --report FILE.json` writes it, with what was drawn of the models. Throws
  /// for a file that is missing, or no report of the form that this version knows.
  public init(contentsOf path: String, figures: ReportFigures? = nil) throws {
    (report, self.figures) = (try ReportDocument(contentsOf: path), figures)
  }

  /// The page of a report.
  public init(_ report: Report, figures: ReportFigures? = nil) throws {
    (self.report, self.figures) = (try ReportDocument(report.json()), figures)
  }

  /// The page, which appears whole or not at all.
  public func write(to path: String) throws { try TextFile.write(html, to: path) }

  /// The page.
  public var html: String {
    Markup.page(
      title: "vitc: \(report.text("mixer") ?? "report")", version: report.text("version") ?? "", head: head,
      sections: sections.compactMap { $0 }, foot: foot)
  }

  private var sections: [Markup?] {
    [comparison, layers, passes, curves, search, controls] + (figures?.sections ?? []).map(Optional.some) + [
      pipeline
    ]
  }

  // MARK: Head

  private var head: [Markup] {
    var tiles: [(String, String)] = []
    if let points { tiles.append((points, "points of accuracy")) }
    if let agreement = report.number("fidelity", "agreement") {
      tiles.append((agreement.percent, "say what the teacher says"))
    }
    if let kl = report.number("fidelity", "kl") { tiles.append((kl.short, "mean KL from the teacher")) }
    if let change = change("parameters") { tiles.append((change, "parameters")) }
    if let change = change("flops") { tiles.append((change, "operations")) }
    if let teacher = report.number("teacher", "ms"), let hybrid = report.number("hybrid", "ms"), hybrid > 0 {
      tiles.append(("\((teacher / hybrid).fixed(2))×", "as fast"))
    }
    let images = report.number("fidelity", "images") ?? 0
    return [
      Markup("h1", text: "Teacher and hybrid"),
      Markup(
        "p",
        text:
          "What vitc \(report.text("version") ?? "") made of a vision transformer, measured on \(Int(clamping: images).grouped) images that decided nothing."
      ),
      .tiles(tiles),
    ]
  }

  /// The points of accuracy that are gained, with 1.96 standard errors.
  private var points: String? {
    guard let own = report.number("fidelity", "accuracy"),
      let teacher = report.number("fidelity", "teacher", "accuracy")
    else { return nil }
    let error = report.number("fidelity", "drop_error").map { " ± \((196 * $0).fixed(2))" } ?? ""
    return (100 * (own - teacher)).signed(2) + error
  }

  private func change(_ member: String) -> String? {
    guard let before = report.number("teacher", member), let after = report.number("hybrid", member),
      before > 0
    else { return nil }
    return "\((100 * (after / before - 1)).signed(1)) %"
  }

  // MARK: Teacher beside hybrid

  private var comparison: Markup? {
    var rows: [[String]] = []
    func row(_ name: String, _ before: String?, _ after: String?, _ change: String?) {
      if let before, let after { rows.append([name, before, after, change ?? ""]) }
    }
    row(
      "accuracy", report.number("fidelity", "teacher", "accuracy")?.percent,
      report.number("fidelity", "accuracy")?.percent, points.map { "\($0) points" })
    for (name, member) in [
      ("parameters", "parameters"), ("bytes of the file", "bytes"), ("operations", "flops"),
    ] {
      row(
        name, report.number("teacher", member).map { Int(clamping: $0).grouped },
        report.number("hybrid", member).map { Int(clamping: $0).grouped }, change(member))
    }
    func time(_ model: String) -> String? {
      guard let median = report.number(model, "ms"), let low = report.number(model, "ms_low"),
        let high = report.number(model, "ms_high")
      else { return nil }
      return "\(median.fixed(2)) (\(low.fixed(2))…\(high.fixed(2)))"
    }
    let batch = Int(clamping: report.number("timed_batch") ?? 1)
    row(
      batch > 1 ? "milliseconds for \(batch) images" : "milliseconds", time("teacher"), time("hybrid"),
      change("ms"))
    let bound = report.number("fidelity", "drop_bound").map { bound -> Markup in
      let aim = report.number("aim").map { ", where at most \($0.fixed(2)) were aimed at" } ?? ""
      return Markup(
        "p",
        text: bound <= 0
          ? "With 95 % confidence the accuracy has not fallen\(aim)."
          : "With 95 % confidence at most \((100 * bound).fixed(2)) points are lost\(aim). Nothing is said of other data."
      )
    }
    return Markup.section(
      "Beside each other",
      [
        .table(
          caption: "teacher and hybrid; ± are 1.96 standard errors of pairs",
          ["", "teacher", "hybrid", "change"], rows),
        bound,
      ])
  }

  // MARK: Controls

  private var controls: Markup? {
    let controls = report.list("controls")
    guard !controls.isEmpty else { return nil }
    let rows = controls.map { control -> [String] in
      let excess = control["excess"]
      let mean = excess?["mean"]?.number, error = excess?["error"]?.number
      return [
        control.text("mixer") ?? "", control["fidelity"]?["accuracy"]?.number?.percent ?? "–",
        control["fidelity"]?["agreement"]?.number?.percent ?? "–",
        control["fidelity"]?["kl"]?.number?.short ?? "–",
        mean.flatMap { mean in error.map { "\(mean.signed(5)) ± \((1.96 * $0).fixed(5))" } } ?? "–",
      ]
    }
    return Markup.section(
      "Controls",
      [
        Markup(
          "p",
          text:
            "The same layers replaced by what mixes no tokens, with as many steps. Where a control does no more damage, mixing was not needed."
        ),
        .table(["control", "accuracy", "agreement", "KL", "more damage than the hybrid"], rows),
      ])
  }

  // MARK: Foot

  private var pipeline: Markup? {
    Markup.section(
      "The pipeline",
      [
        report.text("pipeline").map { Markup("pre", text: $0) },
        report.text("found").map { found in
          Markup(
            "div", [:], [Markup("h3", text: "The same without looking for it"), Markup("pre", text: found)])
        },
      ])
  }

  private var foot: [Markup] {
    let data = ["training", "held_out", "evaluation"].compactMap { report.number("data", $0) }
      .map { Int(clamping: $0).grouped }
    guard data.count == 3 else { return [] }
    let seed = report.number("seed").map { ", seed \(Int(clamping: $0))" } ?? ""
    return [
      Markup(
        "p",
        text:
          "\(data[0]) images trained and solved, \(data[1]) were held out to choose by, \(data[2]) to measure on\(seed)."
      )
    ]
  }
}

extension ReportPage {
  // MARK: Layers

  /// The most numbers of a layer that the table shows.
  private static let mostColumns = 64

  fileprivate var layers: Markup? {
    guard !report.layers.isEmpty else { return nil }
    let names = Set(report.layers.flatMap(\.scores.keys)).sorted().prefix(ReportPage.mostColumns)
    let rows = report.layers.map { layer -> [String] in
      func part(_ own: Double?, _ attention: Double?) -> String {
        guard let own, let attention, attention > 0 else { return "–" }
        return "\((100 * own / attention).fixed(0)) %"
      }
      let cost = layer.isSelected ? layer.cost : nil
      return [
        "\(layer.index)", layer.kind, part(cost?.parameters, layer.attention?.parameters),
        part(cost?.flops, layer.attention?.flops),
      ]
        + names.map { layer.scores[$0]?.short ?? "" }
    }
    let damages = report.layers.compactMap { layer in
      layer.scores["damage"].map { (name: "layer \(layer.index) · \(layer.kind)", values: [Optional($0)]) }
    }
    let errors = report.layers.filter { $0.scores["error"] != nil && !$0.floors.isEmpty }
    let floors = Array(Set(errors.flatMap(\.floors.keys)).sorted().prefix(8))
    return Markup.section(
      "Layers",
      [
        .table(
          caption: "what stands in each layer, its size against the attention's, and what was found out",
          ["layer", "kind", "parameters", "operations"] + names, rows),
        BarChart(
          title: "Damage of single swaps",
          description:
            "How far each replacement alone takes the outputs from the teacher's (KL on held-out images): shorter is easier to replace.",
          unit: "KL", series: [], rows: damages
        ).chart?.markup,
        BarChart(
          title: "Errors of mixers beside their floors",
          description:
            "The squared error of each layer as a part of what its attention gives; the floors look at no other token's contents.",
          unit: "part of the attention's output", series: ["what stands there"] + floors,
          rows: errors.map { layer in
            (
              "layer \(layer.index) · \(layer.kind)",
              [layer.scores["error"]] + floors.map { layer.floors[$0] }
            )
          }
        ).chart?.markup,
        sparsity,
      ])
  }

  /// The damage of each layer against the indices of sparsity.
  private var sparsity: Markup? {
    let points = report.layers.compactMap { layer -> (x: Double, y: Double, label: String)? in
      guard let x = layer.scores["entropy"], let y = layer.scores["damage"], y > 0 else { return nil }
      return (x, y, "layer \(layer.index)")
    }
    guard points.count > 2 else { return nil }
    let found = report.number("correlation", "entropy")
    return PointChart(
      title: "Sparsity and damage",
      description:
        "Is a layer with sparser attention (lower entropy) easier to replace? Spearman's coefficient here: \(found?.fixed(2) ?? "unknown"), where 1 means that the harmless come first.",
      x: ("normalised entropy of the attention map", false), y: ("damage of the swap", true),
      series: [PointChart.Series(name: "layers", points: points)]
    ).chart?.markup
  }

  // MARK: Passes

  fileprivate var passes: Markup? {
    let steps = report.list("steps")
    guard let parameters = report.number("teacher", "parameters"),
      let flops = report.number("teacher", "flops"),
      parameters > 0, flops > 0
    else { return nil }
    let sizes = steps.map { step in
      (
        name: step.text("pass") ?? "",
        values: [("parameters", parameters), ("flops", flops)].map { member, whole in
          step[member]?.number.map { 100 * $0 / whole }
        }
      )
    }
    let stages = report.list("stages").map { stage in
      (name: stage.text("pass") ?? "", values: ["before", "after"].map { stage[$0]?.number })
    }
    return Markup.section(
      "What each pass did",
      [
        BarChart(
          title: "Size behind each pass",
          description:
            "Parameters and operations as per cent of the teacher's. While mixers are on trial all of them stand in the model.",
          unit: "% of the teacher", series: ["parameters", "operations"], rows: sizes
        ).chart?.markup,
        BarChart(
          title: "Damage before and behind passes",
          description:
            "How far the model is from the teacher on held-out images, before each pass that measured it and behind it.",
          unit: "damage", series: ["before", "behind"], rows: stages
        ).chart?.markup,
      ])
  }

  // MARK: Training

  fileprivate var curves: Markup? {
    let all = report.list("curves")
    let charts = ["distil", "fine-tune"].compactMap { pass -> Markup? in
      let curves = all.filter { $0.text("pass") == pass }
      let series = curves.map { curve -> PointChart.Series in
        let name = curve["layer"]?.number.map { "layer \(Int(clamping: $0))" } ?? "loss"
        return PointChart.Series(
          name: name,
          points: zip(curve.list("steps"), curve.list("losses"))
            .compactMap { step, loss in step.number.flatMap { step in loss.number.map { (step, $0) } } }
            .filter { $0.1 > 0 }.map {
              ($0, $1, name)
            },
          isLine: true)
      }
      return PointChart(
        title: "Loss of \(pass)",
        description: pass == "distil"
          ? "The squared error of each layer's mixer as a part of what its attention gives, step by step."
          : "The loss of the whole against the teacher's outputs, step by step.",
        x: ("step", false), y: ("loss", true), series: series
      ).chart?.markup
    }
    return Markup.section("Training", charts)
  }

  // MARK: Search

  fileprivate var search: Markup? {
    let points = report.list("points").compactMap { point -> (x: Double, y: Double, label: String)? in
      guard let cost = point["cost"]?.number, let damage = point["damage"]?.number, damage > 0 else {
        return nil
      }
      return (100 * cost, damage, "")
    }
    guard points.count > 1 else { return nil }
    return Markup.section(
      "Candidates",
      [
        PointChart(
          title: "Models on the way",
          description:
            "Each point is a model that was measured while it was looked for what the teacher can do without, before it was solved or trained.",
          x: ("cost, % of the teacher's", false), y: ("damage", true),
          series: [PointChart.Series(name: "models", points: points)]
        ).chart?.markup
      ])
  }
}

extension Double {
  /// The number with its sign and so many digits behind the point.
  func signed(_ digits: Int) -> String {
    (self > 0 ? "+" : self < 0 ? "−" : "±") + magnitude.fixed(digits)
  }
}

extension Int {
  /// The nearest whole number; 0 for none.
  init(clamping value: Double) {
    self = value.isFinite ? Int(Swift.max(Swift.min(value.rounded(), 9e15), -9e15)) : 0
  }
}
