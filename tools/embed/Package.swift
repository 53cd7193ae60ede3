// swift-tools-version: 6.0
import PackageDescription

// A package that uses vitc as a library, as README shows it, and one target whose build compiles a model: each .onnx of it becomes a .vmod
// in its bundle, as vitc.json beside it says. Built and run by .ci/run.
let package = Package(
  name: "embed",
  dependencies: [.package(name: "vitc", path: "../..")],
  targets: [
    .executableTarget(name: "Embed", dependencies: [.product(name: "Vitc", package: "vitc")]),
    .executableTarget(
      name: "Classify", dependencies: [.product(name: "Vitc", package: "vitc")], exclude: ["vitc.json"],
      plugins: [.plugin(name: "VitcBuildTool", package: "vitc")]),
  ]
)
