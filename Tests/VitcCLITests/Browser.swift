import Foundation
import Testing
import VitTestSupport

/// A browser without a window, where there is one.
enum Browser {
  /// Its executable.
  static let path = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
    .first { FileManager.default.isExecutableFile(atPath: $0) }

  /// Draws a page of `scratch` at a width into `page.png` there; fails where the page says a word on the console.
  static func draw(_ page: String, width: Int, in scratch: Scratch) throws {
    let result = try Tool.start(
      [
        "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars",
        "--user-data-dir=\(scratch.file("profile"))", "--window-size=\(width),3000",
        "--screenshot=\(scratch.file("page.png"))", "file://\(scratch.file(page))",
      ], executable: try #require(path), scratch: scratch
    ).finish()
    #expect(result.status == 0 && !result.errors.contains("CONSOLE"), "\(result.errors)")
    #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.file("page.png"))).count > 10_000)
  }
}
