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

    /// The names of all that can be said.
    static let known = ["data", "evalData", "options", "inputs", "models"]

    /// A name that says nothing.
    static func unknown(in value: Any) -> String? {
      guard let members = value as? [String: Any] else { return nil }
      if let wrong = members.keys.sorted().first(where: { !known.contains($0) }) { return wrong }
      let models = members["models"] as? [String: Any] ?? [:]
      return models.sorted { $0.key < $1.key }.lazy.compactMap { unknown(in: $0.value) }.first
    }
  }

  func createBuildCommands(context: PluginContext, target: any Target) async throws -> [Command] {
    guard let target = target as? any SourceModuleTarget else { return [] }
    let vitc = try context.tool(named: "vitc").url
    let models = target.sourceFiles.map(\.url).filter { $0.pathExtension == "onnx" }.sorted {
      $0.path < $1.path
    }
    var names: Set<String> = []
    for model in models where !names.insert(model.lastPathComponent).inserted {
      Diagnostics.error("\(model.path): another model of the target has this name, and so the resource's")
    }
    return try models.compactMap { model in
      try command(for: model, vitc: vitc, into: context.pluginWorkDirectoryURL)
    }
  }

  private func command(for model: URL, vitc: URL, into folder: URL) throws -> Command? {
    let beside = model.deletingLastPathComponent()
    let file = beside.appendingPathComponent("vitc.json")
    guard FileManager.default.fileExists(atPath: file.path) else { return nil }
    let settings: Settings
    do {
      let data = try Data(contentsOf: file)
      settings = try JSONDecoder().decode(Settings.self, from: data)
      if let wrong = Settings.unknown(in: try JSONSerialization.jsonObject(with: data)) {
        Diagnostics.error("\(file.path): '\(wrong)' is none of \(Settings.known.joined(separator: ", "))")
        return nil
      }
    } catch {
      Diagnostics.error("\(file.path): cannot be read: \(error)")
      return nil
    }
    let own = settings.models?[model.lastPathComponent]
    let output = folder.appendingPathComponent(model.deletingPathExtension().lastPathComponent + ".vmod")
    var words = ["compile", model.path, "-o", output.path, "--quiet", "--reproducible"]
    func place(_ name: String) -> URL {
      name.hasPrefix("/") ? URL(fileURLWithPath: name) : beside.appendingPathComponent(name)
    }
    // What lies beside a model may say how its images are prepared, or hold its weights.
    var inputs = [model, file] + CompileModels.companions(of: model)
    for (option, name) in [
      ("--data", own?.data ?? settings.data), ("--eval-data", own?.evalData ?? settings.evalData),
    ] {
      guard let name else { continue }
      let isMadeUp = name == "synthetic" || name.hasPrefix("synthetic:")
      // A part of a data set stands behind its path: photos:train.
      let parts = name.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      let path = place(String(parts[0]))
      words += [
        option, isMadeUp ? name : ([path.path] + parts.dropFirst().map(String.init)).joined(separator: ":"),
      ]
      if !isMadeUp { inputs += CompileModels.contents(of: path) }
    }
    words += (settings.options ?? []) + (own?.options ?? [])
    for name in (settings.inputs ?? []) + (own?.inputs ?? []) {
      inputs += CompileModels.contents(of: place(name))
    }
    return .buildCommand(
      displayName: "vitc: compiling \(model.lastPathComponent)", executable: vitc, arguments: words,
      inputFiles: inputs, outputFiles: [output])
  }

  /// A file, or a folder with all that is in it, at any depth: the age of a folder alone says little.
  private static func contents(of path: URL) -> [URL] {
    let within = FileManager.default.enumerator(at: path, includingPropertiesForKeys: nil)?.allObjects
    return [path] + (within as? [URL] ?? []).sorted { $0.path < $1.path }
  }

  /// Files beside a model that belong to it.
  private static func companions(of model: URL) -> [URL] {
    let folder = model.deletingLastPathComponent()
    let names = ["preprocessor_config.json", "config.json", model.lastPathComponent + ".data"]
    return names.map(folder.appendingPathComponent).filter { FileManager.default.fileExists(atPath: $0.path) }
  }
}
