internal import VitIR

/// A part of an axis: `size` steps of `stride` along one axis of the value where the positions come from.
struct AxisFactor: Equatable {
  /// The value and axis that the positions count along.
  let origin: Int
  let axis: Int
  var size: Dimension
  var stride: Dimension
  var offset: Dimension

  /// The whole of an axis.
  init(origin: Int, axis: Int, size: Dimension) {
    self.origin = origin
    self.axis = axis
    self.size = size
    stride = 1
    offset = 0
  }

  /// Whether both run through the same steps of the same axis; heads and their columns, one step of the one being all
  /// of the other, do not.
  func overlaps(_ other: AxisFactor) -> Bool {
    guard origin == other.origin, axis == other.axis, axis >= 0, size != 1, other.size != 1 else {
      return false
    }
    return stride.exactlyDivided(by: other.stride * other.size) == nil
      && other.stride.exactlyDivided(by: stride * size) == nil
  }
}

/// Where the elements of a value come from: each axis as a list of factors, outermost first.
///
/// Reshapes, transposes, splits, slices and gathers of one entry only move elements: behind them every
/// element is `scale` times one element of `source`, and the factors say which. Other operations give a new
/// source, but positions along the axes that they keep (a linear map keeps all but the last) still count
/// along the axes where they came from: that is how queries, keys and values are known to belong to the same
/// tokens.
struct Layout: Equatable {
  var axes: [[AxisFactor]]
  var source: ValueID
  var scale: Double

  /// All factors of the axes in `range`, outermost first, neighbours joined.
  func joined(_ range: Range<Int>) -> [AxisFactor] { Layout.normalised(Array(axes[range].joined())) }

  /// Factors without those of size one, neighbours that continue each other joined.
  static func normalised(_ factors: [AxisFactor]) -> [AxisFactor] {
    var result: [AxisFactor] = []
    // Entries picked out of an axis: their place is kept in a factor of the same origin, or as a factor of
    // size one.
    var picked: [AxisFactor] = []
    for factor in factors where factor.size == 1 && factor.offset != 0 { picked.append(factor) }
    for var factor in factors where factor.size != 1 {
      if let index = picked.firstIndex(where: { $0.origin == factor.origin && $0.axis == factor.axis }) {
        factor.offset = factor.offset + picked.remove(at: index).offset
      }
      if let last = result.last, last.origin == factor.origin, last.axis == factor.axis,
        last.stride == factor.stride * factor.size
      {
        result[result.count - 1].size = last.size * factor.size
        result[result.count - 1].stride = factor.stride
        result[result.count - 1].offset = last.offset + factor.offset
      } else {
        result.append(factor)
      }
    }
    result += picked
    return result
  }

  /// The axes of a reshape to `shape`, or `nil` where a new axis cuts a factor unevenly.
  func reshaped(to shape: Shape) -> [[AxisFactor]]? {
    var rest = Layout.normalised(Array(axes.joined()))[...]
    var result: [[AxisFactor]] = []
    for wanted in shape {
      var axis: [AxisFactor] = []
      var missing = wanted
      while missing != 1 {
        guard let factor = rest.first else { return nil }
        if let more = missing.exactlyDivided(by: factor.size) {
          axis.append(factor)
          missing = more
          rest.removeFirst()
        } else if let inner = factor.size.exactlyDivided(by: missing) {
          var outer = factor
          outer.size = missing
          outer.stride = factor.stride * inner
          axis.append(outer)
          var remainder = factor
          remainder.size = inner
          remainder.offset = 0
          rest[rest.startIndex] = remainder
          missing = 1
        } else {
          return nil
        }
      }
      result.append(axis)
    }
    guard rest.allSatisfy({ $0.size == 1 }) else { return nil }
    if !rest.isEmpty, !result.isEmpty { result[result.count - 1] += rest }
    return result
  }
}
