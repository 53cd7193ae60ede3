internal import Glibc
internal import VitPasses

extension StudyResult {
  /// What tells this result from an earlier one of the same study, a line each; nothing where both say the same.
  ///
  /// With the same instruction set and the same kernels of OpenBLAS all numbers are the same. With others, sums are rounded otherwise, and
  /// training goes its own way from there: numbers of what was only solved may differ by a twentieth, those of what was trained by a third,
  /// beside a small amount; shares of images by 2 in 100.
  public func differences(from earlier: StudyResult) -> [String] {
    guard identity == earlier.identity else {
      return ["another \(identity.plan == earlier.identity.plan ? "teacher, or other data" : "protocol")"]
    }
    var lines: [String] = []
    if isa == earlier.isa, blas == earlier.blas {
      for (own, other) in zip(records, earlier.records) where own != other {
        lines.append("\(StudyResult.name(of: own)): other numbers with the same kernels")
      }
    } else {
      for (own, other) in zip(records, earlier.records) {
        lines += StudyResult.differences(own, other).map { "\(StudyResult.name(of: own)): \($0)" }
      }
    }
    if records.count != earlier.records.count {
      lines.append("\(records.count) records in the place of \(earlier.records.count)")
    }
    if analysis.verdict != earlier.analysis.verdict {
      lines.append(
        "verdict \(analysis.verdict.rawValue) in the place of \(earlier.analysis.verdict.rawValue)")
    }
    return lines
  }

  private static func name(of record: StudyRecord) -> String {
    let words = ["arm", "mixer", "group"].compactMap { record.text($0) }
    let layer = record.integer("layer").map { ["layer \($0)"] } ?? []
    return ([record.kind] + words + layer).joined(separator: " ")
  }

  /// What is further away than other kernels explain.
  private static func differences(_ own: StudyRecord, _ other: StudyRecord) -> [String] {
    let isTrained =
      ["replacement", "pair", "retention", "teacher"].contains(own.kind)
      || own.number("steps").map { $0 > 0 } ?? false
      || own.text("arm").map { $0 != "original" } ?? false
    let (part, amount) = isTrained ? (1.0 / 3, 0.01) : (0.05, 0.001)
    return own.fields.compactMap { field in
      guard let before = other[field.name] else { return "'\(field.name)' is new" }
      guard case .number(let new) = field.value, case .number(let old) = before else {
        // Which layers are the sparsest may be a matter of rounding.
        return field.value == before || field.name == "layers" && isTrained
          ? nil : "'\(field.name)' is another"
      }
      guard let new, let old else { return new == old ? nil : "'\(field.name)' is another" }
      let bound =
        switch field.name {
        case "accuracy", "teacher_accuracy", "agreement", "masked_teacher_accuracy",
          "masked_teacher_agreement":
          0.02
        case "points", "points_error", "gap_masked", "gap_unmasked": 2.0
        default: max(part * abs(old), amount)
        }
      return abs(new - old) <= bound
        ? nil : "'\(field.name)' is \(new.short) in the place of \(old.short)"
    }
  }
}
