import Foundation
import PackagePlugin

/// Compiles the ONNX files of a target that have a `vitc.json` beside them: each becomes a resource, `NAME.vmod`, made again when the file, its
/// settings or what these name changes.
@main struct CompileModels: BuildToolPlugin {
  /// What `vitc.json` says of all models in its folder, or of one of them.
  private struct Settings: Decodable {
    /// The images to compile on, as `--data` takes them; a path is from the folder.
    var data: String?
    /// The images to measure on, as `--eval-data` takes them.
    var evalData: String?
    /// More options of `vitc compile`.
    var options: [String]?
    /// Files from the folder whose change makes the model anew, beside those named above.
    var inputs: [String]?
    /// What is said of single models, by the names of their files: it adds to the rest, and its data take the place of theirs.
    var models: [String: Settings]?
  }

  func createBuildCommands(context: PluginContext, target: any Target) async throws -> [Command] {
    guard let target = target as? any SourceModuleTarget else { return [] }
    let vitc = try context.tool(named: "vitc").url
    return try target.sourceFiles.filter { $0.url.pathExtension == "onnx" }
      .sorted { $0.url.path < $1.url.path }
      .compactMap { file in
        try command(for: file.url, vitc: vitc, into: context.pluginWorkDirectoryURL)
      }
  }

  private func command(for model: URL, vitc: URL, into folder: URL) throws -> Command? {
    let beside = model.deletingLastPathComponent()
    let file = beside.appendingPathComponent("vitc.json")
    guard FileManager.default.fileExists(atPath: file.path) else { return nil }
    let settings: Settings
    do {
      settings = try JSONDecoder().decode(Settings.self, from: Data(contentsOf: file))
    } catch {
      Diagnostics.error("\(file.path): cannot be read: \(error)")
      return nil
    }
    let own = settings.models?[model.lastPathComponent]
    let output = folder.appendingPathComponent(model.deletingPathExtension().lastPathComponent + ".vmod")
    var words = ["compile", model.path, "-o", output.path, "--quiet", "--reproducible"]
    var inputs = [model, file]
    for (option, name) in [
      ("--data", own?.data ?? settings.data), ("--eval-data", own?.evalData ?? settings.evalData),
    ] {
      guard let name else { continue }
      let isMadeUp = name == "synthetic" || name.hasPrefix("synthetic:")
      // A part of a data set stands behind its path: photos:train.
      let parts = name.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      let path = beside.appendingPathComponent(String(parts[0]))
      words += [
        option, isMadeUp ? name : ([path.path] + parts.dropFirst().map(String.init)).joined(separator: ":"),
      ]
      if !isMadeUp { inputs.append(path) }
    }
    words += (settings.options ?? []) + (own?.options ?? [])
    inputs += ((settings.inputs ?? []) + (own?.inputs ?? [])).map(beside.appendingPathComponent)
    return .buildCommand(
      displayName: "vitc: compiling \(model.lastPathComponent)", executable: vitc, arguments: words,
      inputFiles: inputs, outputFiles: [output])
  }
}
