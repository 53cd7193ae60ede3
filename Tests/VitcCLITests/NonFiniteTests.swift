import Foundation
import Testing
import VitTestSupport

@Suite("What is no number") struct NonFiniteTests {
  /// A `.npy` of `count` images [3, 8, 8], of random numbers; those at `places` hold `value` at one pixel.
  private func images(_ count: Int, _ value: Float, at places: Set<Int>) -> [UInt8] {
    var header = Array("{'descr': '<f4', 'fortran_order': False, 'shape': (\(count), 3, 8, 8), }".utf8)
    while (10 + header.count + 1) % 64 != 0 { header.append(0x20) }
    header.append(0x0a)
    var bytes: [UInt8] =
      [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.count % 256), UInt8(header.count / 256)]
    bytes += header
    for image in 0..<count {
      for pixel in 0..<192 {
        let usual = Float((image * 37 + pixel * 11) % 100) / 100
        withUnsafeBytes(of: pixel == 7 && places.contains(image) ? value : usual) { bytes += $0 }
      }
    }
    return bytes
  }

  private let compile = [
    "compile", "t.vmod", "--data", "x.npy", "--replace", "layers=0", "--distil-steps", "2",
    "--fine-tune-steps", "2",
    "--fine-tune-rate", "0.001", "--batch", "4", "--threads", "1", "-o", "h.vmod", "--report", "r.json",
  ]

  private func data(_ tiny: TinyModel) throws -> [String: Any] {
    let report = try #require(try JSONSerialization.jsonObject(with: tiny.bytes("r.json")) as? [String: Any])
    #expect(try Schema("report").problems(String(decoding: tiny.bytes("r.json"), as: UTF8.self)) == [])
    return try #require(report["data"] as? [String: Any])
  }

  @Test(
    "samples for which the teacher gives no numbers are named, left out and counted",
    arguments: [Float.nan, .infinity])
  func leftOut(value: Float) throws {
    let tiny = try TinyModel(images: 1)
    try tiny.scratch.write(images(40, value, at: [3, 17, 31]), to: "x.npy")
    let result = try tiny.run(compile)
    #expect(result.status == 0, "\(result.errors)")
    let named = result.errors.split(separator: "\n").filter { $0.contains("which are left out") }
    for place in [3, 17, 31] {
      #expect(named.contains { $0.contains("x.npy, sample \(place)'") }, "\(place) in \(result.errors)")
    }
    #expect(!result.errors.contains("nan"))
    let data = try data(tiny)
    #expect(data["non_finite"] as? Int == 3)
    let parts = ["training", "held_out", "evaluation"].map { data[$0] as? Int ?? 0 }
    #expect(parts.reduce(0, +) == 37 && parts.allSatisfy { $0 > 0 })
    #expect(result.output.contains("left out: 3 samples"))
    #expect(try tiny.run(["verify", "h.vmod"]).status == 0)
  }

  @Test("so are those that are only measured on") func evaluation() throws {
    let tiny = try TinyModel(images: 1)
    try tiny.scratch.write(images(24, 0, at: []), to: "x.npy")
    try tiny.scratch.write(images(24, .nan, at: [9]), to: "e.npy")
    let result = try tiny.run(compile + ["--eval-data", "e.npy"])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors.contains("'e.npy, sample 9'"))
    let data = try data(tiny)
    #expect(data["non_finite"] as? Int == 1 && data["evaluation"] as? Int == 23)
  }

  @Test("more than a tenth of them is an error before anything is trained") func tooMany() throws {
    let tiny = try TinyModel(images: 1)
    try tiny.scratch.write(images(24, .nan, at: Set(4..<12)), to: "x.npy")
    let result = try tiny.run(compile)
    #expect(result.status == 3, "\(result.errors)")
    #expect(result.errors.contains("the teacher gives no numbers for"))
    #expect(!result.errors.contains("distil"))
    #expect(try !tiny.scratch.names.contains("h.vmod"))
  }

  @Test("eval counts them and fails") func eval() throws {
    let tiny = try TinyModel(images: 1)
    try tiny.scratch.write(images(10, .nan, at: [2, 5]), to: "x.npy")
    try tiny.scratch.write(images(10, 0, at: []), to: "y.npy")
    let good = try tiny.run(["eval", "t.vmod", "--data", "y.npy"])
    #expect(good.status == 0, "\(good.errors)")
    for more in [[], ["--against", "t.vmod"]] {
      let result = try tiny.run(["eval", "t.vmod", "--data", "x.npy"] + more)
      #expect(result.status == 1, "\(result.errors)")
      #expect(result.output.contains("not finite        2 of 10 images"), "\(result.output)")
      let json = try tiny.run(["eval", "t.vmod", "--data", "x.npy", "--json"] + more)
      #expect(json.status == 1)
      #expect(try json.json["non_finite"] as? Int == 2)
      #expect(try Schema("eval").problems(json.output) == [])
    }
  }

  @Test("a weight that is no number is warned of once, and cannot be compiled") func weights() throws {
    let scratch = try Scratch()
    let text = """
      graph "g" (%x: f32[batch, 3, 2, 2]) -> (y = %y) {
        tensor @w : f32[2] = [1.0, nan]
        tensor @mask : f32[2] = [0.0, -inf]
        %m = onnx.Add(%x, @mask) : f32[batch, 3, 2, 2]
        %y = onnx.Mul(%m, @w) : f32[batch, 3, 2, 2]
      }
      """
    try scratch.write(Array(text.utf8), to: "m.vit")
    let result = try Tool.run("inspect", "m.vit", in: scratch.path)
    #expect(result.status == 0)
    #expect(result.errors.split(separator: "\n") == ["warning: m.vit: tensor 'w' holds NaN"])
    let refused = try Tool.run("compile", "m.vit", "-o", "h.vmod", in: scratch.path)
    #expect(refused.status == 3)
    #expect(
      refused.errors.contains("tensor 'w' holds NaN\nhelp: a model with such weights cannot be distilled"))
  }
}
