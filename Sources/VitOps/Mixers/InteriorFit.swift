public import VitIR

/// What a mixer is fitted to on a batch of images: the tokens that it reads, and what the attention that it replaces
/// makes of them.
public struct FitBatch {
  /// The normalised tokens, `[batch, tokens, dim]`, `f32`.
  public let x: View
  /// The attended values before the output map, `[batch, tokens, heads · valueDim]`, `f32`.
  public let context: View
  /// The attention maps, `[batch, heads, tokens, tokens]`, `f32`, where they were asked for.
  public let maps: View?
  /// Where parallel work runs.
  public let pool: any WorkPool

  /// A batch.
  public init(x: View, context: View, maps: View? = nil, pool: any WorkPool) {
    self.x = x
    self.context = context
    self.maps = maps
    self.pool = pool
  }
}

/// Least squares for what lies before a mixer's last linear map, towards the attended values.
///
/// Sums are taken in double, in the order of the batches, so that they do not depend on threads.
public protocol InteriorFit {
  /// Whether `add` needs the attention maps.
  var readsMaps: Bool { get }
  /// Takes a batch into account; throws where its memory does not fit.
  mutating func add(_ batch: FitBatch) throws
  /// The operands that are fitted, and their values; none where nothing was added, or a system is singular.
  func solve() -> [(operand: Int, tensor: Tensor)]
}
