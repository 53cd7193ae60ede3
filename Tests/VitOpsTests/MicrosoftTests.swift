import Testing
import VitIR
import VitOps
import VitTestSupport

@Suite("Einsum, attention and fused operators")
struct MicrosoftTests {
  static let fixtures = OnnxFixture.load("attention.json")

  @Test("the fixtures are there")
  func fixturesLoad() { #expect(Self.fixtures.count > 100) }

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
