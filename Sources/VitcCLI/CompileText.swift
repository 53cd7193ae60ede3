internal import VitIR
internal import VitPasses
internal import Vitc

/// What a compile prints.
enum CompileText {
  /// What was found out on the way.
  static func event(_ event: Compiler.Event) -> String {
    switch event {
    case .bound(let bound, let count): return text(bound, count: count)
    case .pipeline(let pipeline): return "pipeline\n  \(pipeline)\n\n"
    case .duration(let nominal, let here):
      return
        "expected to take \(here.asTime) here, \(nominal.asTime) at \((Budget.rate / 1e9).fixed(0)) GFLOP/s\n\n"
    case .scores(let layers):
      return "scores\n" + ScoreTable.text(layers.map { ($0.index, $0.scores) }) + "\n"
    case .choice(let layers, let notes):
      let more = [("error", "error"), ("damage", "damage")]
      return "choice: " + notes.joined(separator: "; ") + "\n"
        + ScoreTable.text(layers.map { ($0.index, $0.scores) }, more: more) + "\n"
    }
  }

  private static func text(_ bound: Bound, count: Int) -> String {
    func line(_ what: String, _ share: KeyPath<Bound.Share, Double>) -> String {
      let all = bound.layers.reduce(0) { $0 + $1[keyPath: share] }
      let some = bound.speedup(replacing: count, by: share)
      let most = bound.speedup(replacing: bound.layers.count, by: share)
      return
        "  \(what): attention layers take \(all.percent); without \(count) of them at most \(some.fixed(2)) times less, "
        + "without all \(most.fixed(2))\n"
    }
    return "bound: what replacing attention can give at most, at no cost of what replaces it\n"
      + line("operations", \.flops) + line("time here ", \.time) + line("parameters", \.parameters) + "\n"
  }

  /// What a mixer costs beside the attention that it replaces, at this model's sizes.
  private static func text(_ exchange: Report.Exchange) -> String {
    let (attention, mixer) = (exchange.attention, exchange.mixer)
    func part(_ mixer: Int, _ attention: Int) -> String {
      "\((100 * Double(mixer) / Double(max(attention, 1))).fixed(0)) %"
    }
    let isMore = mixer.parameters > attention.parameters || mixer.flops > attention.flops
    return
      "\nlayers \(exchange.layers): \(exchange.kind) has \(mixer.parameters.grouped) parameters, "
      + "\(part(mixer.parameters, attention.parameters)) of the attention's, and takes "
      + "\(Double(mixer.flops).asCount) operations, \(part(mixer.flops, attention.flops)) of the attention's"
      + (isMore ? ": more than what it replaces\n" : "\n")
  }

  /// How far each mixer is from the attention that it replaces, on all rows, on those before the patches and on the patches',
  /// beside what needs no look at other tokens' contents.
  private static func errors(_ report: Report) -> String {
    let replaced = report.layers.filter { $0.isSelected && $0.scores["error"] != nil }
    guard !replaced.isEmpty else { return "" }
    let floors = Set(replaced.flatMap(\.floors.keys)).sorted()
    var table = Table(["layer", "mixer", "error", "first tokens", "patches"] + floors)
    for layer in replaced {
      func number(_ value: Double?) -> String { value?.short ?? "" }
      table.add(
        ["\(layer.index)", layer.kind]
          + ["error", "error_prefix", "error_patches"].map { number(layer.scores[$0]) }
          + floors.map { number(layer.floors[$0]) })
    }
    return
      "\nsquared error of each layer as a part of what its attention gives, before the whole was trained\n"
      + table.text
  }

  /// What lost its block, its own attention map, or channels.
  private static func reductions(_ report: Report) -> String {
    var text = ""
    for (kind, words) in [
      (Layer.removed, "blocks are gone"), (Layer.linear, "blocks are one linear map"),
      (Layer.shared, "layers use the attention map of one before"),
    ] {
      let layers = report.layers.filter { $0.kind == kind }.map { "\($0.index)" }
      if !layers.isEmpty { text += "\n\(words): \(layers.joined(separator: ", "))\n" }
    }
    if !report.perceptrons.isEmpty {
      let kept = report.perceptrons.map { "\($0.index): \($0.kept) of \($0.channels)" }
      text += "\nperceptrons keep fewer channels: \(kept.joined(separator: ", "))\n"
    }
    let fewer = report.heads.filter { $0.countKept < $0.count }
    if !fewer.isEmpty {
      let kept = fewer.map { "\($0.layer): \($0.countKept) of \($0.count)" }
      text += "\nlayers keep fewer heads: \(kept.joined(separator: ", "))\n"
    }
    let narrower = report.heads.filter { $0.scoresKept < $0.scores || $0.valuesKept < $0.values }
    if !narrower.isEmpty {
      let kept = narrower.map {
        "\($0.layer): \($0.scoresKept) of \($0.scores), \($0.valuesKept) of \($0.values)"
      }
      text += "\nheads keep fewer channels for scores and of values: layer \(kept.joined(separator: "; "))\n"
    }
    return text
  }

  /// What was measured on images that decided nothing, beside what was aimed at.
  private static func promise(_ report: Report) -> String {
    let fidelity = report.fidelity
    guard let aim = report.aim, let teacher = fidelity.teacherAccuracy, let hybrid = fidelity.accuracy,
      let bound = fidelity.dropBound, let agreement = fidelity.agreement
    else { return "" }
    let drop = 100 * (teacher - hybrid)
    let said = drop >= 0 ? "loses \(drop.fixed(2))" : "gains \((-drop).fixed(2))"
    return
      "\non \(fidelity.images.grouped) images that were used neither to solve nor to choose, the hybrid \(said) points (one-sided "
      + "95 % bound: \((100 * bound).fixed(2)) lost) and agrees on \(agreement.percent); at most \(aim.fixed(2)) lost were aimed at"
      + (drop > aim ? ", and are exceeded" : "") + ". Nothing is claimed for other data.\n"
  }

  /// By how much `b` is less than `a`, or more, as a part of it; nothing where `b` is not known.
  static func change(_ a: Int, _ b: Int) -> String {
    b > 0 ? "\(((Double(b) / Double(max(a, 1)) - 1) * 100).fixed(1)) %" : ""
  }

  /// Which layers what stands in for.
  private static func standing(in report: Report) -> String {
    let replaced = report.layers.filter(\.isSelected)
    guard !replaced.isEmpty else { return "all layers keep their attention" }
    let kinds = Set(replaced.map(\.kind)).sorted().map { kind in
      "\(replaced.filter { $0.kind == kind }.map(\.index)) are \(kind)"
    }
    return "layers " + kinds.joined(separator: ", ")
  }

  /// Teacher beside hybrid.
  static func summary(_ report: Report, options: CompilerOptions) -> String {
    var text = "result: \(standing(in: report)), measured on \(report.fidelity.images.grouped) images\n"
    var table = Table(["", "teacher", "hybrid", "change"])
    func row(_ name: String, _ teacher: String, _ hybrid: String, _ change: String = "") {
      table.add([name, teacher, hybrid, change])
    }
    let fidelity = report.fidelity
    if let teacher = fidelity.teacherAccuracy, let hybrid = fidelity.accuracy {
      let error = fidelity.dropError.map { " ± \((196 * $0).fixed(2))" } ?? ""
      row(
        "accuracy", teacher.percent, hybrid.percent, "\(((hybrid - teacher) * 100).fixed(2))\(error) points")
    }
    if let agreement = fidelity.agreement { row("agreement", "", agreement.percent) }
    if let divergence = fidelity.divergence {
      row("KL", "", divergence.short, fidelity.divergenceError.map { "± \((1.96 * $0).short)" } ?? "")
    }
    if fidelity.agreement == nil { row("relative error", "", fidelity.relativeError.short) }
    let (teacher, hybrid) = (report.teacher, report.hybrid)
    row(
      "parameters", teacher.parameters.grouped, hybrid.parameters.grouped,
      change(teacher.parameters, hybrid.parameters))
    if let before = teacher.bytes, let after = hybrid.bytes {
      row("file bytes", before.grouped, after.grouped, change(before, after))
    }
    row(
      "flops", Double(teacher.flops).asCount, Double(hybrid.flops).asCount,
      change(teacher.flops, hybrid.flops)
    )
    if let (teacher, hybrid) = report.timing {
      func time(_ timing: Timing) -> String {
        "\(timing.median.fixed(2)) (\(timing.low.fixed(2))…\(timing.high.fixed(2)))"
      }
      let batch = report.timedBatch
      row(
        batch > 1 ? "ms for \(batch)" : "ms", time(teacher), time(hybrid),
        "\(((hybrid.median / teacher.median - 1) * 100).fixed(1)) %")
    }
    text += table.text
    text += promise(report)
    for exchange in report.exchanges { text += self.text(exchange) }
    text += reductions(report)
    if let found = report.found { text += "\nthe same without looking for it:\n  \(found)\n" }
    text += errors(report)
    if !report.stages.isEmpty {
      text += "\nheld-out damage: "
      text +=
        report.stages.map { "\($0.pass) \($0.damage.before.short) to \($0.damage.after.short)" }
        .joined(separator: ", ") + "\n"
    }
    if let quantised = report.quantised {
      // What is compared with is not the file as it is.
      let accuracy = quantised.accuracy.map { "accuracy \($0.percent), " } ?? ""
      let closeness =
        quantised.agreement.map { "agreement \($0.percent)" }
        ?? "relative error \(quantised.relativeError.short)"
      text += "\nthe teacher is the float form of a quantised file, which as it is has "
      text += "\(accuracy)\(closeness)\n"
    }
    if let retained = report.retained {
      func gap(_ fidelity: Fidelity) -> String {
        let accuracy = fidelity.accuracy.flatMap { own in
          fidelity.teacherAccuracy.map { "\((100 * (own - $0)).fixed(2)) points, " }
        }
        return (accuracy ?? "")
          + (fidelity.agreement.map { "agreement \($0.percent)" }
            ?? "relative error \(fidelity.relativeError.short)")
      }
      text += "\nthe teacher that drops tokens, against the one with all: \(gap(retained.teacher))\n"
      text += "the hybrid against the teacher that drops tokens: \(gap(retained.hybrid))\n"
    }
    if report.nonFiniteSamples > 0 {
      text +=
        "\nleft out: \(report.nonFiniteSamples.grouped) samples, for which the teacher gives no numbers\n"
    }
    if report.fidelity.nonFinite > 0 {
      text +=
        "\nthe hybrid gives no numbers for \(report.fidelity.nonFinite.grouped) of the images measured\n"
    }
    if report.isLarger {
      text +=
        "\nthe hybrid has more parameters: mixers have weights of their own, attention may have shared them\n"
    }
    let known = report.correlations.compactMap { entry in entry.value.map { "\(entry.name) \($0.fixed(2))" } }
    if !known.isEmpty {
      text += "\nrank correlation with the damage of a swap: \(known.joined(separator: ", "))\n"
    }
    if let timing = report.timing, timing.hybrid.median >= timing.teacher.median {
      text += "\nthe hybrid is not faster here: its gain is its size\n"
    }
    for stop in report.stops {
      text +=
        "\(stop.pass): stopped by the deadline after \(stop.step) of \(stop.steps) steps: another run stops elsewhere\n"
    }
    for divergence in report.divergences {
      let layer = divergence.layer.map { "layer \($0) " } ?? ""
      text +=
        "\(divergence.pass): \(layer)went astray at step \(divergence.step + 1), rate \(divergence.rate)\n"
    }
    for control in report.controls {
      let damage =
        control.fidelity.accuracy.map { "accuracy \($0.percent)" } ?? "error \(control.fidelity.damage.short)"
      text += "control \(control.mixer): \(damage)"
      text += control.fidelity.agreement.map { ", agreement \($0.percent)" } ?? ""
      text += control.fidelity.divergence.map { ", KL \($0.short)" } ?? ""
      text +=
        control.excess.map { ", \($0.mean.short) ± \((1.96 * $0.error).short) more than the hybrid\n" }
        ?? "\n"
    }
    if let better = report.beatsControls {
      let isOne = !report.mixer.contains(",")
      text +=
        better
        ? "\(report.mixer) \(isOne ? "beats" : "beat") the controls, given the same steps\n"
        : "\(report.mixer) \(isOne ? "is" : "are") not credited: mixing of tokens was not needed, a control with the same steps is as near\n"
    }
    return text
  }
}
