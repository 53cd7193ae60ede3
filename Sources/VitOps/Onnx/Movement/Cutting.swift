internal import VitIR

extension OnnxSplit {
  /// The parts' extents where they are given; equal ones need none.
  func cutting(_ ranges: [Range<Int>], along axis: Int, of operands: Operands) throws(VitError) -> Cutting? {
    guard let rank = operands[0]?.rank, axis == (self.axis < 0 ? self.axis + rank : self.axis),
      zip(ranges, ranges.dropFirst()).allSatisfy({ $0.upperBound == $1.lowerBound }),
      ranges.first?.lowerBound == 0
    else { return nil }
    let extents = ranges.map(\.count)
    if operands.has(1) {
      return operands.value(1) == nil ? nil : Cutting(self, numbers: [(1, extents)])
    }
    if parts == nil, Set(extents).count == 1 { return Cutting(self) }
    var reader = AttributeReader(Attributes([("axis", .int(self.axis)), ("split", .ints(extents))]))
    return Cutting(try OnnxSplit(attributes: &reader))
  }
}

extension OnnxSlice {
  /// Another start and end of that axis.
  func cutting(_ ranges: [Range<Int>], along axis: Int, of operands: Operands) throws(VitError) -> Cutting? {
    guard let rank = operands[0]?.rank, ranges.count == 1, var starts = operands.value(1)?.integers,
      var ends = operands.value(2)?.integers,
      let axes = operands.has(3) ? operands.value(3)?.integers : Array(starts.indices),
      let place = axes.firstIndex(where: { ($0 < 0 ? $0 + rank : $0) == axis }), place < starts.count,
      place < ends.count
    else { return nil }
    (starts[place], ends[place]) = (ranges[0].lowerBound, ranges[0].upperBound)
    return Cutting(self, numbers: [(1, starts), (2, ends)])
  }
}
