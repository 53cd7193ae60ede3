extension CostTable {
  static let rates: [String: Rate] = [:]
  static let others = Rate(picosecondsPerFlop: 15, picosecondsPerByte: 50, nanoseconds: 300)
}
