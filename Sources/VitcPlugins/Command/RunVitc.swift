import Foundation
import PackagePlugin

/// `swift package vitc …`: the command line of the vitc that the package depends on, from the package's folder.
@main struct RunVitc: CommandPlugin {
  func performCommand(context: PluginContext, arguments: [String]) async throws {
    let process = Process()
    process.executableURL = try context.tool(named: "vitc").url
    process.arguments = arguments
    process.currentDirectoryURL = context.package.directoryURL
    try process.run()
    process.waitUntilExit()
    if process.terminationStatus != 0 {
      Diagnostics.error("vitc ended with the status \(process.terminationStatus)")
    }
  }
}
