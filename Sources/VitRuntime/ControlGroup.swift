internal import Glibc

/// The processor quota of the control groups that the process is in.
package enum ControlGroup {
  /// Cores' worth of time that the tightest group allows, or `nil` without a quota. Versions 1 and 2 are read.
  package static func cores() -> Double? {
    guard let membership = text(of: "/proc/self/cgroup") else { return nil }
    var limits: [Double] = []
    for line in membership.split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let controllers = fields[1].split(separator: ",")
      for path in ancestors(of: String(fields[2])) {
        if fields[1].isEmpty {
          limits += [text(of: "/sys/fs/cgroup\(path)/cpu.max").flatMap(quota(ofVersion2:))].compactMap { $0 }
        } else if controllers.contains("cpu") {
          limits += [version1(folder: "/sys/fs/cgroup/cpu\(path)")].compactMap { $0 }
        }
      }
    }
    return limits.min()
  }

  /// `path` and the folders above it, the root last; inside a container the path may be the host's, so the root
  /// counts too.
  package static func ancestors(of path: String) -> [String] {
    var parts = path.split(separator: "/")
    var result: [String] = []
    while !parts.isEmpty {
      result.append("/" + parts.joined(separator: "/"))
      parts.removeLast()
    }
    return result + [""]
  }

  /// Cores that the text of a `cpu.max` file allows: a quota and a period in microseconds, or `max`.
  package static func quota(ofVersion2 text: String) -> Double? {
    let numbers = text.split(whereSeparator: \.isWhitespace).map { Double(String($0)) }
    guard numbers.count == 2, let quota = numbers[0], let period = numbers[1], period > 0 else { return nil }
    return quota / period
  }

  private static func version1(folder: String) -> Double? {
    guard let quota = text(of: folder + "/cpu.cfs_quota_us").flatMap(number),
      let period = text(of: folder + "/cpu.cfs_period_us").flatMap(number), quota > 0, period > 0
    else { return nil }
    return quota / period
  }

  private static func number(_ text: String) -> Double? {
    text.split(whereSeparator: \.isWhitespace).first.flatMap { Double(String($0)) }
  }

  private static func text(of path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(descriptor, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
  }
}
