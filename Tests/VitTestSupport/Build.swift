/// How the tests are built.
public enum Build {
  /// Whether they are built to be fast.
  public static var isRelease: Bool {
    #if DEBUG
      false
    #else
      true
    #endif
  }
}
