internal import Glibc
internal import VitcCLI

@main struct Main {
  static func main() { exit(Tool.run(CommandLine.unsafeArgv, count: Int(CommandLine.argc))) }
}
