import FoundationEssentials
import Testing
import VitIR
import VitPasses
import VitTestSupport
import Vitc

@Suite("Files that earlier versions of vitc wrote") struct CompatTests {
  static let files = ["v1/teacher.vmod", "v1/hybrid.vmod", "v1/hybrid.vit"]

  @Test("open, verify and compute what they did", arguments: files)
  func opens(file: String) throws {
    let path = Fixture.path("compat/\(file)")
    let model = try Model(contentsOf: path)
    #expect(model.diagnostics.isEmpty)
    #expect(try Verification.run(model).allSatisfy(\.holds))
    let output = try Session(model).run(Arrays.read(Fixture.path("compat/v1/image.npy")))
    let expected = try Arrays.read(path + ".npy")
    #expect(output.shape == expected.shape)
    for (found, wanted) in zip(try output.floats(), try expected.floats()) {
      #expect(abs(found - wanted) < 1e-4)
    }
  }

  @Test("are the same model when they are written as files of today", arguments: files)
  func rewritten(file: String) throws {
    let scratch = try Scratch()
    let model = try Model(contentsOf: Fixture.path("compat/\(file)"))
    for name in ["again.vmod", "again.vit"] {
      try model.write(to: scratch.file(name))
      #expect(try Difference.find(model, Model(contentsOf: scratch.file(name))).isEmpty, "\(name)")
    }
  }

  @Test("a hybrid of version 1 has what stood beside its graph") func contents() throws {
    let model = try Model(contentsOf: Fixture.path("compat/v1/hybrid.vmod"))
    #expect(model.lineage.contains { $0.key == "teacher" })
    #expect(model.preprocessing?.contains("mean=0.5,0.4,0.3") == true)
    #expect(try Verification.run(model).count == 1)
  }
}
