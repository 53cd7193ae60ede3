internal import Glibc

/// Functions of the system's mathematical library, for those that use no other part of C.
package enum SystemMath {
  /// The natural logarithm.
  package static func log(_ x: Double) -> Double { Glibc.log(x) }
}
