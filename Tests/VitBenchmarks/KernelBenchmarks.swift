internal import CVitKernels
internal import VitIR
internal import VitOps
internal import VitRuntime
internal import VitTrain

/// Speed of the C kernels on one thread, at each level of the instruction set. Prints, asserts nothing.
public enum KernelBenchmarks {
  /// Measures the kernels whose name contains `filter`, for about `seconds` each and level.
  public static func run(filter: String, seconds: Double) throws {
    let levels = [("base", VK_BASE), ("avx2", VK_AVX2), ("avx512", VK_AVX512)].filter { $0.1 <= vk_level() }
    print(
      column("kernel", width: 32) + column("problem", width: 44) + column("in", width: 10)
        + levels.map { column($0.0, width: 10) }.joined() + "f64")
    for kernel in all where filter.isEmpty || kernel.name.contains(filter) {
      var line = column(kernel.name, width: 32) + column(kernel.problem, width: 44)
      line += column(kernel.isBoundByMemory ? "GB/s" : "GFLOP/s", width: 10)
      for (_, level) in levels {
        vk_cap_thread_level(Int32(level))
        line += column(rate(try measure(kernel, .f32, seconds)), width: 10)
      }
      vk_cap_thread_level(-1)
      print(line + (kernel.isInDouble ? rate(try measure(kernel, .f64, seconds)) : ""))
    }
  }

  private static func rate(_ value: Double) -> String { column(value, digits: 1, width: 0).trimmed }

  private static func measure(_ kernel: Kernel, _ element: ElementType, _ seconds: Double) throws -> Double {
    let (work, cost) = try kernel.make(element)
    var watch = Stopwatch()
    watch.run(seconds: seconds, work)
    return Double(kernel.isBoundByMemory ? cost.bytes : cost.flops) / watch.median / 1e9
  }

  /// A kernel at work, by an operation that is nothing else.
  struct Kernel {
    let name: String
    let problem: String
    /// Whether what counts is the memory that goes by, not the arithmetic.
    let isBoundByMemory: Bool
    var isInDouble = true
    let make: (ElementType) throws -> (work: () -> Void, cost: Cost)
  }
}

extension String {
  fileprivate var trimmed: String { String(drop { $0 == " " }) }
}
