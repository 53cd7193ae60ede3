public import VitIR

/// Makes a model of images of any size one for images of a certain size: every symbol of its input but the batch gets a
/// number.
public struct FixSize: Pass {
  /// `fix-size`.
  public static let name = "fix-size"
  /// See `Pass`.
  public static let summary = "Fixes the size of the images of a model that takes any"
  /// See `Pass`.
  public static let example = "fix-size{sample=[3,224,224]}"

  /// The extents of a sample; `nil` for those that the data have.
  public var sample: [Int]?

  /// The pass.
  public init(sample: [Int]? = nil) { self.sample = sample }

  /// Takes `sample`: the extents of one sample, as in `[3,224,224]`; by default those that the data have.
  public init(options: inout OptionReader) throws(VitError) { sample = try options.integers("sample") }

  /// Throws where an extent is not positive.
  public func check() throws(VitError) {
    guard sample?.allSatisfy({ $0 > 0 && $0 <= 1 << 20 }) ?? true else {
      throw VitError(
        "fix-size: expected extents of at least 1", kind: .usage, code: "option-value")
    }
  }

  /// All options.
  public var options: [(name: String, value: String)] {
    sample.map { [("sample", "[\($0.map(String.init).joined(separator: ","))]")] } ?? []
  }

  /// Gives the symbols numbers, folds what follows from them, and looks for the layers of the result; where not all can be
  /// replaced, once more behind `raise`, which knows the number of tokens now.
  public func run(on hybrid: inout Hybrid, context: PassContext) throws -> PassResult {
    let shape = try sample ?? context.samples(for: FixSize.name).shape
    guard let fixed = try ModelShapes(hybrid.graph).fixed(to: shape, context: context) else {
      return PassResult()
    }
    hybrid.graph = fixed
    hybrid.findLayers()
    if hybrid.layers.isEmpty || !hybrid.layers.allSatisfy(\.isReplaceable) {
      _ = try Raise().run(on: &hybrid, context: context)
      _ = try DeadCode().run(on: &hybrid, context: context)
    }
    return PassResult(changes: 1, notes: ["for images of the shape \(shape)"])
  }
}
