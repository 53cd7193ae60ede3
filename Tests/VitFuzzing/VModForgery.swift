internal import VitFormats

/// A `.vmod` file in its sections, put together with checksums that are right: what an attacker would write.
public struct VModForgery {
  /// The manifest.
  public var manifest: [UInt8]
  /// The compressed tensors.
  public var frames: [UInt8]
  /// Where the frames lie.
  public var table: [UInt8]
  /// What no digest covers.
  public var measurements: [UInt8]
  /// The version that the header names.
  public var version: UInt32

  private static let headerSize = 128

  /// The sections of a file, as far as the sizes in its header lie within it.
  public init(_ file: [UInt8]) {
    func number(_ offset: Int, _ count: Int = 8) -> UInt64 {
      (0..<count).reduce(0) { sum, index in
        sum | (offset + index < file.count ? UInt64(file[offset + index]) << UInt64(8 * index) : 0)
      }
    }
    var rest = file.dropFirst(Self.headerSize)
    func section(_ offset: Int) -> [UInt8] {
      let part = rest.prefix(Int(clamping: number(offset)))
      rest = rest.dropFirst(part.count)
      return Array(part)
    }
    version = UInt32(truncatingIfNeeded: number(8, 4))
    manifest = section(16)
    frames = section(56)
    table = section(64)
    measurements = section(80)
  }

  /// The file.
  public var bytes: [UInt8] {
    func number(_ value: UInt64, _ count: Int = 8) -> [UInt8] {
      (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }
    var header: [UInt8] = [0x89, 0x56, 0x4d, 0x4f, 0x44, 0x0d, 0x0a, 0x1a]
    header += number(UInt64(version), 4) + number(UInt64(Self.headerSize), 4)
    header += number(UInt64(manifest.count)) + Digest(of: manifest).bytes
    header += number(UInt64(frames.count)) + number(UInt64(table.count)) + number(checksum(table))
    header += number(UInt64(measurements.count)) + number(checksum(measurements))
    header += [UInt8](repeating: 0, count: 24)
    return header + number(checksum(header)) + manifest + frames + table + measurements
  }
}
