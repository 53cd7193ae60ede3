internal import Glibc

/// The quotas of the control groups that the process is in, of versions 1 and 2.
package enum ControlGroup {
  /// Cores' worth of time that the tightest group allows, or `nil` without a quota.
  package static func cores() -> Double? {
    limits(
      of: "cpu", version2: { text(of: $0 + "/cpu.max").flatMap(quota(ofVersion2:)) },
      version1: { folder in
        guard let quota = text(of: folder + "/cpu.cfs_quota_us").flatMap(number),
          let period = text(of: folder + "/cpu.cfs_period_us").flatMap(number), quota > 0, period > 0
        else { return nil }
        return quota / period
      }
    ).min()
  }

  /// The bytes of memory that the tightest group allows, or `nil` without a limit.
  package static func memory() -> Int? {
    limits(
      of: "memory", version2: { text(of: $0 + "/memory.max").flatMap(bytes) },
      version1: { text(of: $0 + "/memory.limit_in_bytes").flatMap(bytes) }
    ).min()
  }

  /// What is found for a controller in the folders of the process's groups and of those above them.
  private static func limits<Value>(
    of controller: String, version2: (_ folder: String) -> Value?, version1: (_ folder: String) -> Value?
  ) -> [Value] {
    guard let membership = text(of: "/proc/self/cgroup") else { return [] }
    var limits: [Value?] = []
    for line in membership.split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let controllers = fields[1].split(separator: ",")
      for path in ancestors(of: String(fields[2])) {
        if fields[1].isEmpty {
          limits.append(version2("/sys/fs/cgroup" + path))
        } else if controllers.contains(Substring(controller)) {
          limits.append(version1("/sys/fs/cgroup/" + controller + path))
        }
      }
    }
    return limits.compactMap { $0 }
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

  /// Bytes that the text of a limit allows, or `nil` for `max`.
  package static func bytes(_ text: String) -> Int? {
    text.split(whereSeparator: \.isWhitespace).first.flatMap { Int(String($0)) }
  }

  private static func number(_ text: String) -> Double? {
    text.split(whereSeparator: \.isWhitespace).first.flatMap { Double(String($0)) }
  }

  private static func text(of path: String) -> String? { SystemText.read(path) }
}

/// Small files in which the system tells about itself.
enum SystemText {
  /// The first 4 KiB of a file, or `nil` where it cannot be read.
  static func read(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = Glibc.read(descriptor, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
  }
}
