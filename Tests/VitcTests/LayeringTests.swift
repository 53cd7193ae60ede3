import Foundation
import Testing

/// Which room sees which: nothing but this table and the package manifest says so, for SwiftPM lets a file import what its
/// target never declared.
@Suite("The rooms of the house") struct LayeringTests {
  static let rooms: [String: Set<String>] = [
    "VitSystem": [],
    "VitIR": ["VitSystem"],
    "VitRuntime": ["VitSystem", "VitIR", "CVitKernels"],
    "VitOps": ["VitIR", "VitRuntime"],
    "VitFormats": ["VitIR", "CVitFormats"],
    "VitData": ["VitIR", "VitFormats"],
    "VitTrain": ["VitIR", "VitRuntime"],
    "VitPasses": ["VitIR", "VitRuntime", "VitOps", "VitTrain", "VitData"],
    "Vitc": ["VitSystem", "VitIR", "VitRuntime", "VitOps", "VitFormats", "VitData", "VitTrain", "VitPasses"],
    "VitcCLI": ["VitIR", "VitPasses", "Vitc"],
    "VitcABI": ["CVitc", "VitIR", "VitPasses", "Vitc", "VitcCLI"],
    "vitc": ["VitcCLI"],
  ]
  /// What comes with the toolchain; `FoundationEssentials` costs start-up time, so only the rooms from the formats up may.
  static let system: Set<String> = ["Glibc", "Synchronization"]
  static let mayUseFoundation: Set<String> = ["VitFormats", "VitData", "VitPasses", "Vitc", "VitcCLI"]

  static let sources = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Sources")

  /// The Swift files of a room.
  static func files(_ room: String) -> [URL] {
    let folder = sources.appendingPathComponent(room)
    let all =
      FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?.allObjects as? [URL] ?? []
    return all.filter { $0.pathExtension == "swift" }.sorted { $0.path < $1.path }
  }

  @Test("a file imports what its room sees, and nothing else", arguments: rooms.keys.sorted())
  func imports(room: String) throws {
    var allowed = try #require(Self.rooms[room]).union(Self.system)
    if Self.mayUseFoundation.contains(room) { allowed.insert("FoundationEssentials") }
    let files = Self.files(room)
    #expect(!files.isEmpty)
    for file in files {
      for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
        let words = line.split(separator: " ")
        guard let place = words.firstIndex(of: "import"), place + 1 < words.count,
          words[..<place].allSatisfy({
            ["public", "package", "internal", "private"].contains($0) || $0.hasPrefix("@")
          })
        else { continue }
        let module = String(words[place + 1])
        #expect(allowed.contains(module), "\(room)/\(file.lastPathComponent) imports \(module)")
        #expect(place > 0, "\(room)/\(file.lastPathComponent): the import of \(module) has no access level")
      }
    }
  }

  @Test("every room is in the table") func complete() throws {
    let folders = try FileManager.default.contentsOfDirectory(atPath: Self.sources.path)
    // What SwiftPM runs while it builds other packages sees none of the rooms.
    let others: Set<String> = ["VitcPlugins"]
    let rooms = Set(folders.filter { !$0.hasPrefix("CVit") && !$0.hasPrefix(".") }).subtracting(others)
    #expect(rooms == Set(Self.rooms.keys))
  }

  @Test("nothing in the sources ends the process because of an input") func traps() throws {
    let forbidden = ["try!", "as!", "fatalError("]
    for room in Self.rooms.keys.sorted() {
      for file in Self.files(room) {
        let text = try String(contentsOf: file, encoding: .utf8)
        for word in forbidden {
          #expect(!text.contains(word), "\(room)/\(file.lastPathComponent) has \(word)")
        }
      }
    }
  }

  @Test("no module holds a type of its own name, which would hide the module", arguments: rooms.keys.sorted())
  func names(room: String) throws {
    for file in Self.files(room) {
      let text = try String(contentsOf: file, encoding: .utf8)
      for kind in ["struct", "class", "enum", "protocol", "actor"] {
        #expect(!text.contains("\(kind) \(room) "), "\(file.lastPathComponent)")
      }
    }
  }
}
