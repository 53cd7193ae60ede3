import Foundation
import Testing

/// CONTRIBUTING.md names files, types and members; they must be there, and what it says of them must hold.
@Suite("CONTRIBUTING is true") struct ContributingTests {
  static let root = LayeringTests.sources.deletingLastPathComponent()
  static let page =
    (try? String(contentsOf: root.appendingPathComponent("CONTRIBUTING.md"), encoding: .utf8)) ?? ""
  /// What stands in backticks, outside of blocks of code.
  static let terms: [String] = {
    let prose = page.components(separatedBy: "```").enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
    let terms = prose.joined().components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }
    return Array(Set(terms.map(\.element))).sorted()
  }()

  /// All Swift and C of sources and tests, by path.
  static let files: [(path: String, text: String)] = ["Sources", "Tests"].flatMap { folder in
    let start = root.appendingPathComponent(folder)
    let all =
      FileManager.default.enumerator(at: start, includingPropertiesForKeys: nil)?.allObjects as? [URL] ?? []
    let kept = all.filter { ["swift", "h", "c"].contains($0.pathExtension) }.sorted { $0.path < $1.path }
    return kept.map { url in
      let text = (try? String(contentsOf: url, encoding: .utf8)) ?? ""
      return (path: String(url.path.dropFirst(root.path.count + 1)), text: text)
    }
  }
  /// The names that all this code gives a meaning to.
  static let names = CodeNames(files.filter { !$0.path.hasSuffix("ContributingTests.swift") }.map(\.text))
  /// Words of the language, of commits and of file names.
  static let other: Set<String> = [
    "precondition", "!", "try!", "as!", "fatalError", "VITC_STRICT", "dataset-fashion-mnist",
  ]

  @Test("the page has walks, and names enough") func page() {
    #expect(Self.page.contains("## One tensor, from a file to a file"))
    #expect(Self.page.contains("## One step of training"))
    #expect(Self.terms.count > 80)
  }

  @Test("every path is there, every type and member declared", arguments: terms)
  func named(_ term: String) {
    if Self.other.contains(term) || term.contains(" ") || term.hasPrefix(".") && !term.contains("/") {
      return
    }
    if term.contains("/") {
      #expect(FileManager.default.fileExists(atPath: Self.root.appendingPathComponent(term).path))
      return
    }
    if FileManager.default.fileExists(atPath: LayeringTests.sources.appendingPathComponent(term).path) {
      return
    }
    // An operation, a pass or a constant by the name that its declaration spells out.
    if Self.names.literals.contains(term) { return }
    let parts = term.prefix { $0 != "(" }.split(separator: ".").map(String.init)
    for part in parts {
      #expect(
        part.first?.isUppercase == true
          ? Self.names.types.contains(part) : Self.names.members.contains(part), "\(part)")
    }
    // `Type(label:)` has an initialiser with that label.
    for label in term.matches(of: #/(\w+):/#).map({ String($0.output.1) }) where label != "_" {
      #expect(Self.names.labels.contains(label), "\(label)")
    }
  }

  @Test("bytes come in at one door")
  func door() {
    // Plugins run in SwiftPM and can see no room.
    let exempt = ["Sources/VitFormats/", "Sources/VitcPlugins/"]
    for (path, text) in Self.files where path.hasPrefix("Sources/") && !exempt.contains(where: path.hasPrefix)
    {
      for word in ["ByteReader", "WireReader"] { #expect(!text.contains(word), "\(path) has a \(word)") }
      if path != "Sources/VitData/JSONValue.swift" {
        for word in ["JSONDecoder", "JSONSerialization"] {
          #expect(!text.contains(word), "\(path) has a \(word)")
        }
      }
    }
  }

  @Test("nothing below the command line prints")
  func silence() {
    for (path, text) in Self.files where path.hasPrefix("Sources/") && path.hasSuffix(".swift") {
      if path.hasPrefix("Sources/VitcCLI/") || path.hasPrefix("Sources/vitc/") { continue }
      let lines = text.split(separator: "\n").map { $0.drop { $0 == " " } }
      #expect(!lines.contains { $0.hasPrefix("print(") }, "\(path) prints")
    }
  }

  @Test("files are short, and tests are of one kind")
  func habits() {
    for (path, text) in Self.files where path.hasSuffix(".swift") {
      #expect(text.split(separator: "\n", omittingEmptySubsequences: false).count <= 520, "\(path)")
      #expect(!text.contains("import XC" + "Test"), "\(path)")
    }
  }
}

/// The names that code declares and the words that its literals consist of, found in one pass over its bytes.
struct CodeNames {
  private(set) var types: Set<String> = []
  private(set) var members: Set<String> = ["init"]
  /// Words before a colon.
  private(set) var labels: Set<String> = []
  /// Literals of letters, digits, dots and dashes.
  private(set) var literals: Set<String> = []

  init(_ texts: [String]) {
    for text in texts { read(Array(text.utf8)) }
  }

  private mutating func read(_ bytes: [UInt8]) {
    func isWord(_ byte: UInt8) -> Bool {
      byte == 0x5f || (0x30...0x39).contains(byte) || (0x61...0x7a).contains(byte | 0x20) && byte > 0x40
    }
    var (index, last) = (0, "")
    while index < bytes.count {
      let start = index
      while index < bytes.count, isWord(bytes[index]) { index += 1 }
      guard index > start else {
        if bytes[index] == 0x22 { index += literal(bytes[(index + 1)...]) }
        index += 1
        continue
      }
      let word = String(decoding: bytes[start..<index], as: UTF8.self)
      switch last {
      case "struct", "class", "enum", "protocol", "actor", "typealias": types.insert(word)
      case "func", "var", "let", "case": members.insert(word)
      default: if word.hasPrefix("vk_") { members.insert(word) }
      }
      if index < bytes.count, bytes[index] == 0x3a { labels.insert(word) }
      last = word
    }
  }

  /// Notes the literal whose first quote stands before `rest`, where it is one word, and returns its length.
  private mutating func literal(_ rest: ArraySlice<UInt8>) -> Int {
    let word = rest.prefix(64).prefix {
      $0 > 0x2c && $0 != 0x2f && $0 < 0x7b && !(0x3a...0x40).contains($0) && $0 != 0x5c
    }
    guard !word.isEmpty, rest.dropFirst(word.count).first == 0x22 else { return 0 }
    literals.insert(String(decoding: word, as: UTF8.self))
    return word.count + 1
  }
}
