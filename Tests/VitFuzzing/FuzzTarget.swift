internal import FoundationEssentials
internal import VitData
internal import VitFormats
internal import VitIR
internal import VitOps
internal import VitPasses
internal import VitRuntime
internal import Vitc

/// Something that reads bytes that may hold anything: it may refuse them with a `VitError`, and do nothing else.
public struct FuzzTarget: Sendable {
  /// What `tools/fuzz` calls it; also the folder of its findings in `golden/fuzz`.
  public let name: String
  private let read: @Sendable (FuzzInput) throws -> Void

  /// All of them.
  public static let all: [FuzzTarget] = [
    FuzzTarget(name: "onnx") { input in
      let folder = ConstantFolder(pool: SerialPool())
      let result = try OnnxReader.read(path: input.file("m.onnx"), registry: .standard) {
        node, operands, results throws(VitError) in try folder.fold(node, operands, results)
      }
      try readsBack(Hybrid(result.graph))
    },
    FuzzTarget(name: "model") { input in
      _ = try Model(contentsOf: input.file("m.onnx"), threads: 1)
    },
    FuzzTarget(name: "memory") { input in try OpenedInMemory(input.bytes).run() },
    FuzzTarget(name: "calls") { input in try CalledWithAnything.run(input.bytes) },
    FuzzTarget(name: "vmod") { input in
      let forged = VModForgery(input.bytes).bytes
      let file = try VModReader.read(path: input.file("m.vmod", forged), registry: .standard)
      try file.verifyTensors()
      try readsBack(file.hybrid)
    },
    FuzzTarget(name: "text") { input in
      try readsBack(Hybrid(text: input.bytes, file: "m.vit", registry: .standard))
    },
    FuzzTarget(name: "arrays") { input in
      switch input.bytes.first {
      case 0x50:
        for name in try NPZ(input.file("a.npz")).names { _ = try NPZ(input.file("a.npz")).tensor(name) }
      case 0x93:
        let tensor = try NPY.read(input.file("a.npy"))
        _ = try tensor.doubles()
      default: _ = try IDX.read(input.file("a.idx")).doubles()
      }
    },
    FuzzTarget(name: "cifar") { input in
      let batch = try CIFAR(input.file("data_batch_1.bin"))
      for index in 0..<min(batch.count, 3) { _ = try batch.image(index) }
    },
    FuzzTarget(name: "pickle") { input in
      do { _ = try CIFAR.classNames(pickle: input.file("meta")) } catch is VitError {}
      let batch = try CIFAR(pickle: input.file("data_batch_1"))
      for index in 0..<min(batch.count, 3) { _ = try batch.image(index) }
    },
    FuzzTarget(name: "list") { input in
      let data = try Dataset.open(
        input.file("list.csv"), defaultSplit: .train, channels: 1, height: 1, width: 1, warn: { _ in })
      guard data.labels.map({ $0.count == data.count }) ?? true else {
        throw FuzzFinding("labels are missing")
      }
    },
    FuzzTarget(name: "images") { input in _ = try Image(decoding: input.bytes) },
    FuzzTarget(name: "json") { input in
      _ = try input.file("preprocessor_config.json")
      let card = try ModelCard(besideModel: input.file("m.onnx", []))
      guard let preprocess = card.preprocess else { return }
      let again = try Preprocess(text: preprocess.text)
      guard again == preprocess else {
        throw FuzzFinding("'\(preprocess.text)' reads as '\(again.text)'")
      }
    },
    FuzzTarget(name: "config") { input in
      _ = try input.file("config.json")
      _ = try ModelCard(besideModel: input.file("m.onnx", []))
    },
    FuzzTarget(name: "checkpoint") { input in
      // Behind the signature and a digest that names the compile, and before one that is right.
      let identity = Digest(of: [])
      var bytes = Array("VITCKPT4".utf8) + identity.bytes + input.bytes
      bytes += Digest(of: bytes).bytes
      let path = try input.file("m.checkpoint", bytes)
      let file = try CheckpointFile(path: path, identity: identity, resuming: true) { _ in }
      guard !file.isEmpty else { throw VitError("empty") }
      _ = try file.load("0.distil") { reader in try reader.part(reader.remaining) }
    },
    FuzzTarget(name: "pipeline") { input in
      let pipeline = try Pipeline(String(decoding: input.bytes, as: UTF8.self))
      let again = try Pipeline(pipeline.description)
      guard again.description == pipeline.description else {
        throw FuzzFinding("'\(pipeline)' reads as '\(again)'")
      }
    },
  ]

  /// Lets it read `bytes`; files that it needs are made in `folder`.
  ///
  /// Returns whether it accepted them. Throws what it found wrong: an error that is no `VitError`, or a form that does not
  /// read back as itself. A trap ends the process by itself.
  @discardableResult
  public func run(_ bytes: [UInt8], folder: String) throws -> Bool {
    do {
      try read(FuzzInput(bytes: bytes, folder: folder))
      return true
    } catch is VitError { return false }
  }

  /// A graph that was accepted prints as a text that is accepted and prints the same.
  private static func readsBack(_ hybrid: Hybrid) throws {
    try hybrid.checkInvariants()
    // Shapes are computed with integers, which must not be left out.
    var options = TextOptions()
    options.inlineIntegers = .max
    let text = try hybrid.text(options)
    let again: Hybrid
    do { again = try Hybrid(text: Array(text.utf8), registry: .standard) } catch {
      // Floats that are left out may decide a shape.
      guard error.diagnostic.code != "dynamic-shape" else { return }
      throw FuzzFinding("the printed text is refused: \(error)")
    }
    guard try again.text(options) == text else { throw FuzzFinding("the text changes when it is read") }
  }
}

/// What a target found wrong with itself.
public struct FuzzFinding: Error, CustomStringConvertible {
  /// What is wrong.
  public let description: String
  init(_ description: String) { self.description = description }
}

/// Bytes, and files made of them.
struct FuzzInput {
  let bytes: [UInt8]
  let folder: String

  /// The path of a file that holds the bytes, or others.
  func file(_ name: String, _ contents: [UInt8]? = nil) throws -> String {
    let path = folder + "/" + name
    try Data(contents ?? bytes).write(to: URL(fileURLWithPath: path))
    return path
  }
}
