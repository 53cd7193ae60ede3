internal import VitIR

extension HeadLayout {
  /// The copy of `tokens` tokens of these places to those of `target` from token `first` on, or back.
  func move(to target: HeadLayout, _ core: AttentionCore, heads: Int, tokens: Int, depth: Int, first: Int = 0)
    -> Move
  {
    Move(
      shape: [core.batch, heads, tokens, depth],
      source: Move.Region(offset: offset, strides: [batch, head, row, 1]),
      target: Move.Region(
        offset: target.offset + first * target.row, strides: [target.batch, target.head, target.row, 1]))
  }
}

/// Attention whose keys and values may follow those of the past, with which they are joined first.
struct CachedAttention {
  let core: AttentionCore
  /// Tokens of the past.
  let past: Int

  /// Keys or values: those that come in, those of the past, and where both are joined, if anywhere.
  struct Side {
    var new: HeadLayout
    var past: HeadLayout?
    var present: HeadLayout?
    var depth: Int
  }

  private func join(_ side: Side, _ pool: any WorkPool) {
    guard let present = side.present else { return }
    if let old = side.past, past > 0 {
      old.move(to: present, core, heads: core.keyHeads, tokens: past, depth: side.depth)
        .copy(old.view, to: present.view, pool)
    }
    side.new.move(
      to: present, core, heads: core.keyHeads, tokens: core.keys - past, depth: side.depth, first: past
    )
    .copy(side.new.view, to: present.view, pool)
  }

  private func source(_ side: Side) -> HeadLayout {
    guard past > 0, let present = side.present else { return side.new }
    return present
  }

  /// Joins, and computes `output`; see `AttentionCore.forward`.
  func forward(
    _ q: HeadLayout, _ k: Side, _ v: Side, into output: HeadLayout, scratch: View,
    probe: (view: View, stage: AttentionCore.Stage)? = nil, pool: any WorkPool
  ) {
    join(k, pool)
    join(v, pool)
    core.forward(q, source(k), source(v), into: output, scratch: scratch, probe: probe, pool: pool)
  }

  /// The gradients of keys or values: of those that came in, of the past, and, with a past, where those of
  /// the joined ones are gathered; and what flows back from the joined ones as a result.
  struct Sinks {
    var new: HeadLayout?
    var past: HeadLayout?
    var gathered: HeadLayout?
    var result: HeadLayout?
  }

  /// Adds the gradients; see `AttentionCore.gradient`. What was joined is joined again.
  func gradient(
    _ q: HeadLayout, _ k: Side, _ v: Side, dy: HeadLayout?, into dq: HeadLayout?, _ dk: Sinks, _ dv: Sinks,
    masks: [AttentionMask.Term], scratch: View,
    probeGradient: (view: View, stage: AttentionCore.Stage)? = nil,
    pool: any WorkPool
  ) {
    if past > 0 {
      join(k, pool)
      join(v, pool)
      dk.gathered?.view.zero()
      dv.gathered?.view.zero()
    }
    core.gradient(
      q, source(k), source(v), dy: dy, into: dq, past > 0 ? dk.gathered : dk.new,
      past > 0 ? dv.gathered : dv.new,
      masks: masks, scratch: scratch, probeGradient: probeGradient, pool: pool)
    for (sinks, depth) in [(dk, k.depth), (dv, v.depth)] {
      for flow in [sinks.result, past > 0 ? sinks.gathered : nil] {
        guard let flow else { continue }
        if let sink = sinks.past {
          sink.move(to: flow, core, heads: core.keyHeads, tokens: past, depth: depth).reversed
            .add(flow.view, to: sink.view, pool)
        }
        if let sink = sinks.new {
          sink.move(to: flow, core, heads: core.keyHeads, tokens: core.keys - past, depth: depth, first: past)
            .reversed
            .add(flow.view, to: sink.view, pool)
        }
      }
    }
  }
}
