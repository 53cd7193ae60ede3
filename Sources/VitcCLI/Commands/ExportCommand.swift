internal import VitIR
internal import Vitc

extension Command {
  /// `vitc export`.
  static let export = Command(
    "export", "writes a model as ONNX, of standard operators",
    operands: [("MODEL", "a .vmod, .onnx or textual IR file")],
    options: [
      Option("-o", "OUT", "where it goes: NAME.onnx"),
      Option("--opset", "N", "the version of the standard operators, from 13 to 24 (default 17)"),
      Option(
        "--weights", "TYPE", "the type in which weights are written: f32 (default) or f16, computed in f32"),
      Option("--external-data", "puts weights into OUT.data (default: where OUT would be larger than 2 GB)"),
      Option.inputShape, Option.threads, Option.memoryLimit,
    ] + Option.dependencies,
    notes: [
      "The number of images stays open where it is open in the model. How images are prepared and what classes are called is in "
        + "the file's metadata, as 'vitc.preprocessing' and 'vitc.labels'."
    ]
  ) { arguments, terminal in
    guard let out = arguments.text("-o") else {
      throw usage("export needs -o", code: "option-missing", help: "the name of the file: -o OUT.onnx")
    }
    var export = OnnxExport()
    export.opset = try arguments.integer("--opset", in: 13...24) ?? export.opset
    if let type = try arguments.choice("--weights", of: ["f32", "f16"]).flatMap(ElementType.init(rawValue:)) {
      export.weights = type
    }
    export.isSplit = arguments.flag("--external-data")
    let threads = try arguments.threads()
    var files = FileUse()
    try FileFormat.check(out, is: .onnx, as: "-o")
    try files.writes(out, as: "-o")
    try files.writes(OnnxExport.dataPath(of: out), as: "the weights of -o")
    let depfile = try arguments.depfile(for: out, &files)
    try files.reads([arguments.operands[0]])
    let model = try terminal.load(
      arguments.operands[0], inputShapes: arguments.texts("--input-shape"), threads: threads, &files)
    try model.writeONNX(to: out, export, threads: threads)
    try depfile?.write(files, terminal)
    return .done
  }
}
