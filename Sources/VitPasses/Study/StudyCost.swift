internal import VitIR

/// What jobs of a study cost, roughly: runs of the teacher, a step of training counted as four.
package struct StudyCost {
  private let plan: StudyProtocol
  private let layers: Int
  /// Seconds that a sample takes at the nominal rate, reading it included.
  private let sample: Double

  /// The costs on a bench.
  package init(_ bench: StudyBench) throws {
    plan = bench.plan
    layers = bench.teacher.layers.count { $0.isReplaceable }
    sample = Double(try bench.cost(bench.teacher.graph).flops) / Budget.rate + Budget.reading
  }

  /// The seconds that a job takes at the nominal rate.
  package func seconds(of job: StudyJob) -> Double {
    let measured = Double(plan.measured)
    let solved = 12 * Double(plan.fitted)
    let score = 4 * Double(plan.scored)
    let runs =
      switch job {
      case .replacement:
        measured + score + solved + distil(plan.replacement.distilSteps)
          + Double(plan.replacement.groups.count)
          * (measured + solved + tune(plan.replacement.fineTuneSteps))
      case .original: position
      case .square, .sham: position + measured + tune(plan.position.recoverySteps)
      case .subsets: solved + measured * Double(1 + min(plan.subsets.most, 1 << min(layers, 20)))
      case .pair: score + measured + 2 * (solved + measured + tune(plan.subsets.fineTuneSteps))
      case .retention:
        3 * measured + solved + distil(plan.retention.distilSteps) + tune(plan.retention.fineTuneSteps)
      }
    return runs * sample
  }

  private var position: Double {
    let measured = Double(plan.measured)
    let forms = plan.position.forms.reduce(0) { sum, form in
      sum + Double(form.seeds)
        * (12 * Double(plan.fitted) + distil(form.steps) + 0.6 * Double(layers) * measured)
    }
    return measured + 4 * Double(plan.scored) + forms + Double(plan.position.noises * layers) * measured
  }

  /// A step of distillation runs the teacher, and each mixer forward and backward.
  private func distil(_ steps: Int) -> Double { 2.5 * Double(steps * plan.batch) }

  private func tune(_ steps: Int) -> Double {
    guard steps > 0 else { return 0 }
    let trials = plan.fineTuneRate == nil ? FineTune.usualTrials * FineTune.trialSteps(of: steps) : 0
    return 4 * Double((steps + trials) * plan.batch) + Double(Budget.fineTuneMeasurements * plan.heldOut)
  }
}
