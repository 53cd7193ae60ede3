internal import Glibc
internal import VitIR
internal import VitcCLI

@main struct Main {
  static func main() {
    // Names of files are bytes, which need not be UTF-8.
    let arguments = UnsafeBufferPointer(start: CommandLine.unsafeArgv, count: Int(CommandLine.argc))
      .dropFirst()
    exit(
      Tool.run(
        arguments.compactMap { argument in
          argument.map { FileName.text(of: UnsafeRawBufferPointer(start: $0, count: strlen($0))) }
        }))
  }
}
