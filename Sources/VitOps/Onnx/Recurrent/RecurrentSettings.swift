internal import VitIR

/// The attributes that all recurrent operators have.
struct RecurrentSettings: Sendable {
  enum Direction: String, CaseIterable, Sendable { case forward, reverse, bidirectional }

  let direction: Direction
  let hiddenSize: Int?
  /// Whether `X` is `[batch, steps, input]`, else `[steps, batch, input]`.
  let isBatchFirst: Bool
  let clip: Double?
  /// For each direction its functions, as many as the operator has.
  let activations: [RecurrentActivation]

  /// Takes the attributes; `standard` are the functions of one direction where none are named.
  init(attributes: inout AttributeReader, standard: [String]) throws(VitError) {
    direction = try attributes.choice("direction", default: .forward)
    hiddenSize = try attributes.optionalInt("hidden_size")
    isBatchFirst = try attributes.bool("layout", default: false)
    clip = try attributes.optionalFloat("clip")
    attributes.ignore("output_sequence")
    let count = direction == .bidirectional ? 2 : 1
    let all = [[String]](repeating: standard, count: count).flatMap { $0 }
    let names = try attributes.optionalStrings("activations") ?? all
    guard names.count == all.count else {
      throw VitError(
        "attribute 'activations' has \(names.count) entries, expected \(all.count)", code: "attribute-value")
    }
    var alphas = try attributes.optionalFloats("activation_alpha").map { $0[...] } ?? []
    var betas = try attributes.optionalFloats("activation_beta").map { $0[...] } ?? []
    var functions: [RecurrentActivation] = []
    for name in names { functions.append(try RecurrentActivation(name, &alphas, &betas)) }
    activations = functions
    guard clip ?? 1 >= 0, hiddenSize ?? 1 > 0 else {
      throw VitError("attributes 'clip' and 'hidden_size' must not be negative", code: "attribute-value")
    }
  }

  var attributes: Attributes {
    let functions = activations.map(\.canonical)
    var result = Attributes([
      ("direction", .string(direction.rawValue)), ("layout", .int(isBatchFirst ? 1 : 0)),
      ("activations", .strings(functions.map(\.name))),
    ])
    let (alphas, betas) = (functions.compactMap(\.alpha), functions.compactMap(\.beta))
    if !alphas.isEmpty { result["activation_alpha"] = .floats(alphas) }
    if !betas.isEmpty { result["activation_beta"] = .floats(betas) }
    result["clip"] = clip.map(Attribute.float)
    result["hidden_size"] = hiddenSize.map(Attribute.int)
    return result
  }

  var directions: Int { direction == .bidirectional ? 2 : 1 }

  /// The number as the functions take it.
  func limited(_ x: Double) -> Double { clip.map { min(max(x, -$0), $0) } ?? x }
}
