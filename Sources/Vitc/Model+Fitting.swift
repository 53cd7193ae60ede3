internal import VitData
internal import VitIR

extension Model {
  /// The model read anew for inputs of these shapes, where the file leaves sizes open of which some do not work, and another
  /// was taken; `nil` where there is nothing to change, or these do not work either.
  public func refitted(to shapes: [[Int]], threads: Int? = nil) -> Model? {
    guard format == .onnx, let path, inputShapes.isEmpty, shapes.count == graph.inputs.count,
      diagnostics.contains(where: { $0.code == "fixed-extent" })
    else { return nil }
    let differs = zip(graph.inputs, shapes).contains { id, shape in
      let type = graph.type(id)
      return type.rank == shape.count
        && zip(type.shape, shape).dropFirst().contains { ($0.fixedValue ?? $1) != $1 }
    }
    guard differs else { return nil }
    let texts = zip(graph.inputs, shapes).map { id, shape in
      "\(graph[id].name)=" + (["?"] + shape.dropFirst().map(String.init)).joined(separator: ",")
    }
    return try? Model(contentsOf: path, inputShapes: texts, threads: threads)
  }

  /// The same for the pictures that `settings`, tensors in `data`, a file beside the model or pictures that are all alike in
  /// `data` give it, in that order.
  public func refitted(
    toData data: String?, settings: [(key: String, value: String)] = [], threads: Int? = nil
  ) -> Model? {
    guard let path, graph.inputs.count == 1, let id = graph.inputs.first, graph.type(id).rank == 4,
      diagnostics.contains(where: { $0.code == "fixed-extent" })
    else { return nil }
    let extents = graph.type(id).shape.dropFirst().map(\.fixedValue)
    let isLast = ImageInput.isChannelsLast(extents)
    func shape(_ height: Int, _ width: Int) -> [Int] {
      let channels = extents[isLast ? 2 : 0] ?? 3
      return [1] + (isLast ? [height, width, channels] : [channels, height, width])
    }
    let source = data.flatMap { name in
      try? Dataset.open(
        name, for: .pictures(channels: 1, height: 1, width: 1), defaultSplit: .train, warn: { _ in })
    }
    let found = source?.extents
    let said = settings.filter { $0.key == "size" }
    var wanted: [Int]?
    if !said.isEmpty {
      wanted = (try? Preprocess(settings: said)).map { shape($0.height, $0.width) }
    } else if let tensor = found?.tensor {
      wanted = [1] + tensor
    } else if let own = (try? ModelCard(besideModel: path))?.preprocess {
      wanted = shape(own.height, own.width)
    } else if let picture = found?.picture {
      wanted = shape(picture[1], picture[2])
    }
    return wanted.flatMap { refitted(to: [$0], threads: threads) }
  }
}
