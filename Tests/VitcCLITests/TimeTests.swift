import Foundation
import Testing
import VitTestSupport

@Suite("Time that a compile may take") struct TimeTests {
  private let compile = [
    "compile", "t.vmod", "--data", "synthetic:24", "--replace", "layers=0", "--batch", "4", "--threads", "1",
    "-o",
    "h.vmod",
  ]

  @Test("a deadline stops training at the best so far, and the report says where") func deadline() throws {
    let tiny = try TinyModel(images: 1)
    let result = try tiny.run(
      compile + [
        "--distil-steps", "10000000", "--fine-tune-steps", "10000000", "--fine-tune-rate", "0.0001",
        "--deadline", "4s", "--report", "r.json",
      ])
    #expect(result.status == 0, "\(result.errors)")
    let text = String(decoding: try tiny.bytes("r.json"), as: UTF8.self)
    #expect(try Schema("report").problems(text) == [])
    let report = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let stops = try #require(report["stops"] as? [[String: Any]])
    #expect(stops.compactMap { $0["pass"] as? String } == ["distil", "fine-tune"])
    #expect(stops.allSatisfy { ($0["step"] as? Int ?? -1) >= 0 && $0["steps"] as? Int == 10_000_000 })
    #expect(result.output.contains("distil: stopped by the deadline after"))
    #expect(try tiny.run(["verify", "h.vmod"]).status == 0)
  }

  @Test(
    "a deadline goes neither with reproducible results nor with controls",
    arguments: ["--reproducible", "--controls"])
  func conflicts(option: String) throws {
    let tiny = try TinyModel(images: 1)
    let result = try tiny.run(compile + ["--deadline", "4s", option])
    #expect(result.status == 2 && result.errors.contains("a deadline"), "\(result.errors)")
  }

  @Test("where time pays for few steps what is solved for is on trial, unless steps are given") func few()
    throws
  {
    let tiny = try TinyModel(images: 1)
    let short = try tiny.run(compile + ["--time-budget", "2s"])
    #expect(short.status == 0, "\(short.errors)")
    #expect(short.output.contains("swap{mixer=conv{") && short.output.contains("beside=none"))
    let steps = try tiny.run(
      compile + ["--time-budget", "2s", "--distil-steps", "2", "--fine-tune-steps", "0"])
    #expect(
      steps.output.contains("swap{mixer=glr,") && steps.output.contains("beside=conv"), "\(steps.output)")
  }

  @Test("what is planned is said, and so many images are measured on as are asked for") func planned() throws
  {
    let tiny = try TinyModel(images: 1)
    let result = try tiny.run(
      compile + [
        "--distil-steps", "1", "--fine-tune-steps", "0", "--eval-data", "synthetic:50", "--eval-images", "7",
      ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("expected to take "))
    #expect(result.output.contains("measured on 7 images"), "\(result.output)")
  }
}
