internal import Glibc
internal import VitcCLI

@main struct Main {
  static func main() { exit(Tool.run(Array(CommandLine.arguments.dropFirst()))) }
}
