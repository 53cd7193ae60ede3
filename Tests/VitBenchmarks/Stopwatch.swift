/// Times of a piece of work.
struct Stopwatch {
  /// Seconds of the runs, sorted.
  private(set) var times: [Double] = []

  /// Runs `body` for about `seconds`, three times at least, once more before for caches and page faults.
  mutating func run(seconds: Double, _ body: () -> Void) {
    body()
    let clock = ContinuousClock()
    let end = clock.now + .seconds(seconds)
    repeat { times.append(clock.measure(body) / .seconds(1)) } while clock.now < end || times.count < 3
    times.sort()
  }

  /// The one in the middle.
  var median: Double { times[times.count / 2] }
}

/// A number to `digits` places, right-aligned.
func column(_ value: Double, digits: Int, width: Int) -> String {
  let scale = (0..<digits).reduce(1) { product, _ in product * 10 }
  let whole = Int((value * Double(scale)).rounded())
  let fraction = String(whole % scale)
  let text =
    digits == 0
    ? "\(whole)"
    : "\(whole / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
  return String(repeating: " ", count: max(1, width - text.count)) + text
}

/// A text, filled up with blanks.
func column(_ text: String, width: Int) -> String {
  text + String(repeating: " ", count: max(1, width - text.count))
}
