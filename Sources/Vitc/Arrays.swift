internal import VitFormats
public import VitIR

/// NumPy files.
public enum Arrays {
  /// Reads the array in a `.npy` file.
  public static func read(_ path: String) throws -> Tensor { try NPY.read(path) }

  /// Writes a `.npy` file, which appears whole or not at all.
  public static func write(_ tensor: Tensor, to path: String) throws { try NPY.write(tensor, to: path) }
}
