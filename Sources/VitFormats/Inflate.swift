internal import CVitFormats
internal import VitIR

/// What vitc says where it was built without a library that an input needs.
func missingLibrary(_ what: String, package: String) -> VitError {
  VitError(
    "vitc was built without \(what) support", code: "built-without",
    help: "install the Debian package '\(package)' and build vitc again")
}

/// The most that deflate can shrink: bytes that come out of one that goes in.
let maximumDeflateRatio = 1032

#if VITC_ZLIB
  /// Unpacks a deflate stream piece by piece, so that nothing is allocated on the word of a header.
  ///
  /// It borrows the packed bytes and must not outlive them.
  struct Inflater: ~Copyable {
    /// How the stream is wrapped.
    enum Wrapping: Int32 {
      /// Bare, as in a zip archive.
      case none = -15
      /// In members of gzip, one or more.
      case gzip = 31
    }

    private let stream: UnsafeMutablePointer<z_stream>
    private let wrapping: Wrapping
    private var isAtEnd = false

    init(_ packed: UnsafeRawBufferPointer, _ wrapping: Wrapping) throws(VitError) {
      guard packed.count <= Int(UInt32.max) else {
        throw VitError("the packed data have more than 4 GB", code: "too-large")
      }
      // On the heap: zlib refuses a stream that has moved.
      let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
      stream.initialize(to: z_stream())
      stream.pointee.next_in = UnsafeMutablePointer(
        mutating: packed.baseAddress?.assumingMemoryBound(to: UInt8.self))
      stream.pointee.avail_in = UInt32(packed.count)
      let status = inflateInit2_(
        stream, wrapping.rawValue, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
      guard status == Z_OK else {
        stream.deallocate()
        throw VitError("zlib cannot start (status \(status))", kind: .environment, code: "zlib")
      }
      self.stream = stream
      self.wrapping = wrapping
    }

    deinit {
      inflateEnd(stream)
      stream.deallocate()
    }

    /// Unpacks until `target` is full or the stream ends; returns how many bytes came.
    mutating func read(into target: UnsafeMutableRawBufferPointer) throws(VitError) -> Int {
      var done = 0
      while done < target.count, !isAtEnd {
        guard let base = target.baseAddress else { break }
        let room = UInt32(min(target.count - done, 1 << 30))
        stream.pointee.next_out = (base + done).assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = room
        let status = inflate(stream, Z_NO_FLUSH)
        done += Int(room - stream.pointee.avail_out)
        switch status {
        case Z_OK: break
        case Z_STREAM_END: try nextMember()
        case Z_BUF_ERROR:
          throw VitError("the compressed data end too early", code: "truncated")
        default:
          let reason = stream.pointee.msg.map { String(cString: $0) } ?? "status \(status)"
          throw VitError("the compressed data are damaged: \(reason)", code: "damaged")
        }
      }
      return done
    }

    /// The next `count` bytes; fewer are an error.
    mutating func bytes(_ count: Int, _ what: String) throws(VitError) -> [UInt8] {
      let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
      defer { buffer.deallocate() }
      let got = try read(into: buffer)
      guard got == count else {
        throw VitError("expected \(count) bytes of \(what), found \(got)", code: "truncated")
      }
      return Array(buffer)
    }

    /// All `count` bytes of what is left, as memory of a tensor; fewer or more are an error.
    ///
    /// The caller has checked `count` against `maximumDeflateRatio`.
    mutating func rest(_ count: Int, _ what: String) throws -> MemoryStorage {
      var outcome: Result<Int, VitError> = .success(0)
      let storage = try MemoryStorage(byteCount: count) { buffer in
        do throws(VitError) { outcome = .success(try read(into: buffer)) } catch { outcome = .failure(error) }
      }
      let got = try outcome.get()
      guard got == count else {
        throw VitError("expected \(count) bytes of \(what), found \(got)", code: "truncated")
      }
      // Reading on makes zlib look at the checksum.
      let beyond = UnsafeMutableRawBufferPointer.allocate(byteCount: 1, alignment: 1)
      defer { beyond.deallocate() }
      guard try read(into: beyond) == 0 else {
        throw VitError("expected \(count) bytes of \(what), found more", code: "too-long")
      }
      return storage
    }

    /// At the end of a gzip member: whether another follows, which zeros are not.
    private mutating func nextMember() throws(VitError) {
      let left = Int(stream.pointee.avail_in)
      let rest = UnsafeBufferPointer(start: stream.pointee.next_in, count: left)
      if wrapping == .none || rest.allSatisfy({ $0 == 0 }) {
        isAtEnd = true
      } else {
        guard inflateReset(stream) == Z_OK else {
          throw VitError("zlib cannot go on", kind: .environment, code: "zlib")
        }
      }
    }
  }
#endif
