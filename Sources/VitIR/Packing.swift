/// A form of an operation's constant operands that its kernels read in their place: weights rearranged for the instruction set.
///
/// A model makes each form once, however many plans and sessions read it.
public struct Packing: Sendable {
  /// The operands that it is made of, all constant. `forward` reads nothing of them but their shapes.
  public let operands: [Int]
  /// What form it is: two packings of the same constants in one form are one.
  public let form: String
  /// Memory for it.
  public let type: TensorType
  /// Whether products with it are computed in fewer bits than its constants stand for: `pack` gets those as they are stored.
  public let isNarrow: Bool
  /// Writes it from the constants as they are stored, which may be in another type than they are computed in, and lie at any
  /// address; rows of 8 bits are dequantised before, unless it is made of them. Throws where memory does not suffice.
  public let pack:
    @Sendable (_ sources: [View], _ packed: View, _ pool: any WorkPool) throws(VitError) -> Void

  /// A packing.
  public init(
    _ operands: [Int], form: String, type: TensorType, isNarrow: Bool = false,
    pack:
      @escaping @Sendable (_ sources: [View], _ packed: View, _ pool: any WorkPool) throws(VitError) -> Void
  ) {
    self.operands = operands
    self.form = form
    self.type = type
    self.isNarrow = isNarrow
    self.pack = pack
  }
}
