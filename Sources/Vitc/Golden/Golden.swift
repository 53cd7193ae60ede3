internal import VitFormats
internal import VitIR

/// What a team holds a model to: what it is made of, what it computes, how well it does and what it may cost, as a text that
/// people review (`schemas/golden.schema.json`).
///
/// Tensors and values on the way are there as digests and sketches, from which a comparison tells what moved and about how
/// far; outputs as numbers.
public struct Golden: Sendable {
  /// How far a model may move away.
  public enum Allowance: String, Sendable, CaseIterable {
    /// Not a byte.
    case nothing
    /// The file may be another as long as all tensors are the same; also where it was compiled with other kernels, whose rounding
    /// differs, as long as outputs and scores hold.
    case bytes
    /// Tensors may be others as long as outputs and scores hold.
    case numbers
  }

  /// How far numbers may be off.
  public struct Tolerance: Sendable, Hashable {
    /// Outputs, relative to the largest magnitude of each.
    public var outputs = 1e-3
    /// Points of accuracy and agreement.
    public var points = 0.5
    /// How much a divergence from the teacher may rise, as a part of itself.
    public var divergence = 0.1

    /// The usual ones.
    public init() {}
  }

  /// A node: what it does, and a sketch of its first result.
  struct Operation: Sendable, Hashable {
    /// The operation with its attributes.
    var operation: String
    /// The node's name.
    var node: String
    /// What it reads, apart by blanks: `#5` the operation at that place, `=x` an input, `@w` a tensor, `_` nothing.
    var reads: [String]
    /// The number of the layer whose heart it is.
    var layer: Int?
    /// A sketch of what it computes from the probe; `nil` where that is done along with another node's work.
    var value: Sketch?
  }

  /// A tensor without its contents.
  struct Tensor: Sendable, Hashable {
    /// Its type, as `f16[192, 64]`.
    var type: String
    /// The node that reads it, of several the first; `nil` where none does.
    var node: String?
    /// The SHA-256 of its bytes.
    var digest: String
    /// A sketch of its contents.
    var contents: Sketch
  }

  /// An output for the probe's inputs.
  struct Output: Sendable, Hashable {
    /// Its name.
    var name: String
    /// Its extents.
    var shape: [Int]
    /// The elements; of more than `most` the sums over as many runs of them, with signs by their places.
    var values: [Double]
    /// The largest magnitude of a finite element.
    var largest: Double

    /// The most numbers.
    static let most = 256

    /// How many elements a number stands for where there are `count`.
    static func run(of count: Int) -> Int { max(1, (count + most - 1) / most) }
  }

  /// How well the model did, and on what.
  public struct Scores: Sendable, Hashable {
    /// The data as they were named: a path from the golden's folder, or `synthetic:N`.
    public internal(set) var data: String
    /// The digest of the data and of how they are prepared.
    var digest: String
    /// The teacher's path from the golden's folder, where there was one.
    public internal(set) var teacher: String?
    /// How many images.
    var images: Int
    /// The figures that there are, by name: fractions of one, and the divergence.
    public internal(set) var figures: [String: Double]
  }

  /// The model's path from the golden's folder.
  public var model: String
  /// The bytes of its files.
  var bytes = 0
  /// Their digest.
  var digest = ""
  /// Where it comes from.
  var lineage: [String: String] = [:]
  /// Inputs, outputs, preparation of images and classes, a line each.
  var interface: [String] = []
  /// Weights.
  var parameters = 0
  /// Floating-point operations for a sample.
  var flops = 0
  /// The layers that mix tokens, a line each.
  var layers: [String] = []
  /// The nodes in the order of the data.
  var operations: [Operation] = []
  /// The tensors by name.
  var tensors: [String: Tensor] = [:]
  /// The outputs for the probe: random inputs, the same on every machine.
  var outputs: [Output] = []
  /// How well it did, where that was measured.
  public internal(set) var scores: Scores?
  /// What it may cost and must reach.
  public var budgets = Budgets()
  /// How far numbers may be off.
  public var tolerance = Tolerance()
  /// What may change.
  public var allowance = Allowance.bytes

  /// What it holds, in a few words.
  public var summary: String {
    let scored =
      scores.map { ", scores on \($0.images.grouped) images of \($0.data.escapedForDisplay)" } ?? ""
    let limited = budgets.isEmpty ? "" : ", limits \(budgets.limits.keys.sorted().joined(separator: ", "))"
    func count(_ number: Int, _ what: String) -> String {
      "\(number.grouped) \(what)\(number == 1 ? "" : "s")"
    }
    return [
      count(layers.count, "layer"), count(operations.count, "operation"), count(tensors.count, "tensor"),
      count(outputs.count, "output"),
    ].joined(separator: ", ") + scored + limited
  }
}
