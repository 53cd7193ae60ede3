import Foundation
import Testing
import VitTestSupport
import Vitc

@Suite("Words on the command line") struct UsageTests {
  @Test("the version goes to standard output") func version() throws {
    let result = try Tool.run("--version")
    #expect(result.status == 0)
    #expect(result.output.hasPrefix("vitc "))
    #expect(result.errors.isEmpty)
  }

  @Test(
    "wrong usage is one error line that says what is wrong, and exit code 2",
    arguments: [
      ([], "no command"), (["insect"], "did you mean 'inspect'"), (["--verison"], "unknown option"),
      (["inspect"], "inspect needs MODEL"), (["inspect", "a", "b"], "unexpected operand 'b'"),
      (["inspect", "--jsno", "a"], "did you mean '--json'"),
      (["inspect", "--json=1", "a"], "takes no value"),
      (["inspect", "--json", "--json", "a"], "given twice"), (["bench", "a", "--batch"], "needs a value"),
      (["bench", "a", "--batch", "0"], "'0'"), (["bench", "a", "--batch=ten"], "'ten'"),
      (["bench", "a", "--threads", "-1"], "'-1'"), (["compile", "a"], "needs -o"),
      (["compile", "a", "-o", "b", "--replace", "-1"], "--replace"),
      (["compile", "a", "-o", "b", "--replace", "0", "--mixer", "glr"], "--mixer has nothing to say"),
      (["compile", "a", "-o", "b", "--replace", "0", "--select", "damage"], "found damage"),
      (["compile", "a", "-o", "b", "--replace", "auto", "--select", "entropy"], "found entropy"),
      (["compile", "a", "-o", "b", "--replace", "1.5"], "--replace"),
      (["compile", "a", "-o", "b", "--replace", "layers=x"], "--replace"),
      (["compile", "a", "-o", "b", "--select", "luck"], "expected auto, damage"),
      (
        ["compile", "a", "-o", "b", "--mixer", "mixer"],
        "expected one of 'conv', 'glr', 'lstm', 'mamba', 'none', 'pointwise', 'retention', 'ssd', 'static'"
      ),
      (["compile", "a", "-o", "b", "--mixer", "lstm{form=wide}"], "narrow"),
      (["compile", "a", "-o", "b.onnx"], "--emit onnx"),
      (["compile", "a", "-o", "b.vmod", "--emit", "onnx"], "ONNX"),
      (["compile", "a", "-o", "b", "--emit", "onnx", "--max-bytes", "1M"], "--emit onnx writes none"),
      (["export", "a"], "-o OUT.onnx"),
      (["export", "a", "-o", "b.onnx", "--opset", "12"], "--opset"),
      (["export", "a", "-o", "b.onnx", "--weights", "int8"], "--weights"),
      (["export", "a", "-o", "b.vmod"], "ONNX"),
      (["compile", "a", "-o", "b", "--mixer", "any", "--select", "entropy"], "found --select entropy"),
      (["compile", "a", "-o", "b", "--mixer", "ssd{states=4}"], "'states'"),
      (["compile", "a", "-o", "b", "--prefix", "class"], "auto, mixer, attend"),
      (["compile", "a", "-o", "b", "--time-budget", "soon"], "expected a time"),
      (["compile", "a", "-o", "b", "--time-budget", "0"], "expected a time"),
      (["compile", "a", "-o", "b", "--passes", "score", "--mixer", "glr"], "contradicts --passes"),
      (["compile", "a", "-o", "b", "--passes", "score{n=1}"], "unknown option 'n'"),
      (["compile", "a", "-o", "b", "--passes", "shrink"], "unknown pass 'shrink'"),
      (["compile", "a", "-o", "b", "--passes", "distil{batch=9223372036854775807}"], "batch in 1…65536"),
      (["compile", "a", "-o", "b", "--passes", "fine-tune{steps=-1}"], "steps in 0…"),
      (["compile", "a", "-o", "b", "--passes", "head"], "makes another teacher"),
      (["opt", "a", "--passes", "head{images=0}"], "images of at least 1"),
      (["compile", "a", "-o", "b", "-MF", "c"], "-MF needs -MD"),
      (["opt", "a"], "needs --passes"), (["opt", "a", "--passes", "fold{"], "malformed"),
      (["eval", "a"], "needs --data"), (["run", "a"], "needs images or --input"),
      (["run", "a", "--input", "x.npy", "b.png"], "not both"),
      (["compile", "a", "-o", "b", "--width", "0"], "--width cannot be '0'"),
      (["compile", "a", "-o", "b", "--width", "-0.5"], "--width"),
      (["compile", "a", "-o", "b", "--width", "nan"], "--width"),
      (["compile", "a", "-o", "b", "--heads", "0"], "--heads"),
      (["compile", "a", "-o", "b", "--distil-rate", "0"], "--distil-rate"),
      (["compile", "a", "-o", "b", "--fine-tune-rate", "inf"], "--fine-tune-rate"),
      (["compile", "a", "-o", "b", "--batch", "0"], "--batch"),
      (["compile", "a", "-o", "b", "--distil-steps", "-1"], "--distil-steps"),
      (["compile", "a", "-o", "b", "--passes", "swap{width=0}"], "'width' cannot be '0.0'"),
      (["compile", "a", "-o", "b", "--passes", "swap{heads=0}"], "'heads' cannot be '0'"),
      (["compile", "a", "-o", "b", "--passes", "distil{rate=0}"], "rate > 0"),
      (["compile", "a", "-o", "b", "--target-speedup", "1"], "expected a number above 1"),
      (["compile", "a", "-o", "b", "--max-params", "0"], "--max-params"),
      (["compile", "a", "-o", "b", "--max-drop", "101"], "not from 0 to 100"),
      (["compile", "a", "-o", "b", "--min-agreement", "1.5"], "not above 0 and at most 1"),
      (["compile", "a", "-o", "b", "--max-drop", "1", "--min-agreement", "0.9"], "one bound too many"),
      (["compile", "a", "-o", "b", "--max-params", "9", "--target-speedup", "2"], "one target too many"),
      (["compile", "a", "-o", "b", "--max-drop", "1", "--select", "entropy"], "is for --select auto"),
      (["compile", "a", "-o", "b", "--pareto", "d", "--select", "damage"], "is for --select auto"),
      (["compile", "a", "-o", "b", "--search-time", "1m", "--select", "last"], "is for --select auto"),
      (["compile", "d/point-1.vmod", "-o", "b", "--pareto", "d"], "d/point-1.vmod"),
      (["compile", "a", "-o", "d/point-2.vmod", "--pareto", "d"], "are the same file"),
      (["compile", "a", "-o", "b", "--pareto", "d"], "found out on data"),
      (["compile", "a", "-o", "b", "--cost", "flops"], "found out on data"),
      (["compile", "a", "-o", "b", "--passes", "select{by=auto,merge-from=0}"], "merge-from > 0"),
      (["compile", "a", "-o", "b", "--max-bytes", "1K"], "no room for weights"),
      (["compile", "a", "-o", "b", "--max-bytes", "1X"], "expected a size"),
      (["compile", "a", "-o", "b", "--max-bytes", "1M", "--max-params", "9"], "one target too many"),
      (["compile", "a", "-o", "b", "--max-bytes", "1M", "--cost", "flops"], "cost cannot be flops"),
      (["compile", "a", "-o", "b.vit", "--emit", "ir", "--max-bytes", "1M"], "is for a .vmod"),
      (["compile", "a", "-o", "b", "--cost", "money"], "time, measured, flops, parameters"),
      (["compile", "a", "-o", "b", "--cost", "measured", "--reproducible"], "differs from run to run"),
      (["compile", "a", "-o", "b", "--keep-tokens", "--passes", "score"], "contradicts --passes"),
      (["compile", "a", "-o", "b", "--passes", "score", "--pareto", "d"], "searches for nothing"),
      (["compile", "a", "-o", "b", "--target-speedup", "2"], "found out on data"),
      (["compile", "a", "-o", "b", "--no-train", "--distil-steps", "3"], "no steps to give"),
      (["compile", "a", "-o", "b", "--no-train", "--passes", "score"], "contradicts --passes"),
      (["compile", "a", "-o", "b", "--passes", "select{by=auto,goal=2}"], "a goal from 0 to 1"),
      (["compile", "a", "-o", "b", "--passes", "factorise{scores=0}"], "parts above 0"),
      (["compile", "a", "-o", "b", "--resume"], "no checkpoint"),
      (["compile", "a", "-o", "/dev/null", "--resume"], "no checkpoint"),
      (["compile", "a", "-o", "b.onnx"], "ONNX is written with --emit onnx"),
      (["compile", "a", "-o", "b.NPY"], "what is written is a .vmod"),
      (["compile", "a", "-o", ""], "-o names no file"),
      (["compile", "a", "-o", "b.vit"], "--emit ir"),
      (["compile", "a", "-o", "b.vmod", "--emit", "ir"], "textual IR"),
      (["compile", "a", "-o", "b", "--report", "r.vmod"], "what is written is JSON"),
      (["compile", "a", "-o", "b", "-MP"], "-MP needs -MD"),
      (["compile", "a", "-o", "b", "-MD", "-MF", "b.json"], "a file of dependencies"),
      (["compile", "a", "-o", "b;c", "-MD"], "make and ninja"),
      (["compile", "a", "-o", "b", "--preprocess", "mean"], "expected KEY=VALUE"),
      (["compile", "a", "-o", "b", "--preprocess", "meen=1"], "unknown setting 'meen'"),
      (["compile", "a", "-o", "b", "--preprocess", "std=x"], "'std' cannot be 'x'"),
      (["opt", "a", "--passes", "fold", "-o", "b.onnx"], "what is written is a .vmod"),
      (["opt", "a", "--passes", "fold", "-o", "b.npy"], "what is written is a .vmod"),
      (["opt", "a", "--passes", "fold", "-o", "b.vmod", "--elide-tensors"], "--elide-tensors"),
      (["opt", "a", "--passes", "fold", "-MD"], "-MD needs -o"),
      (["opt", "a", "--passes", "fold", "-MF", "d"], "-MF needs -MD"),
      (["score", "a", "-o", "b.png"], "what is written is a .vmod"),
      (["score", "a", "--images", "0"], "--images"),
      (["score", "a", "-MD"], "-MD needs -o"),
      (["score", "a", "--preprocess", "crop=up"], "'crop' cannot be 'up'"),
      (["eval", "a", "--data", "b", "--preprocess", "size=0"], "size"),
      (["bench", "a", "--profile", "--against", "b"], "exclude each other"),
      (["run", "a", "--input", "x.npy", "--top", "3"], "--top belongs to images"),
      (["run", "a", "--top", "0", "b.png"], "--top"),
      (["diff", "a", "b", "--tolerance", "-1"], "--tolerance"),
      (["help", "nothing"], "unknown command 'nothing'"),
      (["help", "op", "vit.nothing"], "unknown operation"),
      (["help", "pass", "flod"], "did you mean 'fold'"),
      (["inspect", "a", "--diagnostics", "xml"], "expected text, json"),
    ])
  func wrongUsage(words: [String], message: String) throws {
    let result = try Tool.run(words)
    #expect(result.status == 2)
    #expect(result.errors.contains(message), "\(result.errors)")
    #expect(result.errors.split(separator: "\n").filter { $0.hasPrefix("error: ") }.count == 1)
  }

  @Test(
    "what only the model can tell to be impossible is wrong usage before any work, too",
    arguments: [
      (["--heads", "7"], "7 heads do not divide"), (["--heads", "3"], "3 heads"),
      (["--width", "0.01"], "expected at least one"), (["--replace", "9"], "only 2 of 2"),
      (["--replace", "layers=2"], "there is no layer 2"), (["--select", "last", "--heads", "5"], "5 heads"),
      (["--passes", "swap{layers=[1],heads=5},distil{steps=1}"], "5 heads"),
    ])
  func wrongForModel(flags: [String], message: String) throws {
    let tiny = try TinyModel(images: 2)
    let result = try tiny.run(["compile", "t.vmod", "--data", "data", "-o", "o.vmod"] + flags)
    #expect(result.status == 2, "\(result.errors)")
    #expect(result.errors.contains(message), "\(result.errors)")
    #expect(result.output == "")
    #expect(try !tiny.scratch.names.contains { $0.hasPrefix("o.") })
  }

  @Test("a value may stand behind an equals sign, and -- ends the options") func forms() throws {
    let result = try Tool.run("inspect", "--diagnostics=text", "--", "--no-such-file")
    #expect(result.status == 3)
    #expect(result.errors.contains("--no-such-file"))
  }

  @Test("messages as JSON are one object a line") func jsonMessages() throws {
    let result = try Tool.run("inspect", "--diagnostics=json", "missing.onnx")
    #expect(result.status == 3)
    #expect(result.errors.hasPrefix("{\"code\":\""))
    #expect(result.errors.contains("\"severity\":\"error\""))
    #expect(result.errors.contains("\"file\":\"missing.onnx\""))
  }

  @Test("every command explains itself, whatever else is given", arguments: commands)
  func commandHelp(name: String) throws {
    let result = try Tool.run(name, "--help")
    #expect(result.status == 0)
    #expect(try Tool.run("help", name).output == result.output)
    Golden.expect(result.output, "cli/help-\(name).txt")
  }

  @Test("the overview names every command") func overview() throws {
    let result = try Tool.run("--help")
    for command in UsageTests.commands { #expect(result.output.contains("\n  \(command) ")) }
    Golden.expect(result.output, "cli/help.txt")
  }

  @Test("passes are explained with their defaults") func passes() throws {
    Golden.expect(try Tool.run("help", "pass").output, "cli/passes.txt")
    Golden.expect(try Tool.run("help", "pass", "distil").output, "cli/pass-distil.txt")
  }

  @Test("operations are explained") func operations() throws {
    #expect(try Tool.run("help", "op", "vit.layer_norm").output.hasPrefix("vit.layer_norm: "))
    #expect(try Tool.run("help", "op").output.contains("onnx.Softmax"))
    Golden.expect(try Tool.run("help", "op", "onnx.LSTM").output, "cli/op-lstm.txt")
  }

  @Test("every kind of mixer has a help page and a section in Mixers.md")
  func mixers() throws {
    let list = try Tool.run("help", "mixer").output
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let page = try String(
      contentsOf: root.appending(path: "Sources/Vitc/Vitc.docc/Mixers.md"), encoding: .utf8)
    let sections = page.split(separator: "\n").filter { $0.hasPrefix("### 2.") }.flatMap {
      $0.split { !$0.isLetter }
    }
    for kind in MixerKinds.names {
      #expect(list.contains("\n  \(kind) ") || list.hasPrefix("  \(kind) "))
      let help = try Tool.run("help", "mixer", kind)
      #expect(help.status == 0 && help.output.hasPrefix("\(kind): "))
      #expect(sections.contains(Substring(kind)), "\(kind)")
    }
    Golden.expect(try Tool.run("help", "mixer", "lstm").output, "cli/mixer-lstm.txt")
    let unknown = try Tool.run("help", "mixer", "lsmt")
    #expect(unknown.status == 2 && unknown.errors.contains("unknown mixer 'lsmt'"))
  }

  static let commands = [
    "compile", "inspect", "score", "run", "eval", "bench", "verify", "diff", "opt", "check", "golden",
    "export", "report", "study", "help",
  ]

  @Test("words come from files, quoted where they hold blanks, and a bad file is a usage error")
  func responseFiles() throws {
    let scratch = try Scratch()
    try scratch.write(Array("help\n  'pass'  @inner\n".utf8), to: "outer")
    try scratch.write(Array("\"dis\"til".utf8), to: "inner")
    let plain = try Tool.run("help", "pass", "distil")
    #expect(plain.status == 0)
    #expect(try Tool.run("@outer", in: scratch.path).output == plain.output)
    try scratch.write(Array("in\\ spect 'no such \"file\".onnx'".utf8), to: "quoted")
    #expect(try Tool.run("@quoted", in: scratch.path).errors.contains("in spect"))
    try scratch.write(Array("help 'pass".utf8), to: "open")
    try scratch.write(Array("@loop".utf8), to: "loop")
    for name in ["open", "loop", "missing"] {
      let result = try Tool.run("@\(name)", in: scratch.path)
      #expect(result.status == 2 && result.errors.hasPrefix("error: "), "\(name): \(result.errors)")
    }
  }

  @Test(
    "usage errors are JSON where JSON is asked for",
    arguments: [["--diagnostics", "json"], ["--diagnostics=json"]])
  func jsonUsage(words: [String]) throws {
    for command in [["compile"], ["frobnicate"], ["run", "m", "--frobnicate"]] {
      let result = try Tool.run(command + words)
      #expect(result.status == 2 && result.errors.hasPrefix("{\"code\":"), "\(result.errors)")
    }
  }

  @Test("a quiet command says results and warnings, no notes and no progress") func quiet() throws {
    let tiny = try TinyModel(images: 2)
    let loud = try tiny.run(["eval", "t.vmod", "--data", "data"])
    let quiet = try tiny.run(["eval", "t.vmod", "--data", "data", "--quiet"])
    #expect(quiet.status == 0 && quiet.output == loud.output)
    #expect(loud.errors.contains("note: ") && loud.errors.contains("warning: "))
    #expect(
      quiet.errors.contains("warning: ") && !quiet.errors.contains("note: ")
        && !quiet.errors.contains("evaluate"))
  }

  @Test("run takes folders of images") func runFolder() throws {
    let tiny = try TinyModel(images: 2)
    let result = try tiny.run(["run", "t.vmod", "data", "--json"])
    let images = try #require(try result.json["images"] as? [[String: Any]])
    #expect(
      images.compactMap { $0["file"] as? String } == [
        "data/a/0.png", "data/a/1.png", "data/b/0.png", "data/b/1.png",
      ])
    try tiny.scratch.write([1], to: "none/readme.txt")
    #expect(try tiny.run(["run", "t.vmod", "none"]).errors.contains("none: the folder holds no images"))
  }

  @Test("operations are explained by their short names, too") func shortNames() throws {
    #expect(
      try Tool.run("help", "op", "LayerNormalization").output
        == Tool.run("help", "op", "onnx.LayerNormalization").output)
    #expect(try Tool.run("help", "op", "glr").output.hasPrefix("vit.glr: "))
  }
}
