internal import FoundationEssentials
internal import VitFuzzing

// What libFuzzer calls: the process reads its inputs with the target that `VITC_FUZZ_TARGET` names.

private let target: FuzzTarget = {
  let name = ProcessInfo.processInfo.environment["VITC_FUZZ_TARGET"]
  guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
    fatalError("VITC_FUZZ_TARGET is none of \(FuzzTarget.all.map(\.name).joined(separator: ", "))")
  }
  return target
}()

private let folder: String = {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("vitc-fuzz-\(UUID().uuidString)")
  do { try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true) } catch {
    fatalError("no folder for files: \(error)")
  }
  return path.path
}()

/// Reads one input; anything but acceptance or a `VitError` ends the process, which is what the fuzzer looks for.
@_cdecl("LLVMFuzzerTestOneInput")
public func readOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  do {
    try target.run(Array(UnsafeBufferPointer(start: start, count: count)), folder: folder)
  } catch { fatalError("\(error)") }
  return 0
}
