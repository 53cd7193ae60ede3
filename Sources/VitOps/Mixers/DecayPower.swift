internal import Glibc
internal import VitIR

/// Decays to the power of their tokens' sizes (Mixers.md §4): a token that stands for s equal ones keeps of the state what these
/// would keep, σ(r)^s, and takes up the rest.
///
/// That is the decay of another number, r' with σ(r') = σ(r)^s, so that the scan itself knows nothing of sizes: with x = e^−r and
/// p = (1 + x)^s − 1, r' = −log p.
struct DecayPower {
  private let order: ScanOrder
  /// The logarithms of the sizes, `[images, 1, 1, tokens]`.
  private let sizes: View

  init(_ order: ScanOrder, sizes: View) {
    self.order = order
    self.sizes = sizes
  }

  /// Calls `body` with the first element of each row of `view` whose token is larger than one, and its size.
  private func rows(
    _ view: View, _ pool: any WorkPool, _ body: @escaping (_ start: Int, _ size: Int) -> Void
  ) {
    let (rows, width, tokens) = (view.shape[1], view.shape[2], order.tokens)
    pool.run(tasks: view.shape[0]) { image, _ in
      for row in 0..<rows {
        let place = image &* tokens &+ order.token(ofRow: row)
        let log = sizes.element == .f64 ? sizes.f64[place] : Double(sizes.f32[place])
        guard log > 0 else { continue }
        let size = Int(Glibc.exp(min(log, DecayPower.largest)).rounded())
        if size > 1 { body((image &* rows &+ row) &* width, size) }
      }
    }
  }

  /// The logarithm of the most tokens that there are.
  private static let largest = Glibc.log(Double(ScanOrder.maximumTokens))

  /// `r ← r'`.
  func apply(to r: View, pool: any WorkPool) {
    func run<T: Real>(_ type: T.Type) {
      let (values, width) = (r.pointer(as: T.self), r.shape[2])
      rows(r, pool) { start, size in
        for index in start..<start + width {
          let x = T.exp(-values[index])
          var p = x
          // All terms are positive: nothing cancels where x is small.
          for _ in 1..<size { p += p * x + x }
          values[index] = -T.log(p)
        }
      }
    }
    if r.element == .f64 { run(Double.self) } else { run(Float.self) }
  }

  /// `dr ← ` the gradient of r from that of r', both `dr`; `r` is r'.
  func gradient(_ r: View, _ dr: View, pool: any WorkPool) {
    func run<T: Real>(_ type: T.Type) {
      let (values, gradients, width) = (r.pointer(as: T.self), dr.pointer(as: T.self), r.shape[2])
      rows(r, pool) { start, size in
        for index in start..<start + width {
          // s (1 − a) / (1 − a^s), where a is the decay of one; log a = log(a^s) / s.
          let value = Double(values[index])
          let decay = min(value, 0) - log1p(Glibc.exp(-abs(value)))
          let rest = -expm1(decay)
          guard rest > 0 else { continue }
          gradients[index] *= T(Double(size) * -expm1(decay / Double(size)) / rest)
        }
      }
    }
    if r.element == .f64 { run(Double.self) } else { run(Float.self) }
  }

  /// The same of `r`, `[batch, heads, tokens, channels]`, as ONNX operators.
  static func lower(
    _ r: ValueID, sizes: ValueID, into builder: inout GraphBuilder
  ) throws(VitError) -> ValueID {
    let element = builder.graph.type(r).element
    let tokens = try builder.add("onnx.Transpose", [sizes], [("perm", .ints([0, 1, 3, 2]))])
    let power = try builder.add("onnx.Round", [try builder.add("onnx.Exp", [tokens])])
    let negative = try builder.add("onnx.Neg", [r])
    let u = try builder.add("onnx.Mul", [try builder.add("onnx.Softplus", [negative]), power])
    let one = builder.constant([1], shape: [], element: element)
    let decay = try builder.add("onnx.Exp", [try builder.add("onnx.Neg", [u])])
    let rest = try builder.add("onnx.Log", [try builder.add("onnx.Sub", [one, decay])])
    let raised = try builder.add("onnx.Neg", [try builder.add("onnx.Add", [u, rest])])
    return try builder.add("onnx.Where", [try builder.add("onnx.Equal", [power, one]), r, raised])
  }
}
