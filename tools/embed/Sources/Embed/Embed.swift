import VitIR
import VitPasses
import Vitc

/// Compiles, runs and scores a teacher as README's section on embedding does.
@main struct Embed {
  static func main() throws {
    let words = CommandLine.arguments
    guard words.count == 4 else { throw VitError("usage: Embed TEACHER DATA OUT", kind: .usage) }
    // README begins
    let teacher = try Model(contentsOf: words[1])
    let data = try Samples(words[2], for: teacher, purpose: .calibration) { print($0.text) }
    var options = CompilerOptions()
    options.replace = .count(1)
    (options.distilSteps, options.fineTuneSteps) = (20, 10)
    let result = try Compiler(options).compile(teacher, data, to: words[3])
    let session = try Session(result.model)
    let input = Tensor(shape: [1] + data.shape, floats: Array(repeating: 0.5, count: data.shape.reduce(1, *)))
    let outputs = try session.run([input])
    let scored = try Pipeline([Score(), Select(by: .drop, count: 1)]).run(on: teacher, data)
    for layer in scored.hybrid.layers { print(layer.index, layer.score("drop") ?? 0, layer.choice) }
    // README ends
    print(outputs.map(\.shape), result.report.selected)
  }
}
