import Testing
import VitIR
import VitOps
import VitTestSupport

/// A family of operators, whose inputs and results lie in a file under `golden/operators`.
private struct OperatorFamily {
  let file: String
  /// The fewest fixtures that there are.
  let least: Int

  static let all = [
    OperatorFamily(file: "compute.json", least: 300), OperatorFamily(file: "attention.json", least: 100),
    OperatorFamily(file: "movement.json", least: 100), OperatorFamily(file: "quantised.json", least: 40),
    OperatorFamily(file: "spatial.json", least: 10),
  ]
}

@Suite("Operators of ONNX")
struct OperatorFixtureTests {
  static let fixtures = OperatorFamily.all.flatMap { OnnxFixture.load($0.file) }

  @Test("the fixtures are there")
  func fixturesLoad() {
    for family in OperatorFamily.all { #expect(OnnxFixture.load(family.file).count > family.least) }
  }

  @Test("results are the reference's", arguments: fixtures)
  func matchesReference(_ fixture: OnnxFixture) throws {
    let difference = try fixture.difference(try fixture.makeCase().run())
    #expect(difference <= fixture.tol)
  }

  @Test("gradients are central differences'", arguments: fixtures.filter(\.grad))
  func matchesDifferences(_ fixture: OnnxFixture) throws {
    #expect(try fixture.makeCase().gradientError() < 2e-6)
  }

  @Test("attributes read back what they print", arguments: fixtures)
  func attributesRoundTrip(_ fixture: OnnxFixture) throws {
    let operation = try fixture.makeCase().operation
    let again = try Registry.standard.make(type(of: operation).name, operation.attributes)
    #expect(again.attributes == operation.attributes)
  }
}
