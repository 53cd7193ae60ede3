import Testing
import VitIR
import VitOps
import VitTestSupport

@Suite("Quantised operators")
struct QuantisedTests {
  static let fixtures = OnnxFixture.load("quantised.json")

  @Test("the fixtures are there")
  func fixturesLoad() { #expect(Self.fixtures.count > 40) }

  @Test("results are ONNX Runtime's", arguments: fixtures)
  func matchesReference(_ fixture: OnnxFixture) throws {
    let difference = try fixture.difference(try fixture.makeCase().run())
    #expect(difference <= fixture.tol)
  }

  @Test("gradients are central differences'", arguments: fixtures.filter(\.grad))
  func matchesDifferences(_ fixture: OnnxFixture) throws {
    #expect(try fixture.makeCase().gradientError() < 1e-6)
  }

  @Test("attributes read back what they print", arguments: fixtures)
  func attributesRoundTrip(_ fixture: OnnxFixture) throws {
    let operation = try fixture.makeCase().operation
    let again = try Registry.standard.make(type(of: operation).name, operation.attributes)
    #expect(again.attributes == operation.attributes)
  }
}
