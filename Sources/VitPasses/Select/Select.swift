public import VitIR

/// Chooses the layers to replace: by an index that `score` found, by measured damage, by place, or by name.
public struct Select: Pass {
  /// `select`.
  public static let name = "select"
  /// See `Pass`.
  public static let summary = "Chooses the layers to replace"
  /// See `Pass`.
  public static let example = "score,select{by=drop,count=1}"

  /// See `Reduction`.
  public static let forms = [(name: "by", value: "auto")]

  /// What layers are ranked by.
  public var criterion: Criterion
  /// From which end of the ranking they are taken.
  public var group: Group
  /// The number up to which (or, where larger comes first, from which on) all layers are chosen: it decides before `count` and
  /// `fraction`.
  public var threshold: Double?
  /// How many are chosen; without it `fraction` says so.
  public var count: Int?
  /// Whether as many are chosen as pay, with `by=auto`: a mixer is then one more way to make the model smaller.
  public var isFree = false
  /// Which part of all attention layers is chosen.
  public var fraction: Double
  /// The layers themselves, whatever they are ranked by.
  public var layers: [Int]?
  /// The held-out samples that the damage is measured on; by default all.
  public var images: Int?
  /// What is taken from the model beside, with `by=auto`.
  public var reduction: Reduction

  /// The pass.
  public init(
    by criterion: Criterion = .damage, group: Group = .sparse, threshold: Double? = nil, count: Int? = nil,
    fraction: Double = 0.5, layers: [Int]? = nil, images: Int? = nil, reduction: Reduction = Reduction()
  ) {
    self.criterion = criterion
    self.group = group
    self.threshold = threshold
    self.count = count
    self.fraction = fraction
    self.layers = layers
    self.images = images
    self.reduction = reduction
  }

  /// Channels are gone.
  public var isLossy: Bool { criterion == .auto }

  /// Takes `by` (damage; `swap` is another name of it), `group` (sparse: the front of the ranking; or dense; alone they mean
  /// the entropy's, and a place, as last, is one, too), `threshold` (of the number that ranks; all layers that keep it),
  /// `count` (with `by=auto` also auto: as many as pay), `fraction` (0.5, of all attention layers; used where there is no count), `layers`, which wins over the others,
  /// and `images` (all held-out ones): those that the damage is measured on. With `by=auto` also the options of `Reduction`.
  public init(options: inout OptionReader) throws(VitError) {
    self.init()
    let places = Criterion.allCases.filter { !$0.isMeasured }.map(\.rawValue)
    let place = options.word("group", of: places)
    if place == nil, let end = options.word("group", of: Group.allCases.map(\.rawValue)) {
      (criterion, group) = (.entropy, Group(rawValue: end) ?? group)
    }
    // Any other word is no group.
    group = try options.choice("group", or: places, default: group)
    let isOldName = options.word("by", of: ["swap"]) != nil
    let fallback = isOldName ? .damage : place.flatMap(Criterion.init) ?? criterion
    criterion = try options.choice("by", default: fallback)
    if let place, criterion.rawValue != place {
      throw VitError(
        "select: option 'group' cannot be '\(place)' where layers are ranked by \(criterion.rawValue)",
        kind: .usage,
        code: "option-value", help: "give one of the two")
    }
    threshold = try options.optional("threshold")
    isFree = options.word("count", of: ["auto"]) != nil
    if !isFree { count = try options.optional("count", or: "auto") }
    fraction = try options.value("fraction", default: fraction)
    layers = try options.integers("layers")
    images = try options.optional("images")
    if criterion == .auto { reduction = try Reduction(options: &options) }
  }

  /// Throws where nothing could be chosen.
  public func check() throws(VitError) {
    func bad(_ message: String) -> VitError {
      VitError("select: " + message, kind: .usage, code: "option-value")
    }
    // Auto has channels to choose, too.
    guard (count ?? 1) >= (criterion == .auto ? 0 : 1), (images ?? 1) > 0, fraction > 0, fraction <= 1 else {
      throw bad("expected a count and images of at least 1 and a fraction in (0, 1]")
    }
    guard !isFree || criterion == .auto && threshold == nil && layers == nil else {
      throw bad("'count=auto' is for layers that are chosen by auto, without names and threshold")
    }
    guard threshold?.isFinite ?? true else { throw bad("expected a finite threshold") }
    guard criterion.isMeasured || (group == .sparse && threshold == nil) else {
      throw bad(
        "'\(criterion.rawValue)' ranks by place, so there is no \(threshold == nil ? "dense end" : "threshold")"
      )
    }
    guard threshold == nil || count == nil else {
      throw bad("expected a threshold or a count, found both")
    }
    if criterion == .auto { try reduction.check() }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    var amount = count.map { ("count", "\($0)") } ?? ("fraction", "\(fraction)")
    if isFree { amount = ("count", "auto") }
    if let threshold { amount = ("threshold", "\(threshold)") }
    if let layers { amount = ("layers", "[\(layers.map(String.init).joined(separator: ","))]") }
    if layers != nil, criterion != .auto { return [amount] }
    let end = group == .sparse || layers != nil ? [] : [("group", group.rawValue)]
    return [("by", criterion.rawValue)] + end + [amount] + (images.map { [("images", "\($0)")] } ?? [])
      + (criterion == .auto ? reduction.options : [])
  }

  /// How many layers are chosen among `all`; at most, where a threshold decides.
  func count(among all: [Layer]) -> Int {
    if isFree || threshold != nil && layers == nil { return all.count { $0.isReplaceable || $0.isReplaced } }
    return layers?.count ?? count ?? max(1, Int((fraction * Double(all.count)).rounded()))
  }

  /// Sets the choice of each layer that can be replaced, or is on trial; with `by=damage`, measures the damage of each
  /// candidate first, and chooses among them.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let candidates = hybrid.layers.filter { $0.isReplaceable || $0.isReplaced }
    guard !candidates.isEmpty || criterion == .auto else {
      throw VitError(
        hybrid.layers.isEmpty ? "the model has no attention layers" : "no attention layer can be replaced",
        code: "no-attention", help: "vitc inspect lists the layers and the reasons")
    }
    if criterion == .auto { try checkWhole(hybrid) }
    if let layers {
      for number in layers where !candidates.contains(where: { $0.index == number }) {
        throw VitError(
          "layer \(number) cannot be replaced or does not exist", kind: .usage, code: "layer-unknown",
          help: "vitc inspect lists the layers and the reasons")
      }
      let note = "layers \(layers.sorted()), as asked for"
      guard criterion == .auto else {
        choose(Set(layers), among: candidates, &hybrid)
        return PassResult(changes: layers.count, notes: [note])
      }
      try measure(&hybrid, context)
      let owning = try giveOwnMaps(&hybrid, context)
      choose(Set(layers), among: candidates, &hybrid)
      return try reduce(
        &hybrid, chosen: layers, owning: owning, choices: choices(hybrid, context), notes: [note], context)
    }
    if criterion.isDamage { try measure(&hybrid, context) }
    let owning = try criterion == .auto && giveOwnMaps(&hybrid, context)
    let eligible = measured(hybrid.layers.filter { $0.isReplaceable || $0.isReplaced })
    if criterion == .auto, !eligible.contains(where: { $0.candidates.last?.damage != nil }) {
      return try reduce(
        &hybrid, chosen: [], owning: false, choices: choices(hybrid, context),
        notes: ["no layer was on trial"], context)
    }
    let choices = criterion == .auto ? try self.choices(hybrid, context) : nil
    let chosen =
      try isFree ? eligible.map(\.index) : ranked(eligible, of: hybrid.layers, choices, context).map(\.index)
    choose(Set(chosen), among: candidates, &hybrid)
    let end = group == .sparse ? "" : ", \(group.rawValue) end"
    let notes =
      isFree ? [] : ["layers \(chosen.sorted()) by \(criterion.rawValue)\(end), best first \(chosen)"]
    guard let choices else { return PassResult(changes: chosen.count, notes: notes) }
    return try reduce(
      &hybrid, chosen: chosen, owning: owning, choices: choices, notes: notes, context)
  }

  /// Those of `eligible` that are chosen, best first.
  private func ranked(
    _ eligible: [Layer], of all: [Layer], _ choices: MixerChoices?, _ context: PassContext
  ) throws(VitError) -> [Layer] {
    if let threshold { return try passing(threshold, try scored(eligible, choices)) }
    let wanted = count(among: all)
    guard wanted <= eligible.count else {
      throw VitError(
        "\(wanted) layers are to be replaced, but only \(eligible.count) can be", kind: .usage,
        code: "count-too-large",
        help: criterion.isDamage ? "select{by=damage} chooses among the layers that were swapped" : nil)
    }
    switch criterion {
    case .first: return Array(eligible.prefix(wanted))
    case .last: return Array(eligible.reversed().prefix(wanted))
    case .random:
      var random = context.random(Select.name)
      return Array(random.shuffled(eligible).prefix(wanted))
    case .alternate: return (0..<wanted).map { eligible[$0 * eligible.count / wanted] }
    default: return try scored(eligible, choices).prefix(wanted).map(\.layer)
    }
  }

  /// The layers whose number keeps a threshold: at most as large; at least where larger comes first; the other way round at the
  /// dense end.
  private func passing(
    _ threshold: Double, _ scored: [(layer: Layer, value: Double)]
  ) throws(VitError) -> [Layer] {
    let isLower = (criterion.score?.largestFirst ?? false) == (group == .dense)
    let chosen = scored.filter { isLower ? $0.value <= threshold : $0.value >= threshold }.map(\.layer)
    guard !chosen.isEmpty else {
      let values = scored.map { "\(Float($0.value))" }.joined(separator: ", ")
      throw VitError(
        "no layer has a '\(criterion.rawValue)' of at \(isLower ? "most" : "least") \(threshold)",
        kind: .usage,
        code: "nothing-selected", help: "the layers that can be replaced have, best first: \(values)")
    }
    return chosen
  }

  func choose(_ chosen: Set<Int>, among candidates: [Layer], _ hybrid: inout Hybrid) {
    for candidate in candidates {
      guard let place = hybrid.place(of: candidate.index) else { continue }
      hybrid.layers[place].choice = chosen.contains(candidate.index) ? .selected : .kept
    }
  }

  /// With `by=damage`, those whose mixer was measured: the others were not put on trial, and stay as they are. All where none was.
  private func measured(_ layers: [Layer]) -> [Layer] {
    guard criterion.isDamage else { return layers }
    let measured = layers.filter { $0.candidates.last?.damage != nil }
    return measured.isEmpty ? layers : measured
  }

  /// The layers with their numbers, best first, of equal ones the earlier; at the dense end the worst first.
  private func scored(
    _ layers: [Layer], _ choices: MixerChoices?
  ) throws(VitError) -> [(layer: Layer, value: Double)] {
    let largestFirst = (criterion.score?.largestFirst ?? false) == (group == .sparse)
    var scored: [(layer: Layer, value: Double)] = []
    for layer in layers {
      let found =
        criterion.score.map { layer.score($0.name) } ?? choices?.leastDamage(of: layer.index)
        ?? layer.candidates.last?.damage
      guard let value = found else {
        throw VitError(
          "layer \(layer.index) has no score '\(criterion.rawValue)'", kind: .usage, code: "score-missing",
          location: Location(node: layer.node),
          help: criterion.isDamage
            ? "run swap and distil before select{by=damage}" : "run score before select")
      }
      scored.append((layer, value.isNaN ? (largestFirst ? -.infinity : .infinity) : value))
    }
    return scored.sorted { a, b in
      if a.value == b.value { return a.layer.index < b.layer.index }
      return largestFirst ? a.value > b.value : a.value < b.value
    }
  }

  /// Measures for each mixer what it does to the teacher's outputs when it alone stands in.
  func measure(_ hybrid: inout Hybrid, _ context: PassContext) throws {
    guard !hybrid.replaced.isEmpty else { return }
    let teacher = try hybrid.teacher(for: Select.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    let data = try context.heldOut ?? context.samples(for: Select.name)
    let meter = try FidelityMeter(
      teacher: teacher.graph, data: data, samples: data.spread(images), context: context)
    for (done, mixer) in mixers.enumerated() {
      let alone = try MixerNode.transplant(
        [mixer], into: teacher, registry: context.registry)
      let place = teacher.layer(mixer.layer.index).flatMap { teacher.graph.place(defining: $0.core) }
      let damage = try meter.measure(alone.graph, differingFrom: teacher, at: place).damage
      if let place = hybrid.place(of: mixer.layer.index) {
        hybrid.layers[place].candidates[mixer.layer.candidates.count - 1].damage = damage
      }
      context.progress(Select.name, done + 1, mixers.count, "layer \(mixer.layer.index)")
    }
  }
}
