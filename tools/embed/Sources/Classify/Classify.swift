import Foundation
import VitIR
import Vitc

/// Runs the model that the build has made of `tiny.onnx`.
@main struct Classify {
  static func main() throws {
    guard let path = Bundle.module.path(forResource: "tiny", ofType: "vmod") else {
      throw VitError("the build has made no model")
    }
    let model = try Model(contentsOf: path)
    let shape = try model.inputShapes(batch: 1)[0]
    let input = Tensor(shape: shape, floats: Array(repeating: 0.5, count: shape.reduce(1, *)))
    print(model.hybrid.layers.map(\.kind), try Session(model).run([input]).map(\.shape))
  }
}
