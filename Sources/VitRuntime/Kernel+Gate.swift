internal import CVitKernels
public import VitIR

/// Norm and gate behind a scan: `gain·norm(o)·silu(z)`, or `gain·norm(o·silu(z))` where joint.
public struct GateShape: Sendable, Hashable {
  /// The channels that a norm takes together.
  public var width: Int
  /// Whether the norm is taken of the product with the gate.
  public var isJoint: Bool
  /// What is added to a mean square.
  public static let epsilon = 1e-5

  /// A shape.
  public init(width: Int, isJoint: Bool) {
    precondition(width > 0)
    self.width = width
    self.isJoint = isJoint
  }
}

extension Kernel {
  /// `s ← gain·norm(o)·silu(z)`, or jointly, of `[items, tokens, channels]`. Without a gain there is no norm, without a `z` no
  /// gate. `z` has at least as many rows as there are tokens; `s` may be `o`.
  public static func gate(
    _ shape: GateShape, _ o: View, z: (view: View, from: Int)?, gain: View?, into s: View, pool: any WorkPool
  ) {
    precondition(s.count == o.count && s.element == o.element)
    forTokens(shape, o, z, gain, pool) { type, call, start, _ in
      vk_gate_forward(type, &call, vk_rows(base: s.at(start), row: o.shape[2]))
    }
  }

  /// Writes the gradients of `o` and of `z` from that of `s`, which is overwritten with what each row adds to the gradient
  /// of the gain, where there is one.
  public static func gateGradient(
    _ shape: GateShape, _ o: View, z: (view: View, from: Int)?, gain: View?, ds: View, into dO: View,
    dz: View?,
    pool: any WorkPool
  ) {
    precondition(ds.count == o.count && dO.count == o.count && (dz == nil) == (z == nil))
    precondition(dz.map { $0.shape == z?.view.shape } ?? true)
    forTokens(shape, o, z, gain, pool) { type, call, start, gateStart in
      let row = o.shape[2]
      vk_gate_gradient(
        type, &call, vk_rows(base: ds.at(start), row: row), vk_rows(base: dO.at(start), row: row),
        vk_rows(base: dz?.at(gateStart), row: dz?.shape[2] ?? 0))
    }
  }

  private static func forTokens(
    _ shape: GateShape, _ o: View, _ z: (view: View, from: Int)?, _ gain: View?, _ pool: any WorkPool,
    _ body: (vk_real, inout vk_gate, _ start: Int, _ gateStart: Int) -> Void
  ) {
    guard o.count > 0 else { return }
    let (items, tokens, channels) = (o.shape[0], o.shape[1], o.shape[2])
    precondition(channels % shape.width == 0 && gain.map { $0.count == channels } ?? true)
    precondition(
      z.map {
        $0.view.shape[0] == items && $0.view.shape[1] >= tokens && $0.from + channels <= $0.view.shape[2]
      }
        ?? true)
    let type = real(o)
    let pieces = max(1, tokens * channels / elementwiseGrain)
    pool.run(tasks: items * pieces) { task, _ in
      let (item, piece) = (task / pieces, task % pieces)
      let (low, high) = (tokens * piece / pieces, tokens * (piece + 1) / pieces)
      let start = (item * tokens + low) * channels
      var call = vk_gate()
      call.rows = high - low
      call.blocks = channels / shape.width
      call.width = shape.width
      call.joint = shape.isJoint ? 1 : 0
      call.epsilon = GateShape.epsilon
      call.o = vk_rows(base: o.at(start), row: channels)
      call.gain = UnsafeRawPointer(gain?.base)
      var gateStart = 0
      if let z {
        let row = z.view.shape[2]
        gateStart = (item * z.view.shape[1] + low) * row + z.from
        call.z = vk_rows(base: z.view.at(gateStart), row: row)
      }
      body(type, &call, start, gateStart)
    }
  }
}
