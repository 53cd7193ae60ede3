internal import VitIR
internal import VitRuntime

extension Pipeline {
  /// Throws where the memory that the passes will need does not fit, before any of them has done its work: each that trains
  /// is set up on a copy of what it will get, and taken down again. Memory that nobody writes costs no time.
  ///
  /// Nothing is refused that fits. How large the layers are that `select` will choose is not known where they differ: then
  /// neither the smallest nor the largest may fit. From the first pass on whose result nobody knows, and after any other
  /// error, it is left to the passes themselves.
  func rehearse(_ hybrid: Hybrid, context: PassContext) throws {
    do { try rehearse(hybrid, context, .smallest) } catch let failure as VitError
      where failure.kind == .environment
    {
      do { try rehearse(hybrid, context, .largest) } catch { throw failure }
    }
  }

  private func rehearse(_ hybrid: Hybrid, _ context: PassContext, _ choice: RehearsedChoice) throws {
    guard let last = passes.lastIndex(where: { $0 is any RehearsedPass }) else { return }
    let isGiven = hybrid.teacher != nil
    let context = context.forRehearsal()
    var hybrid = hybrid
    do {
      for pass in passes[...last] {
        if !isGiven, hybrid.replaced.isEmpty { hybrid.teacher = Teacher(hybrid) }
        switch pass {
        case let pass as any RehearsedPass:
          do { try pass.rehearse(hybrid, context: context) } catch let error as VitError {
            var error = error
            error.diagnostic.message += "; the pass '\(type(of: pass).name)' needs it"
            throw error
          }
        case let pass as Select:
          pass.rehearse(on: &hybrid, choice)
          if pass.criterion == .auto, !hybrid.replaced.isEmpty {
            _ = try Restore().run(on: &hybrid, context: context)
          }
        case is Swap, is Restore, is OwnPrefix: _ = try pass.run(on: &hybrid, context: context)
        case let pass as Retain where pass.makesTeacher: _ = try pass.run(on: &hybrid, context: context)
        case is Score, is Prune, is Factorise, is Depth, is Share, is Solve, is Merge: continue
        default: return
        }
      }
    } catch let error as VitError where error.kind != .environment {
      // The pass itself says so when its turn comes, if it does.
    }
  }
}

/// A pass whose memory is more than that of the model: it can be had without its work.
protocol RehearsedPass: Pass {
  /// Takes the memory that `run` will take at the beginning, gives it back, and throws where it does not fit.
  func rehearse(_ hybrid: Hybrid, context: PassContext) throws
}

/// Which layers stand for those that `select` will choose.
enum RehearsedChoice {
  case smallest, largest
}

extension Distil: RehearsedPass {
  func rehearse(_ hybrid: Hybrid, context: PassContext) throws {
    let teacher = try hybrid.teacher(for: Distil.name)
    let mixers = try MixerNode.all(in: hybrid, teacher: teacher)
    guard !mixers.isEmpty else { return }
    let session = try session(of: mixers, teacher, context)
    if solve {
      let solvers = try session.solvers()
      for solver in solvers { try solver.prepareReadout() }
    }
  }
}

extension FineTune: RehearsedPass {
  func rehearse(_ hybrid: Hybrid, context: PassContext) throws {
    guard steps > 0, !hybrid.replaced.isEmpty else { return }
    let teacher = try hybrid.teacher(for: FineTune.name)
    let data = try context.samples(for: FineTune.name)
    let trainer = try trainer(of: hybrid, teacher, data, context)
    let runner = SampleRunner(teacher.graph, data: context.heldOut ?? data, context: context)
    _ = try runner.executor(hybrid.graph, context.weights(of: hybrid.graph))
    withExtendedLifetime(trainer) {}
  }
}

extension Select {
  /// Chooses as many layers as it will, those that it will where that is known.
  func rehearse(on hybrid: inout Hybrid, _ choice: RehearsedChoice) {
    let candidates = hybrid.layers.filter { $0.isReplaceable || $0.isReplaced }
    var chosen = layers ?? []
    if layers == nil {
      let graph = hybrid.graph
      func size(_ layer: Layer) -> Int {
        layer.input.map { MicroBatch.bytes(of: [$0], in: graph) } ?? 0
      }
      var ranked = candidates
      switch criterion {
      case .first: break
      case .last: ranked.reverse()
      default:
        ranked.sort { a, b in
          (size(a), a.index) < (size(b), b.index)
        }
        if choice == .largest { ranked.reverse() }
      }
      chosen = ranked.prefix(count(among: hybrid.layers)).map(\.index)
    }
    choose(Set(chosen), among: candidates, &hybrid)
  }
}
