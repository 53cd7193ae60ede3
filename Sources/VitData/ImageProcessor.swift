/// What an image processor class of transformers does where its configuration is silent (transformers 5.24, class attributes).
///
/// Those for vision transformers whose result has one size for all pictures.
struct ImageProcessor {
  /// What a class does apart from resize, crop and normalisation.
  enum Kind {
    case plain
    /// Nothing is cut out, whatever the configuration says.
    case uncropped
    /// Below 384 pixels a margin is cut off, which `crop_pct` sets; from there on pictures are squeezed.
    case convNext
    /// The shorter edge is resized to 256/224 of the size.
    case levit
    /// Pictures are resized to the size over `crop_pct`.
    case poolFormer
    /// `include_top` divides by the deviation once more.
    case efficientNet
    /// Edges are multiples of `ensure_multiple_of`, and nothing is cut out.
    case dpt
    /// Colours change their order, and nothing is normalised whatever the configuration says.
    case mobileViT
  }

  /// A size as configurations write it.
  enum Size {
    case square(Int)
    case shortestEdge(Int)
  }

  /// Its size.
  let size: Size
  /// Whether a size that is one number is that of both edges; else it is the shorter one.
  let isSquare: Bool
  /// How it resizes.
  let filter: Interpolation
  /// The edges that are cut out, and whether they are where nothing is said.
  let crop: (edge: Int, isOn: Bool)?
  /// Mean and deviation.
  let statistics: (mean: [Double], deviation: [Double])
  /// What else it does.
  let kind: Kind

  /// Whether a configuration may ask for the middle to be cut out.
  var mayCrop: Bool {
    switch kind {
    case .uncropped, .dpt: false
    default: true
    }
  }

  private init(
    _ size: Size, isSquare: Bool? = nil, _ filter: Interpolation, crop: (edge: Int, isOn: Bool)? = nil,
    _ statistics: (mean: [Double], deviation: [Double]), _ kind: Kind = .plain
  ) {
    self.size = size
    if case .square = size { self.isSquare = isSquare ?? true } else { self.isSquare = isSquare ?? false }
    self.filter = filter
    self.crop = crop
    self.statistics = statistics
    self.kind = kind
  }

  private static let half = (mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5])
  private static let imageNet = (mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225])
  private static let clip = (
    mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711]
  )

  /// The class called `name`, without `ImageProcessor`, `FeatureExtractor` and what says how it is implemented; `nil` for one
  /// that is not known.
  init?(_ name: String) {
    guard let found = ImageProcessor.known[name] else { return nil }
    self = found
  }

  private static let known: [String: ImageProcessor] = [
    "Beit": ImageProcessor(.square(224), .bicubic, crop: (224, false), half),
    "Bit": ImageProcessor(.shortestEdge(224), .bicubic, crop: (224, true), clip),
    "Blip": ImageProcessor(.square(384), .bicubic, clip),
    "CLIP": ImageProcessor(.shortestEdge(224), .bicubic, crop: (224, true), clip),
    "ChineseCLIP": ImageProcessor(.shortestEdge(224), .bicubic, crop: (224, true), clip),
    "ConvNext": ImageProcessor(.shortestEdge(384), .bicubic, half, .convNext),
    "DINOv3ViT": ImageProcessor(.square(224), .bilinear, imageNet),
    "DPT": ImageProcessor(.square(384), .bicubic, half, .dpt),
    "DeiT": ImageProcessor(.square(256), .bicubic, crop: (224, true), half),
    "EfficientNet": ImageProcessor(.square(346), .bicubic, crop: (289, false), half, .efficientNet),
    "Flava": ImageProcessor(.square(224), .bicubic, crop: (224, true), clip),
    "Levit": ImageProcessor(.shortestEdge(224), .bicubic, crop: (224, true), imageNet, .levit),
    "MobileNetV1": ImageProcessor(.shortestEdge(256), .bilinear, crop: (224, true), half),
    "MobileNetV2": ImageProcessor(.shortestEdge(256), .bilinear, crop: (224, true), half),
    "MobileViT": ImageProcessor(.shortestEdge(224), .bicubic, crop: (256, true), half, .mobileViT),
    "OwlViT": ImageProcessor(.square(768), .bicubic, crop: (768, false), clip),
    "PoolFormer": ImageProcessor(.shortestEdge(224), .bicubic, crop: (224, true), imageNet, .poolFormer),
    "Pvt": ImageProcessor(.square(224), .bicubic, imageNet),
    "SegGpt": ImageProcessor(.square(448), .bicubic, imageNet, .uncropped),
    "Segformer": ImageProcessor(.square(512), .bilinear, imageNet, .uncropped),
    "Siglip": ImageProcessor(.square(224), isSquare: false, .bicubic, half),
    "ViT": ImageProcessor(.square(224), .bilinear, half),
    "VideoMAE": ImageProcessor(.shortestEdge(224), .bilinear, crop: (224, true), half),
  ]
}
