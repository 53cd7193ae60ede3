internal import Synchronization
public import VitFormats
public import VitIR

/// One input of a model as a data set holds it.
public enum Sample: Sendable {
  /// A picture, to be preprocessed.
  case image(Image)
  /// A tensor that is preprocessed already, without the batch axis.
  case tensor(Tensor)
}

/// Which part of a data set that has two.
public enum Split: String, Sendable, Hashable {
  case train, test
}

/// Where a data set's samples come from. Any sample can be read at any time, on any thread.
protocol DatasetSource: Sendable {
  var count: Int { get }
  func sample(_ index: Int) throws -> Sample
}

extension Dataset {
  /// What samples are made for, where that is not for them to say.
  public enum Wanted: Sendable {
    /// Pictures of this size, which are made up for synthetic data; arrays of bytes are pictures too.
    case pictures(channels: Int, height: Int, width: Int)
    /// Arrays of this shape; no array is a picture.
    case arrays(shape: [Int])
  }

  /// The extents that all samples have, where they lie in one array.
  public struct Extents: Sendable {
    /// Of tensors.
    public var tensor: [Int]?
    /// Of pictures: channels, height and width.
    public var picture: [Int]?
  }

  /// The extents of the samples, where one stands for all.
  public var extents: Extents? {
    guard isUniform, !(source is Synthetic), count > 0, let sample = try? sample(at: 0) else { return nil }
    switch sample {
    case .image(let image): return Extents(picture: [image.channels, image.height, image.width])
    case .tensor(let tensor): return Extents(tensor: tensor.shape)
    }
  }
}

/// Samples, and where known their classes; opened by `Dataset.open`.
///
/// A sample is read when it is asked for. One that cannot be read is warned of and counted once.
public final class Dataset: Sendable {
  /// The data set as the user named it.
  public let name: String
  /// The number of samples, those included that will turn out to be unreadable.
  public let count: Int
  /// The class of each sample, from 0.
  public let labels: [Int]?
  /// The names of the classes, in the order of their numbers; some may have no samples.
  public let classNames: [String]?
  /// All files that the samples come from, sorted by the bytes of their paths.
  public let files: [String]
  /// What else decided what the samples are: folders, whose contents they are, and files that could not be read.
  public let surroundings: [String]
  /// The part that was taken, of a data set that has two.
  public let split: Split?
  private let source: any DatasetSource
  private let warn: @Sendable (Diagnostic) -> Void
  private let unreadable: Mutex<(indices: Set<Int>, before: Int)>

  /// `skipped` samples were found to be unreadable before, and warned of.
  init(
    name: String, source: any DatasetSource, labels: [Int]? = nil, classNames: [String]? = nil,
    files: [String], surroundings: [String] = [],
    split: Split? = nil, skipped: Int = 0, warn: @escaping @Sendable (Diagnostic) -> Void
  ) {
    precondition(labels.map { $0.count == source.count } ?? true)
    self.name = name
    self.source = source
    self.count = source.count
    self.labels = labels
    self.classNames = classNames
    self.files = files.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    self.surroundings = surroundings
    self.split = split
    self.warn = warn
    unreadable = Mutex(([], skipped))
  }

  /// The files of images at `path`: of a folder all in it and below, by their names' ends; else `path` itself.
  public static func images(at path: String) throws(VitError) -> [String] { try Folder.images(at: path) }

  /// Reads sample `index`.
  public func sample(at index: Int) throws -> Sample { try source.sample(index) }

  /// How many samples could not be read so far.
  public var skipped: Int { unreadable.withLock { $0.before + $0.indices.count } }

  /// What a message calls a sample: its file, or its number in the data set.
  public func name(of index: Int) -> String {
    (source as? ImageFiles)?.paths[index] ?? "\(name), sample \(index)"
  }

  /// Whether what can be said of one sample holds for all: they lie in one array.
  var isUniform: Bool { !(source is ImageFiles) }

  /// Warns of and counts a sample that could not be read, the first time.
  func skip(_ index: Int, because error: VitError) {
    guard unreadable.withLock({ $0.indices.insert(index).inserted }) else { return }
    warn(Dataset.skipWarning(error))
  }

  /// The warning for a sample that is left out because of `error`.
  static func skipWarning(_ error: VitError) -> Diagnostic {
    Diagnostic(
      .warning, "skipped: " + error.diagnostic.message, code: "skipped-sample",
      location: error.diagnostic.location)
  }
}
