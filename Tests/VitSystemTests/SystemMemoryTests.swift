import Testing
import VitSystem

@Suite("what the system allows") struct SystemMemoryTests {
  @Test("the quota of a control group is read as cores, its limit as bytes, and 'max' as none")
  func controlGroups() {
    #expect(ControlGroup.quota(ofVersion2: "150000 100000\n") == 1.5)
    #expect(ControlGroup.quota(ofVersion2: "max 100000\n") == nil)
    #expect(ControlGroup.quota(ofVersion2: "") == nil)
    #expect(ControlGroup.quota(ofVersion2: "100000 0") == nil)
    #expect(ControlGroup.bytes("4096\n") == 4096)
    #expect(ControlGroup.bytes("max\n") == nil)
    #expect(ControlGroup.ancestors(of: "/a/b") == ["/a/b", "/a", ""])
    #expect(ControlGroup.ancestors(of: "/") == [""])
  }

  @Test("pages are zeroed, counted while they are held, and refused where they do not fit") func pages()
    throws
  {
    let size = 3 << 20
    var pages: Pages? = try Pages(byteCount: size)
    #expect(pages?.buffer.count == size && pages?.buffer.allSatisfy { $0 == 0 } == true)
    #expect(SystemMemory.taken >= size)
    pages = nil
    #expect(try Pages(byteCount: 0).buffer.count == 1)
    #expect(throws: OutOfMemory.self) { try Pages(byteCount: 1 << 50) }
  }

  @Test("what does not fit is told in whole mebibytes, with what sets the limit") func text() {
    let failure = OutOfMemory(needed: (5 << 20) + 1, available: AvailableMemory(bytes: 3 << 20, limit: "all"))
    #expect(failure.text == "6 MiB, but 3 MiB are left of all")
  }
}
