/// How often a model names the class of labelled samples.
public struct Accuracy: Sendable, Hashable {
  /// The samples of one class.
  public struct Class: Sendable, Hashable {
    /// Its number.
    public let number: Int
    /// How many samples there were of it.
    public let images: Int
    /// How many of them the model named rightly.
    public let right: Int
  }

  private var images: [Int]
  private var right: [Int]
  private var amongFive = 0

  /// Nothing counted yet, of a model with so many classes.
  init(classes: Int) {
    images = Array(repeating: 0, count: classes)
    right = images
  }

  /// Counts a sample by the scores of its classes; one with a label that is no class is not counted.
  ///
  /// Of equal scores the first counts as larger. What is no number is wrong.
  mutating func add(_ scores: UnsafePointer<Float>, label: Int) {
    guard images.indices.contains(label) else { return }
    images[label] += 1
    let own = scores[label]
    guard (0..<images.count).allSatisfy({ scores[$0].isFinite }) else { return }
    let above = (0..<images.count).count { scores[$0] > own || (scores[$0] == own && $0 < label) }
    if above == 0 { right[label] += 1 }
    if above < 5 { amongFive += 1 }
  }

  /// Both together.
  func adding(_ other: Accuracy) -> Accuracy {
    var sum = self
    for index in images.indices {
      sum.images[index] += other.images[index]
      sum.right[index] += other.right[index]
    }
    sum.amongFive += other.amongFive
    return sum
  }

  /// How many samples were counted.
  public var labelled: Int { images.reduce(0, +) }

  /// The share that the model named rightly; `nil` where nothing was counted.
  public var rate: Double? { share(right.reduce(0, +)) }

  /// The share whose class is among the five of the highest scores; `nil` where nothing was counted, or there are only five.
  public var topFive: Double? { images.count > 5 ? share(amongFive) : nil }

  /// The classes of which there were samples, by their numbers.
  public var classes: [Class] {
    images.indices.filter { images[$0] > 0 }.map { Class(number: $0, images: images[$0], right: right[$0]) }
  }

  private func share(_ count: Int) -> Double? { labelled > 0 ? Double(count) / Double(labelled) : nil }
}
