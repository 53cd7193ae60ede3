internal import Glibc
internal import VitPasses

/// Studies as one page: what was asked, what was found for the first teacher, and how others compare.
struct StudyPage {
  private let studies: [StudyResult]

  /// The page of studies, of which the first is shown in full.
  init(_ studies: [StudyResult]) { self.studies = studies }

  /// The page.
  var html: String {
    guard let study = studies.first else { return "" }
    return Markup.page(
      title: "vitc study: \(study.name)", version: Version.current, head: head(study),
      sections: [
        answer(study), layers(study), replacement(study), retention(study), subsets(study), beside,
        protocolText(study),
      ].compactMap { $0 },
      foot: [
        Markup("p", text: "Protocol \(study.plan.name), \(study.identity.plan)."),
        Markup("p", text: "Teacher \(study.identity.teacher)."),
      ])
  }

  private func head(_ study: StudyResult) -> [Markup] {
    var tiles: [(String, String)] = [(study.analysis.verdict.rawValue, "is what it comes down to")]
    if let primary = study.analysis.primary {
      tiles.append(
        (interval(primary.estimate), "change of the log error for a standard deviation of sparsity"))
    }
    tiles.append((study.parameters.asCount, "parameters"))
    tiles.append(("\(study.layers.count)", "layers that can be replaced"))
    return [
      Markup("h1", text: "A study of \(study.name)"),
      Markup(
        "p",
        text:
          "Is a layer with sparser attention easier to replace by a sequential module, or is that a matter of where it stands?"
      ), .tiles(tiles),
    ]
  }

  /// A mean with its interval of 95 in 100.
  private func interval(_ estimate: StudyStatistics.Estimate) -> String {
    "\(estimate.mean.signed(3)) (\((estimate.mean - estimate.half95).signed(3)) to \((estimate.mean + estimate.half95).signed(3)))"
  }

  // MARK: Position

  private func answer(_ study: StudyResult) -> Markup? {
    let analysis = study.analysis
    guard let primary = analysis.primary else { return nil }
    let words =
      switch analysis.verdict {
      case .sparsity:
        "At equal depth, layers whose attention was made sparser are replaced with a smaller error: the interval is off 0, with the dependence on the image beside it and against a teacher that was disturbed as much without being made sparser."
      case .position:
        "At equal depth, making attention sparser or denser changes the error of replacement by less than \(StudyAnalysis.bound.fixed(2)) in its logarithm for a standard deviation."
      case .undecided where analysis.isOpposite:
        "At equal depth, layers whose attention was made sparser are harder to replace: the interval is off 0 on the other side than the claim's."
      case .undecided:
        "The interval holds both slopes that would matter and none: this teacher has too few layers to tell."
      }
    var rows = [row("\(primary.endpoint)", primary.predictor, primary.estimate, primary.signFlip, nil)]
    if let beside = analysis.beside {
      rows.append(row("the same with dependence beside it", "entropy", beside, nil, nil))
    }
    if let sham = analysis.sham {
      rows.append(row("the same, values disturbed at the same maps", "none (sham)", sham, nil, nil))
    }
    rows += analysis.secondary.map { row($0.endpoint, $0.predictor, $0.estimate, $0.signFlip, $0.together) }
    return Markup.section(
      "Sparsity or position",
      [
        Markup("p", text: words),
        Markup(
          "p",
          text:
            "Teachers by Latin squares: the queries of each layer are multiplied by each of \(study.plan.position.factors.map { "\($0)" }.joined(separator: ", ")) in turn, in such an order that this says nothing of depth; each teacher recovers for \(study.plan.position.recoverySteps) steps, and each layer of it is replaced alone. Slopes are within layers, the means of layers and teachers taken out; intervals are t over layers; the last layer is left out."
        ),
        .table(
          caption: "Slopes of log endpoints on a standard deviation of the predictor",
          ["endpoint", "predictor", "slope", "95 % from", "to", "sign flip p", "p, all together"], rows),
        scatter(study),
      ])
  }

  private func row(
    _ endpoint: String, _ predictor: String, _ estimate: StudyStatistics.Estimate, _ flip: Double?,
    _ together: Double?
  ) -> [String] {
    [
      endpoint, predictor, estimate.mean.signed(3), (estimate.mean - estimate.half95).signed(3),
      (estimate.mean + estimate.half95).signed(3), flip?.fixed(3) ?? "", together?.fixed(3) ?? "",
    ]
  }

  private func scatter(_ study: StudyResult) -> Markup? {
    let scores = Dictionary(
      study.records.filter { $0.kind == "layer" }.compactMap { record in
        record.number("entropy").map { (key(record), $0) }
      }, uniquingKeysWith: { first, _ in first })
    let singles = study.records.filter { record in
      record.kind == "single" && record.integer("seed") == 0
        && record.text("mixer") == study.plan.position.forms.first?.mixer
        && record.text("prefix") == study.plan.position.forms.first?.prefix
        && record.text("arm")?.hasPrefix("square") ?? false
    }
    let series = study.layers.map { layer in
      PointChart.Series(
        name: "layer \(layer)",
        points: singles.filter { $0.integer("layer") == layer }.compactMap { record in
          guard let x = scores[key(record)], let y = record.number("patch_error"), y > 0 else { return nil }
          return (x, y, "")
        })
    }
    return PointChart(
      title: "Sparsity against the error of replacement",
      description:
        "Each dot is a layer of one of the teachers of the squares, replaced alone by \(study.plan.position.forms.first?.mixer ?? ""); sparsity is one less the normalised entropy of its maps.",
      x: ("sparsity", false), y: ("error on patch rows", true), series: series
    ).chart?.markup
  }

  private func key(_ record: StudyRecord) -> String {
    "\(record.text("arm") ?? "") \(record.integer("layer") ?? -1)"
  }

  // MARK: The teacher's layers

  private func layers(_ study: StudyResult) -> Markup? {
    let own = study.records.filter { $0.text("arm") == "original" }
    let forms = study.plan.position.forms
    let rows = study.layers.map { layer -> [String] in
      let record = own.first { $0.kind == "layer" && $0.integer("layer") == layer }
      let scores = ["entropy", "gini", "dependence", "distance"].map { record?.number($0)?.fixed(3) ?? "" }
      let damages = forms.map { form -> String in
        let found = own.filter { single in
          single.kind == "single" && single.integer("layer") == layer && single.text("mixer") == form.mixer
            && single.text("prefix") == form.prefix
        }.compactMap { $0.number("damage") }
        return found.isEmpty ? "" : (found.reduce(0, +) / Double(found.count)).short
      }
      return ["\(layer)"] + scores + damages
    }
    let names = forms.map { form in
      form.mixer + (form.prefix == "auto" ? "" : ", prefix=\(form.prefix)")
        + (form.steps > 0 ? ", \(form.steps) steps" : "")
    }
    return Markup.section(
      "The teacher's layers",
      [
        .table(
          caption:
            "How sparse each layer is, and what replacing it alone does to the outputs (KL, or relative error)",
          ["layer", "sparsity", "gini", "dependence", "distance"] + names, rows)
      ])
  }

  // MARK: Groups

  private func replacement(_ study: StudyResult) -> Markup? {
    let records = study.records.filter { $0.kind == "replacement" }
    guard !records.isEmpty else { return nil }
    let groups = study.plan.replacement.groups
    let mixers = study.plan.replacement.mixers + study.plan.replacement.controls
    func mean(_ name: String, _ mixer: String, _ group: String) -> Double? {
      let values = records.filter { $0.text("mixer") == mixer && $0.text("group") == group }
        .compactMap { $0.number(name) }
      return values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
    }
    let chart = BarChart(
      title: "Groups of layers replaced",
      description: "The damage of each mixer in each group; controls last.",
      unit: "KL", series: groups,
      rows: mixers.map { mixer in (mixer, groups.map { mean("damage", mixer, $0) }) })
    let rows = records.map { record -> [String] in
      [
        record.text("mixer") ?? "", record.text("group") ?? "", "\(record.integer("seed") ?? 0)",
        (record.integers("layers") ?? []).map(String.init).joined(separator: " "),
        record.number("points")?.signed(2) ?? "",
        record.number("points_error")?.fixed(2) ?? "", record.number("agreement")?.percent ?? "",
        record.number("damage")?.short ?? "",
        record.number("parameters").map { "\((100 * ($0 / max(study.parameters, 1) - 1)).signed(1)) %" }
          ?? "",
        record.number("flops").map { "\((100 * ($0 / max(study.flops, 1) - 1)).signed(1)) %" } ?? "",
      ]
    }
    return Markup.section(
      "Groups under a fixed budget",
      [
        Markup(
          "p",
          text:
            "Each mixer, and each control, is distilled for \(study.plan.replacement.distilSteps) steps and trained with the rest for \(study.plan.replacement.fineTuneSteps). A mixer that does no better than the controls mixed nothing that was needed."
        ), chart.chart?.markup,
        .table(
          caption: "Each run",
          ["mixer", "group", "seed", "layers", "points", "±", "agreement", "KL", "parameters", "operations"],
          rows),
      ])
  }

  // MARK: Tokens

  private func retention(_ study: StudyResult) -> Markup? {
    let records = study.records.filter { $0.kind == "retention" }
    guard !records.isEmpty else { return nil }
    func series(_ name: String, _ guided: Int, _ member: String) -> PointChart.Series {
      PointChart.Series(
        name: name,
        points: records.filter { $0.integer("guided") == guided }.compactMap { record in
          record.number("keep").flatMap { keep in record.number(member).map { (keep, $0, "") } }
        }, isLine: true)
    }
    let member = records.contains { $0.number("accuracy") != nil } ? "accuracy" : "agreement"
    let chart = PointChart(
      title: "Teachers that drop tokens",
      description:
        "\(member.capitalized) of teacher and students against the part of the patches kept at each of three places.",
      x: ("kept", false), y: (member, false),
      series: [
        series("teacher", 0, "masked_teacher_\(member)"), series("student of all tokens", 0, member),
        series("student of kept tokens", 1, member),
      ])
    let names = [
      "keep", "guided", "steps", "masked_teacher_accuracy", "accuracy", "gap_masked", "gap_unmasked",
      "agreement", "damage", "flops",
    ]
    return Markup.section(
      "Sparser teachers",
      [
        chart.chart?.markup,
        .table(
          caption: "Gaps in points, to the teacher that drops tokens and to the one that does not",
          names.map { $0.replacing("_", with: " ") },
          records.map { record in names.map { record.number($0)?.short ?? "" } }),
      ])
  }

  // MARK: Subsets

  private func subsets(_ study: StudyResult) -> Markup? {
    let records = study.records.filter { $0.kind == "subset" }
    guard !records.isEmpty else { return nil }
    let scores = Dictionary(
      study.records.filter { $0.kind == "layer" && $0.text("arm") == "original" }.compactMap { record in
        record.integer("layer").flatMap { layer in record.number("entropy").map { (layer, $0) } }
      }, uniquingKeysWith: { first, _ in first })
    let points = records.compactMap { record -> (x: Double, y: Double, label: String)? in
      guard let layers = record.integers("layers"), !layers.isEmpty, let y = record.number("damage"), y > 0
      else { return nil }
      return (
        layers.reduce(0) { $0 + (scores[$1] ?? 0) } / Double(layers.count), y,
        layers.map(String.init).joined(separator: " ")
      )
    }
    let pairs = study.records.filter { $0.kind == "pair" }.map { record -> [String] in
      [
        "\(record.integer("pair") ?? 0)", record.text("group") ?? "",
        (record.integers("layers") ?? []).map(String.init).joined(separator: " "),
        record.number("points")?.signed(2) ?? "",
        record.number("damage")?.short ?? "",
      ]
    }
    let explained = study.analysis.subsets.map {
      [$0.name, $0.estimate.mean.signed(3), $0.estimate.half95.fixed(3)]
    }
    return Markup.section(
      "All subsets",
      [
        PointChart(
          title: "Subsets of layers",
          description:
            "Every subset that was measured: the mean sparsity of its layers against its damage, without training.",
          x: ("mean sparsity", false), y: ("KL", true),
          series: [PointChart.Series(name: "subsets", points: points)]
        ).chart?.markup,
        explained.isEmpty
          ? nil
          : .table(
            caption: "What explains the logarithm of a subset's damage: standardised slopes (descriptive)",
            ["predictor", "slope", "±"], explained),
        pairs.isEmpty
          ? nil
          : .table(
            caption:
              "Pairs of the same mean depth, trained for \(study.plan.subsets.fineTuneSteps) steps (descriptive)",
            ["pair", "group", "layers", "points", "KL"], pairs),
      ])
  }

  // MARK: Other teachers

  private var beside: Markup? {
    guard studies.count > 1 else { return nil }
    let mixers = studies.flatMap { $0.plan.replacement.mixers + $0.plan.replacement.controls }
    let names = mixers.enumerated().filter { mixers.firstIndex(of: $0.element) == $0.offset }.map(\.element)
    let rows = studies.map { study -> [String] in
      let damages = names.map { mixer -> String in
        let found = study.records.filter { $0.kind == "replacement" && $0.text("mixer") == mixer }
          .compactMap { $0.number("damage") }
        return found.isEmpty ? "" : (found.reduce(0, +) / Double(found.count)).short
      }
      return [
        study.name, study.parameters.asCount, "\(study.layers.count)", study.analysis.verdict.rawValue,
        study.analysis.primary.map { interval($0.estimate) } ?? "",
      ] + damages
    }
    return Markup.section(
      "Teachers side by side",
      [
        .table(
          caption: "Size, verdict, and the mean damage over groups of each mixer",
          ["teacher", "parameters", "layers", "verdict", "slope (95 %)"] + names, rows)
      ])
  }

  private func protocolText(_ study: StudyResult) -> Markup? {
    Markup.section("The protocol", [Markup("pre", text: study.plan.json.text)])
  }
}
