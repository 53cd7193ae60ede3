import Foundation
import Testing

@Suite("Compiling from a teacher that drops tokens") struct RetainedTeacherTests {
  private let passes =
    "swap{mixer=glr,layers=[1]},distil{steps=1,batch=2,images=4},fine-tune{steps=1,batch=2,rate=0.001},trim"

  @Test("the report has what was lost by dropping, and what by the rest")
  func gaps() throws {
    let tiny = try TinyModel()
    let result = try tiny.run([
      "compile", "t.vmod", "--data", "data", "-o", "h.vmod", "--report", "r.json", "--threads", "1",
      "--passes",
      "retain{keep=0.5,layers=[0],teacher=true}," + passes,
    ])
    #expect(result.status == 0, "\(result.errors)")
    for line in [
      "the teacher that drops tokens, against the one with all: ",
      "the hybrid against the teacher that drops tokens: ",
    ] { #expect(result.output.contains(line)) }
    let report = try String(decoding: tiny.bytes("r.json"), as: UTF8.self)
    #expect(try Schema("report").problems(report) == [])
    let object = try #require(try JSONSerialization.jsonObject(with: Data(report.utf8)) as? [String: Any])
    let retained = try #require(object["retained"] as? [String: Any])
    #expect(retained.keys.sorted() == ["hybrid", "teacher"])
    #expect(try tiny.run(["verify", "h.vmod"]).status == 0)
  }

  @Test("a file in which patches were dropped is a teacher") func twoSteps() throws {
    let tiny = try TinyModel()
    let first = try tiny.run(["opt", "t.vmod", "--passes", "retain{keep=0.5,layers=[0]}", "-o", "t7.vmod"])
    #expect(first.status == 0, "\(first.errors)")
    let second = try tiny.run([
      "compile", "t7.vmod", "--data", "data", "-o", "h.vmod", "--report", "r.json", "--threads", "1",
      "--passes", passes,
    ])
    #expect(second.status == 0, "\(second.errors)")
    let object = try #require(try JSONSerialization.jsonObject(with: tiny.bytes("r.json")) as? [String: Any])
    #expect(object["retained"] is NSNull)
  }
}
