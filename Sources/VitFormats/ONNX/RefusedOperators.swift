internal import VitIR

/// The operators of a model that vitc cannot run, told all at once: why, how many nodes, and the first of them.
struct RefusedOperators {
  /// Why an operator is refused.
  private enum Reason: CaseIterable {
    case shape, loop, random, laidOut, domain, unknown

    init(_ node: FlatNode) {
      if let known = node.known {
        self = known.shapeDependsOnData ? .shape : known.isLoop ? .loop : known.isRandom ? .random : .unknown
      } else if node.source.domain == OnnxOperator.laidOutDomain {
        self = .laidOut
      } else {
        self = ["", "com.microsoft"].contains(node.source.domain) ? .unknown : .domain
      }
    }

    /// What stands before the operators' names.
    var text: String {
      switch self {
      case .shape: "results whose shapes depend on data: "
      case .loop: "control flow: "
      case .random: "random numbers: "
      case .domain: "an unknown domain: "
      case .laidOut, .unknown: ""
      }
    }

    /// What helps, if anything.
    var help: String? {
      switch self {
      case .shape: "end the model before what picks boxes or elements, and do that outside"
      case .loop: "control flow (Loop, Scan) is not supported; export the model with its loops unrolled"
      case .random: "export the model for inference, without dropout or noise"
      case .laidOut:
        "ONNX Runtime has laid this model out for one machine; take the file that it was made from"
      case .domain: "export the model without operators of its own, or with functions in their place"
      case .unknown: nil
      }
    }
  }

  private var found: [(reason: Reason, nodes: [FlatNode])] = []

  /// The operators of `nodes`, each in the order of its first node.
  init(_ nodes: [FlatNode]) {
    var index: [String: Int] = [:]
    for node in nodes {
      if let known = index[node.operation] {
        found[known].nodes.append(node)
      } else {
        index[node.operation] = found.count
        found.append((Reason(node), [node]))
      }
    }
  }

  /// The error, or `nil` where nothing is refused.
  func error(file: String) -> VitError? {
    guard let first = found.first else { return nil }
    var parts: [String] = []
    for reason in Reason.allCases {
      let list = found.filter { $0.reason == reason }.map { entry in
        let source = entry.nodes[0].source
        let name = source.domain.isEmpty ? source.type : source.domain + "::" + source.type
        let names = entry.nodes.prefix(3).map { "'\($0.label)'" }.joined(separator: ", ")
        return "\(name) (\(entry.nodes.count)×: \(names)\(entry.nodes.count > 3 ? ", …" : ""))"
      }
      if !list.isEmpty { parts.append(reason.text + list.joined(separator: ", ")) }
    }
    let isSingle = found.count == 1
    let reason = Reason.allCases.first { reason in
      reason.help != nil && found.contains { $0.reason == reason }
    }
    return VitError(
      "\(isSingle ? "an operator is" : "\(found.count) operators are") not supported: "
        + parts.joined(separator: "; "), code: "unsupported-operator",
      location: Location(file: file, node: isSingle && first.nodes.count == 1 ? first.nodes[0].label : nil),
      help: reason?.help)
  }
}
