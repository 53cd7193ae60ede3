internal import VitPasses

extension Golden {
  /// What a drift is of.
  public enum Drift: String, Sendable, CaseIterable {
    /// The file is another, with the same tensors.
    case bytes
    /// Tensors are others.
    case numbers
    /// Outputs or scores are others.
    case behaviour
    /// Operations, layers, inputs or outputs are others.
    case structure

    /// What the results of a comparison amount to.
    public static func kinds(in results: [CheckResult]) -> [Drift] {
      let moved = Set(results.filter { $0.verdict != .holds }.compactMap { Drift(checkOf: $0.name) })
      return allCases.filter(moved.contains)
    }

    private init?(checkOf name: String) {
      switch name {
      case "bytes": self = .bytes
      case "tensor", "value": self = .numbers
      case "output", "scores": self = .behaviour
      case "interface", "size", "layer", "operation": self = .structure
      default: return nil
      }
    }
  }

  /// Where the model as it is `now` is not what it was: a result for everything that differs, and one for each kind of thing
  /// that does not.
  public func drift(to now: Golden) -> [CheckResult] {
    let isElsewhere = ["isa", "blas"].contains {
      lineage[$0] != nil && now.lineage[$0] != nil && lineage[$0] != now.lineage[$0]
    }
    let numbersMayMove = allowance == .numbers || isElsewhere && allowance == .bytes
    let tensors = tensorResults(now, mayMove: numbersMayMove, isElsewhere: isElsewhere)
    let outputs = outputResults(now)
    var results = byteResults(now) + interfaceResults(now) + sizeResults(now) + layerResults(now)
    results += operationResults(now) + tensors
    if digest != now.digest || !outputs.hold { results += valueResults(now) }
    return results + outputs + scoreResults(now)
  }

  private static func result(
    _ name: String, at place: String? = nil, _ verdict: CheckResult.Verdict, _ expected: String,
    _ found: String, _ message: String = ""
  ) -> CheckResult {
    CheckResult(
      name: name, place: place, verdict: verdict, expected: expected, found: found, message: message)
  }

  /// The one result where nothing differs, or those that do, of many the first.
  private static func summary(_ name: String, _ differing: [CheckResult], same: String) -> [CheckResult] {
    if differing.isEmpty { return [result(name, .holds, same, same)] }
    let most = 12
    guard differing.count > most else { return differing }
    let rest = differing.dropFirst(most)
    let verdict = rest.contains { $0.verdict == .fails } ? CheckResult.Verdict.fails : .differs
    return differing.prefix(most) + [
      result(name, verdict, "as recorded", "\(rest.count) more that are not", "the first \(most) are listed")
    ]
  }

  private func byteResults(_ now: Golden) -> [CheckResult] {
    if digest == now.digest { return [Golden.result("bytes", .holds, "as recorded", "as recorded")] }
    let keys = Set(lineage.keys).union(now.lineage.keys).sorted().filter { lineage[$0] != now.lineage[$0] }
    let reasons = keys.map { key in
      let (new, old) = Golden.essence(now.lineage[key] ?? "missing", lineage[key] ?? "missing")
      return "\(key) is '\(new)' and was '\(old)'"
    }
    return [
      Golden.result(
        "bytes", allowance == .nothing ? .fails : .differs, "SHA-256 \(digest.prefix(16))…",
        "\(now.digest.prefix(16))…",
        reasons.isEmpty ? "where it comes from is the same" : reasons.joined(separator: "; "))
    ]
  }

  /// Two texts without what is the same at both ends, but for some characters.
  private static func essence(_ a: String, _ b: String) -> (String, String) {
    let (x, y) = (Array(a), Array(b))
    let margin = 16
    let head = max(0, zip(x, y).prefix { $0 == $1 }.count - margin)
    let most = min(x.count, y.count) - head
    let tail = max(0, zip(x.reversed(), y.reversed()).prefix(most).prefix { $0 == $1 }.count - margin)
    func part(_ text: [Character]) -> String {
      (head > 0 ? "…" : "") + String(text[head..<text.count - tail]) + (tail > 0 ? "…" : "")
    }
    return (part(x), part(y))
  }

  private func interfaceResults(_ now: Golden) -> [CheckResult] {
    let pairs = LongestMatch.pairs(interface, now.interface)
    let (kept, found) = (Set(pairs.map(\.0)), Set(pairs.map(\.1)))
    let gone = interface.indices.filter { !kept.contains($0) }.map { interface[$0] }
    let come = now.interface.indices.filter { !found.contains($0) }.map { now.interface[$0] }
    let count = max(gone.count, come.count)
    return Golden.summary(
      "interface",
      (0..<count).map { index in
        Golden.result(
          "interface", .fails, index < gone.count ? gone[index] : "nothing more",
          index < come.count ? come[index] : "nothing")
      }, same: "\(interface.count) lines as recorded")
  }

  private func sizeResults(_ now: Golden) -> [CheckResult] {
    func text(_ golden: Golden) -> String {
      "\(golden.parameters.grouped) parameters, \(golden.flops.grouped) operations"
    }
    let isSame = parameters == now.parameters && flops == now.flops
    return [Golden.result("size", isSame ? .holds : .fails, text(self), text(now))]
  }

  private func layerResults(_ now: Golden) -> [CheckResult] {
    func table(_ lines: [String]) -> [String: String] {
      Dictionary(
        lines.map { line in
          let words = line.split(separator: " ", maxSplits: 2)
          return (words.prefix(2).joined(separator: " "), words.dropFirst(2).joined())
        }, uniquingKeysWith: { $1 })
    }
    let (old, new) = (table(layers), table(now.layers))
    let order = layers + now.layers
    var seen: Set<String> = []
    let places = order.map { $0.split(separator: " ").prefix(2).joined(separator: " ") }.filter {
      seen.insert($0).inserted
    }
    return Golden.summary(
      "layer",
      places.filter { old[$0] != new[$0] }.map { place in
        Golden.result(
          "layer", at: place, .fails, old[place] ?? "no such layer", new[place] ?? "no such layer")
      }, same: "\(layers.count) layers as recorded")
  }

  /// The operations that answer each other, by their places: the same first, then those of the same name in between.
  private func pairs(_ now: Golden) -> [(Int, Int)] {
    let (old, new) = (operations, now.operations)
    let exact = LongestMatch.pairs(old.map(\.operation), new.map(\.operation))
    var result: [(Int, Int)] = []
    var (doneOld, doneNew) = (0, 0)
    for (x, y) in exact + [(old.count, new.count)] {
      let between = LongestMatch.pairs(old[doneOld..<x].map(\.name), new[doneNew..<y].map(\.name))
      result += between.map { (doneOld + $0, doneNew + $1) }
      if x < old.count { result.append((x, y)) }
      (doneOld, doneNew) = (x + 1, y + 1)
    }
    return result
  }

  private func operationResults(_ now: Golden) -> [CheckResult] {
    var differing: [CheckResult] = []
    var (doneOld, doneNew) = (0, 0)
    let pairs = pairs(now)
    let counterpart = Dictionary(uniqueKeysWithValues: pairs.map { ("#\($0.0)", "#\($0.1)") })
    for (x, y) in pairs + [(operations.count, now.operations.count)] {
      let (gone, come) = (operations[doneOld..<x], now.operations[doneNew..<y])
      if !gone.isEmpty || !come.isEmpty {
        func text(_ part: ArraySlice<Operation>) -> String {
          part.isEmpty ? "nothing" : part.map(\.name).joined(separator: ", ")
        }
        differing.append(
          Golden.result("operation", at: (gone.first ?? come.first)?.node, .fails, text(gone), text(come)))
      }
      if x < operations.count, operations[x].operation != now.operations[y].operation {
        differing.append(
          Golden.result(
            "operation", at: operations[x].node, .fails, operations[x].operation, now.operations[y].operation)
        )
      }
      if x < operations.count, !reads(x, as: y, now, counterpart) {
        differing.append(
          Golden.result(
            "operation", at: operations[x].node, .fails,
            "reads \(operations[x].reads.joined(separator: " "))",
            now.operations[y].reads.joined(separator: " "), "it reads other values"))
      }
      (doneOld, doneNew) = (x + 1, y + 1)
    }
    return Golden.summary("operation", differing, same: "\(operations.count) operations as recorded")
  }

  /// Whether an operation reads what the one that answers it does, as far as that has a counterpart; tensors may have other names.
  private func reads(_ x: Int, as y: Int, _ now: Golden, _ counterpart: [String: String]) -> Bool {
    let (old, new) = (operations[x].reads, now.operations[y].reads)
    guard old.count == new.count else { return false }
    return zip(old, new).allSatisfy { a, b in
      if a.hasPrefix("@"), b.hasPrefix("@"), a != b {
        let (s, t) = (tensors[String(a.dropFirst())], now.tensors[String(b.dropFirst())])
        return s?.digest == t?.digest && s?.type == t?.type
      }
      guard a.hasPrefix("#") else { return a == b }
      let (place, result) = Golden.cut(a)
      // What stands behind an operation that was added or taken away reads others.
      guard let other = counterpart[place] else { return true }
      return b == other + result || !counterpart.values.contains(Golden.cut(b).place)
    }
  }

  private static func cut(_ source: String) -> (place: String, result: String) {
    guard let dot = source.firstIndex(of: ".") else { return (source, "") }
    return (String(source[..<dot]), String(source[dot...]))
  }

  private func tensorResults(_ now: Golden, mayMove: Bool, isElsewhere: Bool) -> [CheckResult] {
    let come = now.tensors.filter { tensors[$0.key] == nil }.sorted { $0.key < $1.key }
    var differing: [CheckResult] = []
    var renamed: Set<String> = []
    for (name, old) in tensors.sorted(by: { $0.key < $1.key }) {
      guard let new = now.tensors[name] else {
        let other = come.first {
          $0.value.digest == old.digest && $0.value.type == old.type && !renamed.contains($0.key)
        }?.key
        if let other { renamed.insert(other) }
        differing.append(
          Golden.result(
            "tensor", at: name, other == nil ? .fails : .differs, old.type,
            other.map { "the same as '\($0)'" } ?? "no such tensor"))
        continue
      }
      if old.type != new.type {
        differing.append(Golden.result("tensor", at: name, .fails, old.type, new.type))
      } else if old.digest != new.digest {
        let part = new.contents.deviation(from: old.contents)
        differing.append(
          Golden.result(
            "tensor", at: name, mayMove ? .differs : .fails, "the recorded contents",
            part > 0
              ? "others, by about \(part.share) (root mean square)" : "others, the same but for rounding",
            [old.node.map { "read by '\($0)'" }, isElsewhere ? "it was compiled with other kernels" : nil]
              .compactMap { $0 }.joined(separator: "; ")))
      }
    }
    for (name, new) in come where !renamed.contains(name) {
      differing.append(Golden.result("tensor", at: name, .fails, "no such tensor", new.type))
    }
    return Golden.summary("tensor", differing, same: "\(tensors.count) tensors as recorded")
  }

  /// Where values on the way begin to differ, and how far those of layers do.
  private func valueResults(_ now: Golden) -> [CheckResult] {
    let moved = pairs(now).compactMap { x, y -> (operation: Operation, part: Double)? in
      guard let old = operations[x].value, let new = now.operations[y].value else { return nil }
      let part = new.deviation(from: old)
      return part > tolerance.outputs / 10 ? (operations[x], part) : nil
    }
    guard let first = moved.first else { return [] }
    let layers = moved.compactMap { entry in entry.operation.layer.map { "\($0) by \(entry.part.share)" } }
    return [
      Golden.result(
        "value", at: first.operation.node, .differs, "the recorded values",
        "others from here on, by about \(first.part.share): the result of '\(first.operation.name)'",
        layers.isEmpty ? "" : "layers that differ: \(layers.joined(separator: ", "))")
    ]
  }

  private func outputResults(_ now: Golden) -> [CheckResult] {
    let expected = "at most \(tolerance.outputs.short) of the largest away"
    let come = now.outputs.filter { new in !outputs.contains { $0.name == new.name } }.map { new in
      Golden.result("output", at: new.name, .fails, "no such output", "\(new.shape)")
    }
    return outputs.map { old in
      guard let new = now.outputs.first(where: { $0.name == old.name }) else {
        return Golden.result("output", at: old.name, .fails, "\(old.shape)", "no such output")
      }
      guard new.shape == old.shape else {
        return Golden.result("output", at: old.name, .fails, "\(old.shape)", "\(new.shape)")
      }
      let scale = max(old.largest, 1e-30)
      var worst = 0.0
      for (x, y) in zip(old.values, new.values) where x != y && !(x.isNaN && y.isNaN) {
        worst = max(worst, x.isFinite && y.isFinite ? (x - y).magnitude / scale : .infinity)
      }
      return Golden.result(
        "output", at: old.name, worst <= tolerance.outputs ? .holds : .fails, expected,
        worst.isFinite ? "\(worst.short) away" : "numbers where there are none, or none where there are")
    } + come
  }

  private func scoreResults(_ now: Golden) -> [CheckResult] {
    guard let old = scores else { return [] }
    guard let new = now.scores else {
      var result = Golden.result("scores", .fails, "figures on \(old.data)", "no data to measure on")
      result.help = "--data D names data that lie elsewhere"
      return [result]
    }
    guard old.digest == new.digest else {
      var result = Golden.result(
        "scores", .fails, "data \(old.digest.prefix(16))…", "\(new.digest.prefix(16))…",
        "the data are others, or prepared otherwise: figures on them are not comparable")
      result.help = "--data D names data that lie elsewhere; 'vitc golden bless' records new ones"
      return [result]
    }
    return old.figures.sorted { $0.key < $1.key }.compactMap { name, value in
      guard name != "teacher_accuracy" else { return nil }
      guard let figure = new.figures[name] else {
        var result = Golden.result("scores", at: name, .fails, value.short, "nothing", "it is not measured")
        result.help = "--teacher T names a teacher that lies elsewhere"
        return result
      }
      // Shares may fall, divergences rise.
      let isShare = name == "accuracy" || name == "agreement"
      let least = value - tolerance.points / 100
      let most = value * (1 + tolerance.divergence) + 1e-6
      let holds = isShare ? figure >= least : figure <= most
      return Golden.result(
        "scores", at: name, holds ? .holds : .fails,
        isShare ? "at least \(least.percent)" : "at most \(most.short)",
        "\(isShare ? figure.percent : figure.short), on \(new.images.grouped) images")
    }
  }
}

extension Golden.Operation {
  /// The operation without its attributes.
  var name: String { operation.split(separator: " ").first.map(String.init) ?? operation }
}

extension Double {
  /// A part of something, as `3.1 %`, or as `4.5e-7` where that is next to nothing.
  fileprivate var share: String {
    guard isFinite else { return "what is no number" }
    return self >= 1e-4 ? percent : short
  }
}
