/// Extents, outermost first; empty for a scalar.
public typealias Shape = [Dimension]

/// The type of a value: what its elements are and how many along each axis.
public struct TensorType: Hashable, Sendable, CustomStringConvertible {
  /// The type of the elements.
  public var element: ElementType
  /// The extents.
  public var shape: Shape

  /// A tensor type.
  public init(_ element: ElementType, _ shape: Shape) {
    self.element = element
    self.shape = shape
  }

  /// A tensor type of known extents.
  public init(_ element: ElementType, fixed shape: [Int]) {
    self.init(element, shape.map(Dimension.fixed))
  }

  /// The type in which such values are computed.
  public var computed: TensorType { TensorType(element.computed, shape) }

  /// The number of axes.
  public var rank: Int { shape.count }

  /// The extents as numbers, or `nil` where one holds a symbol.
  public var fixedShape: [Int]? {
    var result: [Int] = []
    result.reserveCapacity(shape.count)
    for dimension in shape {
      guard let value = dimension.fixedValue else { return nil }
      result.append(value)
    }
    return result
  }

  /// The extents as numbers; the type is one that a plan has made concrete.
  public var extents: [Int] {
    guard let shape = fixedShape else { preconditionFailure("\(self) is not concrete") }
    return shape
  }

  /// The number of elements of a concrete type.
  public var count: Int { extents.reduce(1, *) }

  /// The number of elements, as a polynomial.
  public var elements: Dimension { shape.reduce(.fixed(1), *) }

  /// `f32[batch, 197, 192]`.
  public var description: String {
    "\(element.rawValue)[\(shape.map(\.description).joined(separator: ", "))]"
  }

  /// The most elements that a tensor of vitc may have (2⁴⁰); more is taken for an overflow or an attack.
  public static let maximumElements = 1 << 40

  /// Throws unless the extents are no negative numbers and their product is at most `maximumElements`.
  public func validate() throws(VitError) {
    var product = 1
    for dimension in shape {
      guard let value = dimension.fixedValue else { continue }
      guard value >= 0 else { throw VitError("the shape \(shape) has the negative dimension \(value)") }
      let (next, overflow) = product.multipliedReportingOverflow(by: value)
      guard !overflow, next <= Self.maximumElements else {
        throw VitError("the shape \(shape) has too many elements: the product overflows 2^40")
      }
      product = next
    }
  }
}

/// The axis that a possibly negative number names among `rank` axes.
public func normalisedAxis(_ axis: Int, rank: Int) throws(VitError) -> Int {
  guard axis >= -rank, axis < rank else {
    throw VitError("axis \(axis) is out of range for a value of rank \(rank)")
  }
  return axis < 0 ? axis + rank : axis
}

/// The shape of an elementwise result over shapes that NumPy's rules broadcast.
///
/// Of two extents that hold symbols and may be equal the simpler one is taken: the plan that binds the symbols sees whether
/// they are. A symbol against a number other than one is an error.
public func broadcast(_ a: Shape, _ b: Shape) throws(VitError) -> Shape {
  var result: Shape = []
  let rank = max(a.count, b.count)
  for axis in 0..<rank {
    let x = axis < rank - a.count ? Dimension.fixed(1) : a[axis - (rank - a.count)]
    let y = axis < rank - b.count ? Dimension.fixed(1) : b[axis - (rank - b.count)]
    if x == y || y == .fixed(1) {
      result.append(x)
    } else if x == .fixed(1) {
      result.append(y)
    } else if let extent = x.joined(with: y) {
      result.append(extent)
    } else {
      throw VitError("the shapes \(a) and \(b) do not broadcast: \(x) against \(y)")
    }
  }
  return result
}
