internal import CVitc
internal import Glibc
internal import VitIR

/// An error as C sees it.
final class ErrorHandle: Handle {
  let code, message, text: CText
  let file, node, help: CText?

  init(_ diagnostic: Diagnostic) {
    code = CText(diagnostic.code)
    message = CText(diagnostic.message)
    text = CText(diagnostic.text)
    file = diagnostic.location.file.map { CText(name: $0) }
    node = diagnostic.location.node.map { CText($0) }
    help = diagnostic.help.map { CText($0) }
  }
}

/// Does what may fail, and says how it ended: the error goes to `error`, where there is room for one.
func status(
  _ error: UnsafeMutablePointer<OpaquePointer?>?, _ work: () throws -> vitc_status
) -> vitc_status {
  do { return try work() } catch let failure as VitError {
    error?.pointee = ErrorHandle(failure.diagnostic).handedOver()
    return vitc_status(failure.kind.rawValue)
  } catch let failure {
    error?.pointee = ErrorHandle(Diagnostic(.error, "\(failure)", code: "internal")).handedOver()
    return vitc_status(FailureKind.environment.rawValue)
  }
}

/// All is well.
let done = vitc_status(VITC_OK)

/// The pointer, or a usage error that names the argument.
func required<Pointer>(_ pointer: Pointer?, _ name: String) throws(VitError) -> Pointer {
  guard let pointer else { throw misuse("argument '\(name)' is NULL") }
  return pointer
}

/// A call that makes no sense.
func misuse(_ message: String) -> VitError {
  VitError(message, kind: .usage, code: "argument", help: "vitc.h says what a call takes")
}

/// A structure that begins with its size, as far as this version knows it. Throws where it is shorter than it ever was, before any
/// of the rest is read.
func sized<Structure>(
  _ pointer: UnsafePointer<Structure>, _ empty: Structure, _ name: String
) throws(VitError) -> Structure {
  let size = UnsafeRawPointer(pointer).loadUnaligned(as: Int.self)
  guard size >= MemoryLayout<Structure>.size else {
    throw misuse("'\(name)' has \(UInt(bitPattern: size)) bytes, expected the size of the structure")
  }
  var own = empty
  withUnsafeMutableBytes(of: &own) { bytes in
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: bytes.count))
  }
  return own
}

/// The text of a name of a file, or of an option, which need not be UTF-8.
func text(_ pointer: UnsafePointer<CChar>) -> String {
  FileName.text(of: UnsafeRawBufferPointer(start: pointer, count: strlen(pointer)))
}

/// The texts of a list; throws where a pointer is missing.
func texts(
  _ list: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int, _ name: String
) throws(VitError) -> [String] {
  guard count > 0 else { return [] }
  let list = try required(list, name)
  var all: [String] = []
  for place in 0..<count { all.append(text(try required(list[place], "\(name)[\(place)]"))) }
  return all
}

/// See `vitc.h`.
@c @implementation
public func vitc_error_code(_ error: OpaquePointer!) -> UnsafePointer<CChar>! {
  error.map { ErrorHandle.at($0).code.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_error_message(_ error: OpaquePointer!) -> UnsafePointer<CChar>! {
  error.map { ErrorHandle.at($0).message.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_error_file(_ error: OpaquePointer!) -> UnsafePointer<CChar>! {
  error.flatMap { ErrorHandle.at($0).file?.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_error_node(_ error: OpaquePointer!) -> UnsafePointer<CChar>! {
  error.flatMap { ErrorHandle.at($0).node?.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_error_help(_ error: OpaquePointer!) -> UnsafePointer<CChar>! {
  error.flatMap { ErrorHandle.at($0).help?.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_error_text(_ error: OpaquePointer!) -> UnsafePointer<CChar>! {
  error.map { ErrorHandle.at($0).text.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_error_free(_ error: OpaquePointer!) { ErrorHandle.free(error) }
