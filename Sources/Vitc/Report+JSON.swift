internal import VitIR
public import VitPasses

extension Report {
  /// The report as JSON in the form of `schemas/report.schema.json`; without times where they shall not enter.
  public func json(withTimes: Bool = true) -> JSON {
    func size(_ size: Size, _ timing: Timing?) -> JSON {
      var members: [(String, JSON)] = [("parameters", .int(size.parameters)), ("flops", .int(size.flops))]
      if let bytes = size.bytes, withTimes { members.append(("bytes", .int(bytes))) }
      if let timing, withTimes { members += timing.members }
      return .object(members)
    }
    let shares = zip(bound.layers, bound.replaceable).map { share, replaceable -> JSON in
      var members: [(String, JSON)] = [
        ("flops", .number(share.flops)), ("parameters", .number(share.parameters)),
        ("replaceable", .bool(replaceable)),
      ]
      if withTimes { members.append(("time", .number(share.time))) }
      return .object(members)
    }
    let head: [(String, JSON)] = [
      ("schema", "vitc.report/1"), ("version", .string(Version.current)), ("pipeline", .string(pipeline)),
      ("found", found.map(JSON.string) ?? .null), ("aim", .optional(aim)),
      ("perceptrons", .array(perceptrons.map(\.json))), ("heads", .array(heads.map(\.json))),
      ("points", .array(points.map(\.json))),
    ]
    let rest: [(String, JSON)] = [
      ("seed", .int(Int(clamping: seed))), ("mixer", .string(mixer)),
      ("selected", .array(selected.map(JSON.int))),
      ("bound", .array(shares)), ("teacher", size(teacher, timing?.teacher)),
      ("hybrid", size(hybrid, timing?.hybrid)), ("timed_batch", .int(withTimes ? timedBatch : 1)),
      ("larger", .bool(isLarger)),
      ("layers", .array(layers.map(\.json))),
      ("correlation", .object(correlations.map { ($0.name, .optional($0.value)) })),
      (
        "data",
        .object([
          ("training", .int(samples.training)), ("held_out", .int(samples.heldOut)),
          ("evaluation", .int(samples.evaluation)), ("non_finite", .int(nonFiniteSamples)),
        ])
      ),
      ("fidelity", fidelity.json), ("quantised", quantised?.json ?? .null),
      (
        "retained",
        retained.map { .object([("teacher", $0.teacher.json), ("hybrid", $0.hybrid.json)]) } ?? .null
      ),
      (
        "controls",
        .array(
          controls.map { control in
            .object([
              ("mixer", .string(control.mixer)), ("fidelity", control.fidelity.json),
              ("excess", control.excess?.json ?? .null),
            ])
          })
      ),
      (
        "stages",
        .array(
          stages.map {
            .object([
              ("pass", .string($0.pass)), ("before", .number($0.damage.before)),
              ("after", .number($0.damage.after)),
            ])
          })
      ),
      (
        "steps",
        .array(
          steps.map {
            .object([
              ("pass", .string($0.pass)), ("parameters", .int($0.size.parameters)),
              ("flops", .int($0.size.flops)),
            ])
          })
      ),
      ("curves", .array(curves.map(\.json))), ("beats_controls", beatsControls.map(JSON.bool) ?? .null),
      ("stops", .array(stops.map(\.json))), ("divergences", .array(divergences.map(\.json))),
    ]
    return .object(head + rest)
  }
}

extension Report.Layer {
  fileprivate var json: JSON {
    .object([
      ("index", .int(index)), ("node", .string(node)), ("kind", .string(kind)),
      ("selected", .bool(isSelected)), ("cost", cost?.json ?? .null),
      ("attention", attention?.json ?? .null),
      ("scores", .object(scores.map { ($0.key, .number($0.value)) })),
      ("floors", .object(floors.map { ($0.key, .number($0.value)) })),
    ])
  }
}

extension Report.Perceptron {
  fileprivate var json: JSON {
    .object([("index", .int(index)), ("channels", .int(channels)), ("kept", .int(kept))])
  }
}

extension Report.Heads {
  fileprivate var json: JSON {
    .object([
      ("layer", .int(layer)), ("heads", .int(count)), ("heads_kept", .int(countKept)),
      ("scores", .int(scores)), ("scores_kept", .int(scoresKept)),
      ("values", .int(values)), ("values_kept", .int(valuesKept)),
    ])
  }
}

extension Reduction.Point {
  fileprivate var json: JSON {
    .object([
      ("cost", .number(cost)), ("damage", .number(damage)), ("agreement", .optional(agreement)),
      ("replaced", .array(sizes.replaced.map(JSON.int))), ("channels", .array(sizes.channels.map(JSON.int))),
      ("scores", .array(sizes.scores.map(JSON.int))),
      ("values", .array(sizes.values.map(JSON.int))), ("mixers", .array(sizes.mixers.map(JSON.int))),
      ("standing", .array(sizes.standing.map(JSON.string))),
      ("merges", .array(sizes.merges.map(JSON.int))), ("removed", .array(sizes.removed.map(JSON.int))),
      ("shared", .array(sizes.shared.map(JSON.int))),
    ])
  }
}

extension LossCurve {
  fileprivate var json: JSON {
    .object([
      ("pass", .string(pass)), ("layer", layer.map(JSON.int) ?? .null),
      ("steps", .array(points.map { .int($0.step) })), ("losses", .array(points.map { .number($0.loss) })),
    ])
  }
}

extension PassResult.Stop {
  fileprivate var json: JSON {
    .object([("pass", .string(pass)), ("step", .int(step)), ("steps", .int(steps))])
  }
}

extension PassResult.Divergence {
  fileprivate var json: JSON {
    .object([
      ("pass", .string(pass)), ("layer", layer.map(JSON.int) ?? .null), ("step", .int(step)),
      ("rate", .number(rate)),
    ])
  }
}

extension PairedDifference {
  /// Mean and standard error.
  fileprivate var json: JSON { .object([("mean", .number(mean)), ("error", .number(error))]) }
}

extension Fidelity {
  /// The fidelity as JSON: fractions of 1, null where it has no meaning.
  public var json: JSON {
    .object([
      ("images", .int(images)), ("accuracy", .optional(accuracy)),
      ("accuracy_top5", .optional(scores?.topFive)), ("agreement", .optional(agreement)),
      ("kl", .optional(divergence)), ("kl_error", .optional(divergenceError)),
      ("drop_error", .optional(dropError)), ("drop_bound", .optional(dropBound)),
      ("relative_error", .number(relativeError)),
      ("non_finite", .int(nonFinite)),
      ("teacher", .object([("accuracy", .optional(teacherAccuracy))])),
    ])
  }
}

extension Timing {
  /// The members of a JSON object that hold it.
  var members: [(String, JSON)] {
    [("ms", .number(median)), ("ms_low", .number(low)), ("ms_high", .number(high))]
  }
}

extension LayerCost {
  fileprivate var json: JSON { .object([("parameters", .int(parameters)), ("flops", .int(flops))]) }
}
