internal import VitBenchmarks

/// `VitBench kernels [FILTER] [SECONDS]`, `VitBench mixers THREADS SECONDS` and `VitBench search MODEL DATA THREADS`, for
/// tools/bench.
@main struct Bench {
  static func main() throws {
    let words = CommandLine.arguments.dropFirst()
    let rest = words.dropFirst()
    switch words.first {
    case "kernels":
      try KernelBenchmarks.run(
        filter: rest.first { Double($0) == nil } ?? "", seconds: rest.compactMap(Double.init).first ?? 0.3)
    case "mixers":
      let numbers = rest.compactMap(Double.init)
      try MixerBenchmarks.run(
        threads: numbers.first.map { Int($0) } ?? 2, seconds: numbers.dropFirst().first ?? 4)
    case "search" where rest.count == 3:
      let words = Array(rest)
      try SearchBenchmarks.run(words[0], data: words[1], threads: Int(words[2]) ?? 2)
    default:
      print(
        "usage: VitBench kernels [FILTER] [SECONDS] | VitBench mixers THREADS SECONDS | VitBench search MODEL DATA THREADS"
      )
    }
  }
}
