public import VitIR

/// The sizes of a mixer and the order of its scans: what its parameters' shapes follow from.
public struct MixerLayout: Hashable, Sendable {
  /// The width of its input: the teacher's tokens.
  public let dim: Int
  /// The width of its output, which is added to the residual.
  public let outputDim: Int
  /// The inner width, shared by all heads.
  public let width: Int
  /// The number of heads: blocks of `width / heads` channels, each scanned in one direction.
  public let heads: Int
  /// How its scans read the tokens.
  public let order: ScanOrder
  /// Whether the rows of the tokens before the patches are the mixer's own to make; else something behind it writes them,
  /// and what it gives there does not matter.
  public let ownsPrefix: Bool
  /// Whether directions share the heads evenly, each head being scanned in one; else all are scanned in every direction.
  public let splitsHeads: Bool

  /// A layout; throws a usage error where the width or the number of heads does not divide.
  public init(
    dim: Int, outputDim: Int, width: Int, heads: Int, order: ScanOrder, ownsPrefix: Bool = true,
    splitsHeads: Bool = true
  ) throws(VitError) {
    guard dim > 0, outputDim > 0, width > 0, heads > 0 else {
      throw VitError(
        "a mixer of width \(width) with \(heads) heads between \(dim) and \(outputDim) channels"
          + " is impossible",
        kind: .usage, code: "mixer-layout")
    }
    try MixerLayout.check(
      width: width, heads: heads, directions: splitsHeads ? order.directionCount : 1, kind: .usage)
    self.dim = dim
    self.outputDim = outputDim
    self.width = width
    self.heads = heads
    self.order = order
    self.ownsPrefix = ownsPrefix
    self.splitsHeads = splitsHeads
  }

  /// The channels of a head.
  public var headWidth: Int { width / heads }

  /// The number of tokens.
  public var tokens: Int { order.tokens }

  /// The direction in which a head is scanned, where directions share them.
  public func direction(ofHead head: Int) -> Int { head * order.directionCount / heads }

  /// The inner width that is `fraction` of `dim`; throws a usage error unless it is a whole number of
  /// channels, at least one.
  public static func width(_ fraction: Double, of dim: Int) throws(VitError) -> Int {
    let wanted = (fraction * Double(dim)).rounded()
    guard wanted >= 1, wanted <= Double(1 << 24) else {
      throw VitError(
        "the mixer width \(fraction) of \(dim) channels leaves \(wanted), expected at least one",
        kind: .usage,
        code: "mixer-width")
    }
    return Int(wanted)
  }

  /// The number of heads where none is asked for: the teacher's, or where directions share them the least multiple of
  /// both, which must divide `width`; throws a usage error with the nearest width that would do.
  public static func defaultHeads(
    width: Int, teacherHeads: Int, order: ScanOrder, splitsHeads: Bool = true
  ) throws(VitError) -> Int {
    let directions = splitsHeads ? order.directionCount : 1
    precondition(teacherHeads > 0)
    let heads = directions / greatestCommonDivisor(directions, teacherHeads) * teacherHeads
    guard width % heads == 0 else {
      let nearest = max(1, (width + heads / 2) / heads) * heads
      throw VitError(
        "\(heads) heads (\(teacherHeads) in the teacher, \(directions) directions) do not divide"
          + " the mixer's width \(width)",
        kind: .usage, code: "mixer-heads",
        help: "ask for a width of \(nearest) channels, or for a number of heads")
    }
    return heads
  }

  static func check(width: Int, heads: Int, directions: Int, kind: FailureKind) throws(VitError) {
    guard heads > 0, width % heads == 0 else {
      throw VitError(
        "\(heads) heads do not divide the mixer's width \(width)", kind: kind, code: "mixer-heads")
    }
    guard heads % directions == 0 else {
      throw VitError(
        "\(heads) heads cannot be shared evenly by \(directions) directions", kind: kind, code: "mixer-heads",
        help: "use a multiple of \(directions) heads")
    }
  }

  private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
    var (a, b) = (a, b)
    while b != 0 { (a, b) = (b, a % b) }
    return a
  }
}
