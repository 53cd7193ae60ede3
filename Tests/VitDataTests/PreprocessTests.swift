import Foundation
import Testing
import VitData
import VitFormats
import VitIR
import VitTestSupport

@Suite struct PreprocessTests {
  private func floats(_ preprocess: Preprocess, _ sample: Sample) throws -> [Float] {
    var result = [Float](repeating: .nan, count: preprocess.count)
    try result.withUnsafeMutableBufferPointer { buffer in
      try preprocess.write(sample, to: #require(buffer.baseAddress))
    }
    return result
  }

  /// The card of a folder that holds the fixture `name` under `file`.
  private func card(_ name: String, as file: String) throws -> ModelCard {
    let scratch = try Scratch()
    try scratch.write(Fixture.bytes("preprocess/\(name).json"), to: file)
    return try ModelCard(besideModel: scratch.file("model.onnx"))
  }

  @Test(
    "Hugging Face and timm configurations give the floats of their own libraries within a millionth",
    arguments: [
      "vit", "vit_number", "clip", "clip_padded", "bit", "convnext", "levit", "raw", "timm", "timm_whole",
      "timm_squash", "timm_oblong",
    ])
  func pipelines(_ name: String) throws {
    let isTimm = name.hasPrefix("timm")
    let card = try card(name, as: isTimm ? "config.json" : "preprocessor_config.json")
    let preprocess = try #require(card.preprocess)
    let fixtures = try NPZ(Fixture.path("preprocess/pipeline.npz"))
    let wide = try InterpolationTests.image(NPZ(Fixture.path("preprocess/resize.npz")).tensor("rgb"))
    let tall = try InterpolationTests.image(fixtures.tensor("tall"))
    for (kind, image) in [("wide", wide), ("tall", tall)] {
      let expected = try fixtures.tensor("\(name)_\(kind)")
      #expect([preprocess.channels, preprocess.height, preprocess.width] == expected.shape)
      let difference = zip(try floats(preprocess, .image(image)), try expected.floats())
        .map { abs($0 - $1) / max(1, abs($1)) }.max()
      #expect(try #require(difference) <= 1e-6, "\(kind)")
    }
  }

  @Test("image processors give the floats of transformers' own, what their configurations leave out included")
  func processors() throws {
    let configs = try #require(
      try JSONSerialization.jsonObject(with: Data(Fixture.bytes("preprocess/processors.json")))
        as? [String: [String: Any]])
    #expect(configs.count > 100)
    let fixtures = try NPZ(Fixture.path("preprocess/processors.npz"))
    let wide = try InterpolationTests.image(NPZ(Fixture.path("preprocess/resize.npz")).tensor("rgb"))
    let tall = try InterpolationTests.image(NPZ(Fixture.path("preprocess/pipeline.npz")).tensor("tall"))
    for (name, config) in configs.sorted(by: { $0.key < $1.key }) {
      let scratch = try Scratch()
      let bytes = try JSONSerialization.data(withJSONObject: config)
      try scratch.write([UInt8](bytes), to: "preprocessor_config.json")
      let card = try ModelCard(besideModel: scratch.file("m.onnx"))
      let preprocess = try #require(card.preprocess, "\(name)")
      #expect(card.warnings.isEmpty, "\(name)")
      for (kind, image) in [("wide", wide), ("tall", tall)] {
        let expected = try fixtures.tensor("\(name)_\(kind)")
        var found = try floats(preprocess, .image(image))
        if preprocess.width > 64 {
          found = stride(from: 0, to: preprocess.channels, by: 1).flatMap { channel in
            stride(from: 0, to: preprocess.height, by: 11).flatMap { row in
              stride(from: 0, to: preprocess.width, by: 13).map { column in
                found[(channel * preprocess.height + row) * preprocess.width + column]
              }
            }
          }
        }
        #expect(found.count == expected.count, "\(name) \(kind): \(preprocess.text), \(expected.shape)")
        guard found.count == expected.count else { continue }
        // DINOv3's processor resizes floats, vitc bytes.
        let bound: Float = name.hasPrefix("DINOv3") ? 1 / 255 / 0.224 : 2e-6
        let difference = zip(found, try expected.floats()).map { abs($0 - $1) / max(1, abs($1)) }.max()
        #expect(try #require(difference) <= bound, "\(name) \(kind): \(preprocess.text)")
      }
    }
  }

  @Test("an image processor that is not known is warned of, one that pads is refused") func unknown() throws {
    let scratch = try Scratch()
    try scratch.write(
      Array(#"{"image_processor_type": "NewImageProcessor", "size": 8, "do_normalize": false}"#.utf8),
      to: "preprocessor_config.json")
    let card = try ModelCard(besideModel: scratch.file("m.onnx"))
    #expect(card.preprocess?.width == 8)
    #expect(card.warnings.map(\.code) == ["image-processor"])
    #expect(card.warnings.first?.message.contains("'NewImageProcessor' is not known") == true)
    try scratch.write(
      Array(#"{"image_processor_type": "ViTImageProcessor", "do_pad": true}"#.utf8),
      to: "preprocessor_config.json")
    #expect(throws: VitError.self) { try ModelCard(besideModel: scratch.file("m.onnx")) }
  }

  @Test("a configuration lies beside the model, in a processor's file, or above a folder 'onnx'")
  func places() throws {
    let scratch = try Scratch()
    let size = { (edge: Int) in
      Array(#"{"image_processor_type": "ViTImageProcessor", "size": \#(edge)}"#.utf8)
    }
    try scratch.write(
      Array(#"{"image_processor": "#.utf8) + size(12) + Array(#", "processor_class": "CLIPProcessor"}"#.utf8),
      to: "a/processor_config.json")
    #expect(try ModelCard(besideModel: scratch.file("a/m.onnx")).preprocess?.width == 12)
    try scratch.write(size(14), to: "a/preprocessor_config.json")
    #expect(try ModelCard(besideModel: scratch.file("a/m.onnx")).preprocess?.width == 14)
    #expect(try ModelCard(besideModel: scratch.file("a/onnx/m.onnx")).preprocess == nil)
    try scratch.write([], to: "a/onnx/m.onnx")
    let above = try ModelCard(besideModel: scratch.file("a/onnx/m.onnx"))
    #expect(
      above.preprocess?.width == 14 && above.preprocessFile == scratch.file("a/preprocessor_config.json"))
    try scratch.write([], to: "a/other/m.onnx")
    #expect(try ModelCard(besideModel: scratch.file("a/other/m.onnx")).preprocess == nil)
    try scratch.write(size(16), to: "a/onnx/preprocessor_config.json")
    #expect(try ModelCard(besideModel: scratch.file("a/onnx/m.onnx")).preprocess?.width == 16)
  }

  @Test("a file of the model's own name wins over one for the folder, and timm's labels are found")
  func search() throws {
    let scratch = try Scratch()
    try scratch.write(Fixture.bytes("preprocess/vit.json"), to: "model.preprocessor_config.json")
    try scratch.write(Fixture.bytes("preprocess/clip.json"), to: "preprocessor_config.json")
    try scratch.write(Fixture.bytes("preprocess/timm.json"), to: "config.json")
    let card = try ModelCard(besideModel: scratch.file("model.onnx"))
    #expect(card.preprocess?.width == 24)
    #expect(card.labels == ["a", "b", "c"])
    #expect(card.files == [scratch.file("model.preprocessor_config.json"), scratch.file("config.json")])
    let other = try ModelCard(besideModel: scratch.file("other.onnx"))
    #expect(other.preprocess?.width == 17)
    let none = try ModelCard(besideModel: "/nowhere/model.onnx")
    #expect(none.preprocess == nil && none.labels == nil && none.files.isEmpty)
  }

  @Test("labels come from 'labels' and from 'id2label' in the order of the numbers")
  func labels() throws {
    let scratch = try Scratch()
    let table = (0..<12).map { "\"\($0)\": \"class \($0)\"" }.joined(separator: ", ")
    try scratch.write(Array("{\"id2label\": {\(table)}}".utf8), to: "config.json")
    let card = try ModelCard(besideModel: scratch.file("m.onnx"))
    #expect(card.labels == (0..<12).map { "class \($0)" })
    #expect(card.preprocess == nil)
    try scratch.write(
      Array("{\"size\": 8, \"do_normalize\": false, \"labels\": [\"b\", \"a\"]}".utf8),
      to: "m.preprocessor_config.json")
    #expect(try ModelCard(besideModel: scratch.file("m.onnx")).labels == ["b", "a"])
  }

  @Test(
    "a configuration that is malformed, hostile or not supported is refused with its file's name",
    arguments: [
      "", "[", "[]", "{\"size\": \"big\"}", "{\"size\": -4, \"do_normalize\": false}",
      "{\"size\": 1e300, \"do_normalize\": false}", "{\"size\": 1e999}", "{\"size\": 10, \"resample\": 9}",
      "{\"size\": 10, \"image_mean\": [0, 0], \"image_std\": [1, 1, 1]}",
      "{\"size\": 10, \"image_mean\": [0.5], \"image_std\": [0]}", "{\"size\": 10, \"do_normalize\": true}",
      "{\"size\": 10, \"do_resize\": 3}", "{\"size\": {\"shortest_edge\": 10, \"longest_edge\": 30}}",
      "{\"size\": 10, \"do_center_crop\": true}",
      String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000),
    ])
  func refused(_ text: String) throws {
    let scratch = try Scratch()
    let path = try scratch.write(Array(text.utf8), to: "preprocessor_config.json")
    let error = #expect(throws: VitError.self) { try ModelCard(besideModel: scratch.file("m.onnx")) }
    #expect(error?.kind == .input)
    #expect(error?.diagnostic.location.file == path)
  }

  @Test(
    "a size that no image has is refused, whatever the processor makes of it",
    arguments: [
      #""image_processor_type":"LevitImageProcessor","size":{"shortest_edge":1000000000000000000}"#,
      #""image_processor_type":"LevitImageProcessor","size":16384"#,
      #""image_processor_type":"ConvNextImageProcessor","size":{"shortest_edge":0}"#,
      #""size":{"height":-1,"width":8}"#, #""size":[8,16385]"#, #""size":8,"crop_size":99999"#,
    ])
  func impossibleSizes(_ settings: String) throws {
    try refused("{" + settings + "}")
  }

  @Test("a configuration cut short or with a byte changed is read or refused, never a trap")
  func damage() throws {
    let scratch = try Scratch()
    for name in ["vit", "timm"] {
      let failures = damaged(try Fixture.bytes("preprocess/\(name).json"), step: 5) { bytes in
        try scratch.write(bytes, to: name == "timm" ? "config.json" : "preprocessor_config.json")
        _ = try ModelCard(besideModel: scratch.file("m.onnx"))
      }
      #expect(failures == [])
    }
  }

  @Test("the text form is read back to the same value, whatever the numbers")
  func roundTrip() throws {
    var values = try ["vit", "clip", "raw"].map {
      try #require(card($0, as: "preprocessor_config.json").preprocess)
    }
    values.append(try #require(card("timm_oblong", as: "config.json").preprocess))
    var strange = Preprocess(channels: 3, height: 7, width: 9)
    strange.mean = [0.1, 1e-17, -3]
    strange.deviation = [1.0 / 3.0]
    strange.order = .bgr
    strange.resize = .none
    values.append(strange)
    for value in values {
      let copy = try Preprocess(text: value.text)
      #expect(copy == value)
      #expect(copy.text == value.text)
    }
    #expect(
      Preprocess(channels: 1, height: 28, width: 28).text
        == "channels=1 size=28x28 order=rgb resize=shortest:28 interpolation=bicubic crop=down "
        + "scale=0.00392156862745098 mean=0.5 std=0.5")
  }

  @Test("settings override: a size alone keeps proportions, bad values and unknown keys are errors")
  func overriding() throws {
    var base = Preprocess(channels: 3, height: 224, width: 224)
    base.resize = .shortest(256)
    let smaller = try base.overriding([("size", "112")])
    #expect(smaller.resize == .shortest(128))
    #expect(smaller.height == 112 && smaller.width == 112)
    #expect(try base.overriding([("size", "112x224")]).resize == .cover(height: 128, width: 256))
    #expect(
      try base.overriding([("size", "112"), ("resize", "exact:120")]).resize
        == .exact(height: 120, width: 120))
    #expect(try base.overriding([("mean", "0.5"), ("std", "0.25,0.5,1")]).deviation == [0.25, 0.5, 1])
    #expect(try base.overriding([("channels", "1")]).mean == [0.5])
    for (key, value) in [
      ("size", "0"), ("size", "axb"), ("size", "1x2x3"), ("size", ""), ("size", "99999999999999999999"),
      ("mean", "1,2"),
      ("mean", "1,,2"), ("mean", "nan"), ("std", "0"), ("scale", "-1"), ("scale", "inf"), ("order", "gbr"),
      ("resize", "shortest:1x2"), ("resize", "exact:"), ("interpolation", "best"), ("crop", "yes"),
      ("colour", "1"),
      ("channels", "0"),
    ] {
      #expect(throws: VitError.self, "\(key)=\(value)") { try base.overriding([(key, value)]) }
    }
    #expect(throws: VitError.self) { try base.overriding([("crop", "none"), ("crop", "none")]) }
  }

  @Test("a size cannot be changed in proportion to nothing, nor to more than images have")
  func withoutExtent() throws {
    let empty = Preprocess(channels: 3, height: 0, width: 0)
    #expect(throws: VitError.self) { try empty.overriding([("size", "8x8")]) }
    #expect(throws: VitError.self) { try empty.fitted(channels: 3, height: 8, width: 8) }
    let square = Preprocess(channels: 3, height: 8, width: 8)
    #expect(throws: VitError.self) { try square.fitted(channels: 3, height: 0, width: 8) }
    #expect(throws: VitError.self) { try square.resized(height: 8, width: .max) }
    #expect(throws: VitError.self) { try square.resized(height: -8, width: 8) }
  }

  @Test("one setting is taken for all channels, and a contradiction with the model is an error")
  func fitted() throws {
    var gray = Preprocess(channels: 1, height: 28, width: 28)
    (gray.mean, gray.deviation) = ([0.286], [0.353])
    let fitted = try gray.fitted(channels: 3, height: nil, width: 56)
    #expect(fitted.channels == 3 && fitted.height == 28 && fitted.width == 56)
    let colour = Preprocess(channels: 3, height: 28, width: 28)
    #expect(throws: VitError.self) { try colour.fitted(channels: 1, height: 28, width: 28) }
  }

  @Test("colours are converted as Pillow does, and reversed where asked")
  func colours() throws {
    let fixtures = try NPZ(Fixture.path("preprocess/resize.npz"))
    let rgb = try InterpolationTests.image(fixtures.tensor("rgb"))
    let luma = try InterpolationTests.image(fixtures.tensor("luma"))
    var gray = Preprocess(channels: 1, height: rgb.height, width: rgb.width)
    gray.resize = .none
    let isSame = try gray.raster(rgb) == luma
    #expect(isSame)
    var plain = Preprocess(channels: 3, height: 1, width: 1)
    (plain.mean, plain.deviation, plain.scale, plain.order) = ([0], [1], 1, .bgr)
    #expect(
      try floats(plain, .image(Image(width: 1, height: 1, channels: 3, pixels: [1, 2, 3]))) == [3, 2, 1])
    #expect(try floats(plain, .image(Image(width: 1, height: 1, channels: 1, pixels: [7]))) == [7, 7, 7])
    #expect(throws: VitError.self) {
      try floats(plain, .image(Image(width: 1, height: 1, channels: 2, pixels: [1, 2])))
    }
  }

  @Test("tensors are taken as they are and must have the model's shape")
  func tensors() throws {
    let preprocess = Preprocess(channels: 1, height: 2, width: 2)
    #expect(
      try floats(preprocess, .tensor(Tensor(shape: [1, 2, 2], floats: [1, -2, 3, 4]))) == [1, -2, 3, 4])
    #expect(throws: VitError.self) {
      try floats(preprocess, .tensor(Tensor(shape: [2, 2], floats: [1, 2, 3, 4])))
    }
  }

  @Test("without a crop, an image of another size is an error; a line of pixels cannot make a giant")
  func sizes() throws {
    var preprocess = Preprocess(channels: 1, height: 4, width: 4)
    (preprocess.resize, preprocess.crop) = (.none, .none)
    let image = Image(width: 5, height: 4, channels: 1, pixels: [UInt8](repeating: 0, count: 20))
    #expect(throws: VitError.self) { try preprocess.raster(image) }
    preprocess = Preprocess(channels: 1, height: 4096, width: 4096)
    let line = Image(width: 100_000, height: 1, channels: 1, pixels: [UInt8](repeating: 0, count: 100_000))
    #expect(throws: VitError.self) { try preprocess.raster(line) }
  }
}
