public import VitIR

extension Registry {
  /// Every operation that vitc knows. Each family lists its own in the file that defines it.
  public static let standard = Registry(
    onnxCompute + onnxMovement + onnxSpatial + onnxQuantised + onnxRecurrent + microsoft + vit)
}
