// swift-tools-version: 6.0
import PackageDescription

// A package whose build compiles a model: each .onnx of the target becomes a .vmod in its bundle, as vitc.json beside it says.
let package = Package(
  name: "classify",
  dependencies: [.package(name: "vitc", path: "../../..")],
  targets: [
    .executableTarget(
      name: "Classify", dependencies: [.product(name: "Vitc", package: "vitc")], exclude: ["vitc.json"],
      plugins: [.plugin(name: "VitcBuildTool", package: "vitc")])
  ]
)
