internal import VitFormats
internal import VitIR
internal import VitPasses

/// What samples give to a model's inputs after the first: made up with synthetic samples, else the arrays of an archive that
/// are called as the inputs.
struct FurtherInputs: Sendable {
  /// The shape of one sample's part for each input.
  let shapes: [[Int]]
  /// For each input the numbers of all samples; none where they are made up.
  private var numbers: [[Float]] = []
  /// Which of them take whole numbers: made up, these are 0.
  private let areWhole: [Bool]
  private let random: SplitMix

  /// For `count` samples that are in `files`; without files they are made up, as the seed decides. Throws where an input does
  /// not count samples or has open extents, and where the files say nothing of one.
  init(_ model: Model, data files: [String]?, count: Int, seed: UInt64) throws {
    let graph = model.graph
    let inputs = Array(graph.inputs.dropFirst())
    random = SplitMix(seed: seed).split("further-inputs")
    areWhole = inputs.map { !graph.type($0).element.isFloat }
    let first = graph.inputs.first.map { graph.type($0).shape.first } ?? nil
    shapes = try inputs.map { id throws(VitError) in
      let type = graph.type(id)
      let extents = type.shape.dropFirst().map(\.fixedValue)
      guard let counted = type.shape.first, counted == first || !counted.isFixed, !extents.contains(nil)
      else {
        throw VitError(
          "input '\(graph[id].name)' is \(type), expected one part of a known shape for each sample",
          code: "several-inputs",
          help: "say what is open with --input-shape '\(graph[id].name)=batch,…'")
      }
      return extents.compactMap { $0 }
    }
    guard let files, !inputs.isEmpty else { return }
    let names = inputs.map { graph[$0].name }
    guard files.count == 1, let path = files.first, let archive = try? NPZ(path),
      names.allSatisfy(archive.names.contains)
    else {
      let wanted = names.map { "'\($0)'" }.joined(separator: ", ")
      throw VitError(
        "the model has \(graph.inputs.count) inputs, and the data say nothing of \(wanted)",
        code: "several-inputs",
        location: Location(file: files.first),
        help: "give an .npz that has, beside the images, an array for each further input, called as it is")
    }
    numbers = try zip(names, shapes).map { name, shape in
      let tensor = try archive.tensor(name)
      guard tensor.shape == [count] + shape else {
        throw VitError(
          "the array '\(name)' has the shape \(tensor.shape), expected \([count] + shape)",
          code: "sample-shape",
          location: Location(file: path))
      }
      return try tensor.floats()
    }
  }

  /// Writes what sample `index` gives to an input.
  func read(_ index: Int, input: Int, into target: UnsafeMutableBufferPointer<Float>) throws {
    guard numbers.isEmpty else {
      let start = index * target.count
      for place in target.indices { target[place] = numbers[input][start + place] }
      return
    }
    var random = random.split(input).split(index)
    for place in target.indices { target[place] = areWhole[input] ? 0 : Float(random.normal()) }
  }
}
