// swift-tools-version: 6.0
import Foundation
import PackageDescription

/// Whether a system header is installed, in the places where Debian puts them.
func hasHeader(_ name: String) -> Bool {
  [
    "/usr/include/", "/usr/include/x86_64-linux-gnu/", "/usr/include/aarch64-linux-gnu/",
    "/usr/local/include/",
  ]
  .contains { FileManager.default.fileExists(atPath: $0 + name) }
}

/// Libraries that vitc uses when they are there and does without, with a clear diagnostic, when they are not.
let optionalLibraries: [(header: String, library: String, define: String)] = [
  ("turbojpeg.h", "turbojpeg", "VITC_JPEG"),
  ("png.h", "png16", "VITC_PNG"),
  ("webp/decode.h", "webp", "VITC_WEBP"),
  ("zlib.h", "z", "VITC_ZLIB"),
].filter { hasHeader($0.header) }

let swift: [SwiftSetting] = [.swiftLanguageMode(.v6), .enableUpcomingFeature("InternalImportsByDefault")]
let formats: [SwiftSetting] = swift + optionalLibraries.map { .define($0.define) }
let math: [LinkerSetting] = [.linkedLibrary("m")]

/// Tests of a release build are not optimised themselves: they would take longer to compile than to run.
let tests: [SwiftSetting] = swift + [.unsafeFlags(["-Onone"], .when(configuration: .release))]

func test(_ name: String, _ dependencies: [String]) -> Target {
  .testTarget(
    name: name + "Tests",
    dependencies: (dependencies + ["VitTestSupport"]).map { .byName(name: $0) },
    swiftSettings: tests)
}

/// Executables for `tools/fuzz` and `tools/bench`, there only while these ask for them: the fuzzer has no `main` of its own,
/// and an embedder wants neither.
let toolExecutables: [Target] = [
  ("VITC_FUZZ", "VitFuzz", "VitFuzzing"), ("VITC_BENCH", "VitBench", "VitBenchmarks"),
].filter { Context.environment[$0.0] != nil }.map {
  .executableTarget(
    name: $0.1, dependencies: [.byName(name: $0.2)], path: "Tests/\($0.1)", swiftSettings: swift)
}

/// What the plugins run: the executable of this package, built once more for the host, or the one in the bundle that VITC_BUNDLE names
/// (`PREFIX/share/vitc/vitc.artifactbundle` where 'tools/install PREFIX' has been), which is there already.
let bundle = Context.environment["VITC_BUNDLE"].flatMap { $0.isEmpty ? nil : $0 }.map { path in
  // A path is to be relative to the package.
  path.hasPrefix("/")
    ? Context.packageDirectory.split(separator: "/").map { _ in ".." }.joined(separator: "/") + path : path
}
let executable: Target.Dependency = bundle == nil ? "vitc" : "VitcBundle"

/// For packages that compile models as they are built, and for `swift package vitc`. Where VITC_PLUGINS is 0 they are left out: SwiftPM would
/// build all that they run a second time, for the host, whoever uses them.
let plugins: [Target] =
  Context.environment["VITC_PLUGINS"] == "0"
  ? []
  : [
    .plugin(
      name: "VitcBuildTool", capability: .buildTool(), dependencies: [executable],
      path: "Sources/VitcPlugins/BuildTool"),
    .plugin(
      name: "VitcCommand",
      capability: .command(
        intent: .custom(verb: "vitc", description: "compiles vision transformers and runs them"),
        permissions: [.writeToPackageDirectory(reason: "models are written where you ask for them")]),
      dependencies: [executable], path: "Sources/VitcPlugins/Command"),
  ]

let package = Package(
  name: "vitc",
  products: [
    .library(name: "Vitc", targets: ["Vitc", "VitPasses", "VitIR"]),
    .executable(name: "vitc", targets: ["vitc"]),
    // All of it in one archive, of which tools/install makes libvitc.
    .library(name: "VitcABI", type: .static, targets: ["VitcABI"]),
  ] + plugins.map { .plugin(name: $0.name, targets: [$0.name]) },
  targets: [
    .target(name: "VitSystem", swiftSettings: swift),
    .target(name: "VitIR", dependencies: ["VitSystem"], swiftSettings: swift, linkerSettings: math),
    .target(
      name: "CVitKernels",
      linkerSettings: [.linkedLibrary("dl"), .linkedLibrary("m")]),
    .target(name: "VitRuntime", dependencies: ["VitIR", "VitSystem", "CVitKernels"], swiftSettings: swift),
    .target(name: "VitOps", dependencies: ["VitIR", "VitRuntime"], swiftSettings: swift),
    .target(
      name: "CVitFormats",
      // Its assertions, of code that was generated, would name the folder of the build.
      cSettings: [.define("NDEBUG", .when(configuration: .release))],
      linkerSettings: [.linkedLibrary("zstd"), .linkedLibrary("protobuf-c")]
        + optionalLibraries.map { .linkedLibrary($0.library) }),
    .target(name: "VitFormats", dependencies: ["VitIR", "CVitFormats"], swiftSettings: formats),
    .target(name: "VitData", dependencies: ["VitIR", "VitFormats"], swiftSettings: swift),
    .target(name: "VitTrain", dependencies: ["VitIR", "VitRuntime"], swiftSettings: swift),
    .target(
      name: "VitPasses", dependencies: ["VitIR", "VitRuntime", "VitOps", "VitTrain", "VitData"],
      swiftSettings: swift),
    .target(
      name: "Vitc",
      dependencies: [
        "VitSystem", "VitIR", "VitRuntime", "VitOps", "VitFormats", "VitData", "VitTrain", "VitPasses",
      ],
      swiftSettings: swift),
    .target(name: "VitcCLI", dependencies: ["Vitc", "VitPasses", "VitIR"], swiftSettings: swift),
    .target(name: "CVitc"),
    .target(
      name: "VitcABI", dependencies: ["CVitc", "VitcCLI", "Vitc", "VitPasses", "VitIR"], swiftSettings: swift),
    .executableTarget(name: "vitc", dependencies: ["VitcCLI"], swiftSettings: swift),
    .target(name: "CVitTestSupport", path: "Tests/CVitTestSupport"),
    .target(
      name: "VitTestSupport",
      dependencies: ["VitIR", "VitRuntime", "VitOps", "VitTrain", "VitFormats", "VitPasses"],
      path: "Tests/VitTestSupport", swiftSettings: swift),
    test("VitSystem", ["VitSystem"]),
    .target(
      name: "VitFuzzing",
      dependencies: [
        "VitIR", "VitRuntime", "VitOps", "VitFormats", "VitData", "VitPasses", "Vitc", "CVitc", "VitcABI",
      ],
      path: "Tests/VitFuzzing", swiftSettings: swift),
    test("VitFuzzing", ["VitFuzzing"]),
    .target(
      name: "VitBenchmarks",
      dependencies: ["VitIR", "CVitKernels", "VitRuntime", "VitOps", "VitTrain", "VitPasses", "Vitc"],
      path: "Tests/VitBenchmarks", swiftSettings: swift),
    test("VitIR", ["VitIR"]),
    test("VitRuntime", ["VitIR", "VitRuntime", "CVitKernels"]),
    test("VitOps", ["VitIR", "CVitKernels", "VitRuntime", "VitOps", "VitTrain"]),
    test("VitFormats", ["VitIR", "VitFormats", "VitFuzzing"]),
    test("VitData", ["VitIR", "VitFormats", "VitData"]),
    test("VitTrain", ["VitIR", "VitRuntime", "VitOps", "VitTrain"]),
    test("VitPasses", ["VitIR", "VitRuntime", "VitOps", "VitTrain", "VitData", "VitFormats", "VitPasses"]),
    test("Vitc", ["VitIR", "VitPasses", "Vitc", "CVitTestSupport"]),
    test("VitcABI", ["CVitc", "VitcABI", "Vitc"]),
    test("VitcCLI", ["VitIR", "VitFormats", "Vitc", "VitcCLI"]),
  ] + toolExecutables + plugins + (bundle.map { [.binaryTarget(name: "VitcBundle", path: $0)] } ?? []),
  cLanguageStandard: .c11
)
