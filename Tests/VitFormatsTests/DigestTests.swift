import Testing
import VitFormats
import VitIR
import VitTestSupport

@Suite struct DigestTests {
  @Test(
    "SHA-256 gives the digests of FIPS 180-4",
    arguments: [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
      (
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
      ),
    ])
  func vectors(text: String, digest: String) { #expect(Digest(of: Array(text.utf8)).description == digest) }

  @Test("a million letters in pieces of any length give the digest of the standard")
  func million() {
    let letters = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
    var hash = SHA256()
    var (done, piece) = (0, 1)
    while done < letters.count {
      let end = min(letters.count, done + piece)
      hash.update(Array(letters[done..<end]))
      (done, piece) = (end, piece * 7 % 9973)
    }
    #expect(hash.digest().description == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  @Test("files and tensors have the digests of their bytes")
  func sources() throws {
    let scratch = try Scratch()
    let bytes = (0..<3_000_001).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    #expect(try Digest(ofFile: scratch.write(bytes, to: "a")) == Digest(of: bytes))
    #expect(try Digest(of: Tensor(.u8, shape: [2], values: [1, 2])) == Digest(of: [1, 2]))
    #expect(throws: VitError.self) { try Digest(ofFile: scratch.file("none")) }
    #expect(Digest(bytes: [1]) == nil && Digest(bytes: Digest(of: bytes).bytes) == Digest(of: bytes))
  }

  /// The low halves are what the zstd tool writes behind such contents.
  @Test(
    "XXH64 agrees with zstd's content checksum at every kind of length",
    arguments: [
      (0, 0x51d8_e999), (1, 0xbc1f_4bb6), (3, 0x52e5_64c9), (4, 0x66ee_9fda), (7, 0x59ce_60d8),
      (8, 0xc6f9_0092),
      (12, 0x33af_5133), (31, 0xcc4a_6119), (32, 0xf790_fd97), (33, 0xba58_8784), (63, 0x31c7_493c),
      (64, 0xf6ee_b01f), (100, 0x170f_e531), (1000, 0x33f1_a3fb),
    ] as [(Int, UInt64)])
  func checksums(count: Int, low: UInt64) {
    #expect(checksum((0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + 3) }) & 0xffff_ffff == low)
  }

  @Test("XXH64 gives the published values")
  func published() {
    #expect(checksum([]) == 0xef46_db37_51d8_e999)
    #expect(checksum(Array("a".utf8)) == 0xd24e_c4f1_a98c_6e5b)
    #expect(checksum(Array("abc".utf8)) == 0x44bc_2cf5_ad77_0999)
  }
}
