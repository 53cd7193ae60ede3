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
  /// Whether it is made of rows of 8 bits: `pack` gets those as they are stored, and no other constants.
  public let isQuantised: Bool
  /// Writes it from the constants as they are stored, which may be in another type than they are computed in, and lie at any
  /// address; rows of 8 bits are dequantised before, unless it is made of them. Throws where memory does not suffice.
  public let pack:
    @Sendable (_ sources: [View], _ packed: View, _ pool: any WorkPool) throws(VitError) -> Void

  /// A packing.
  public init(
    _ operands: [Int], form: String, type: TensorType, isQuantised: Bool = false,
    pack:
      @escaping @Sendable (_ sources: [View], _ packed: View, _ pool: any WorkPool) throws(VitError) -> Void
  ) {
    self.operands = operands
    self.form = form
    self.type = type
    self.isQuantised = isQuantised
    self.pack = pack
  }
}
