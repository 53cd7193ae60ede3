// swift-tools-version: 6.0
import PackageDescription

// A package that uses vitc as a library, as README shows it; built and run by .ci/run.
let package = Package(
  name: "embed",
  dependencies: [.package(name: "vitc", path: "../..")],
  targets: [
    .executableTarget(name: "Embed", dependencies: [.product(name: "Vitc", package: "vitc")])
  ]
)
