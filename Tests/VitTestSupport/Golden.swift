public import Testing
import FoundationEssentials

/// Texts and numbers that are kept under `golden/` and must not change unseen.
///
/// With `VITC_BLESS=1` in the environment they are written anew; `tools/golden --bless` does that and shows the difference.
public enum Golden {
  /// Whether goldens are written rather than compared.
  public static var isBlessing: Bool { ProcessInfo.processInfo.environment["VITC_BLESS"] == "1" }

  /// Fails unless `text` is what stands in `golden/NAME`, naming the first line that differs.
  public static func expect(_ text: String, _ name: String, sourceLocation: SourceLocation = #_sourceLocation)
  {
    let path = Fixture.path(name)
    if isBlessing { return bless(text, path, sourceLocation) }
    guard let expected = try? String(contentsOfFile: path, encoding: .utf8) else {
      Issue.record("golden/\(name) is missing: run tools/golden --bless", sourceLocation: sourceLocation)
      return
    }
    guard text != expected else { return }
    let (found, wanted) = (lines(text), lines(expected))
    let place =
      zip(found, wanted).enumerated().first { $0.element.0 != $0.element.1 }?.offset
      ?? min(found.count, wanted.count)
    Issue.record(
      """
      golden/\(name) differs in line \(place + 1)
      expected: \(place < wanted.count ? wanted[place] : "the end")
      found:    \(place < found.count ? found[place] : "the end")
      """, sourceLocation: sourceLocation)
  }

  /// Fails unless every number is within its bound of what stands in `golden/NAME`, a JSON object of
  /// `{"value": …, "bound": …}`. Bounds are kept when the values are written anew.
  public static func expect(
    _ numbers: [String: Double], _ name: String, bound: Double,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let path = Fixture.path(name)
    let old =
      (try? JSONDecoder().decode([String: Bounded].self, from: Data(contentsOf: URL(fileURLWithPath: path))))
      ?? [:]
    if isBlessing {
      let new = numbers.map { ($0.key, Bounded(value: $0.value, bound: old[$0.key]?.bound ?? bound)) }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      let data = try encoder.encode(Dictionary(uniqueKeysWithValues: new))
      return bless(String(decoding: data, as: UTF8.self) + "\n", path, sourceLocation)
    }
    #expect(numbers.keys.sorted() == old.keys.sorted(), "golden/\(name)", sourceLocation: sourceLocation)
    for (key, wanted) in old.sorted(by: { $0.key < $1.key }) {
      guard let found = numbers[key] else { continue }
      #expect(
        abs(found - wanted.value) <= wanted.bound,
        "golden/\(name): \(key) is \(found), expected \(wanted.value) ± \(wanted.bound)",
        sourceLocation: sourceLocation)
    }
  }

  private struct Bounded: Codable {
    var value: Double
    var bound: Double
  }

  private static func lines(_ text: String) -> [Substring] {
    text.split(separator: "\n", omittingEmptySubsequences: false)
  }

  private static func bless(_ text: String, _ path: String, _ sourceLocation: SourceLocation) {
    do {
      let file = URL(fileURLWithPath: path)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file)
    } catch { Issue.record("\(path) cannot be written: \(error)", sourceLocation: sourceLocation) }
  }
}
