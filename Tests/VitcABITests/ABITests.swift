import CVitc
import Foundation
import Testing
import VitIR
import VitTestSupport
import Vitc

/// What a call left: its status, and its error as text.
struct Ended: Equatable {
  let status: Int
  let code: String?
  let text: String?

  init(_ call: (UnsafeMutablePointer<OpaquePointer?>) -> vitc_status) {
    var error: OpaquePointer?
    status = Int(call(&error))
    code = vitc_error_code(error).map { String(cString: $0) }
    text = vitc_error_text(error).map { String(cString: $0) }
    vitc_error_free(error)
  }
}

/// A model that is freed when it is let go.
final class OpenModel {
  let pointer: OpaquePointer

  init(_ path: String, options: UnsafePointer<vitc_model_options>? = nil) throws {
    var model: OpaquePointer?
    let ended = Ended { vitc_model_open(path, options, &model, $0) }
    #expect(ended.status == VITC_OK && ended.code == nil, "\(ended)")
    pointer = try #require(model)
  }

  deinit { vitc_model_free(pointer) }

  func session(threads: Int32 = 1) throws -> OpenSession { try OpenSession(self, threads) }
}

/// A session that is freed when it is let go.
final class OpenSession: @unchecked Sendable {
  let pointer: OpaquePointer

  init(_ model: OpenModel, _ threads: Int32) throws {
    var session: OpaquePointer?
    let ended = Ended { vitc_session_open(model.pointer, threads, &session, $0) }
    #expect(ended.status == VITC_OK, "\(ended)")
    pointer = try #require(session)
  }

  /// One that is open already.
  init(_ pointer: OpaquePointer) { self.pointer = pointer }

  deinit { vitc_session_free(pointer) }

  /// Runs on one input of floats with one output of so many floats.
  func run(_ input: [Float], _ shape: [Int64], into count: Int, _ result: [Int64]) -> (Ended, [Float]) {
    var (input, output) = (input, [Float](repeating: .nan, count: count))
    let ended = input.withUnsafeMutableBytes { given in
      output.withUnsafeMutableBytes { taken in
        shape.withUnsafeBufferPointer { shape in
          result.withUnsafeBufferPointer { result in
            var from = vitc_tensor(
              type: vitc_type(VITC_F32), data: given.baseAddress, rank: shape.count, shape: shape.baseAddress,
              strides: nil)
            var to = vitc_tensor(
              type: vitc_type(VITC_F32), data: taken.baseAddress, rank: result.count,
              shape: result.baseAddress, strides: nil)
            return Ended { vitc_session_run(pointer, &from, 1, &to, 1, $0) }
          }
        }
      }
    }
    return (ended, output)
  }
}

/// A tiny teacher with the input of a batch of its own, and what a session of the Swift library makes of that.
struct Known {
  let path = Fixture.path("compat/v1/teacher.vmod")
  let shape: [Int64]
  let input, output: [Float]
  let result: [Int64]

  init(count: Int = 3) throws {
    let model = try Model(contentsOf: path)
    let shape = try model.inputShapes(batch: count)[0]
    var random = SplitMix(seed: 7)
    input = (0..<shape.reduce(1, *)).map { _ in Float(random.uniform()) - 0.5 }
    let tensor = try Session(model, threads: 1).run(Tensor(shape: shape, floats: input))
    (self.shape, output, result) = (shape.map(Int64.init), try tensor.floats(), tensor.shape.map(Int64.init))
  }
}

@Suite("the C library")
struct ABITests {
  /// The names of all functions that the header declares, in its order.
  static let declared: [String] = {
    let path = Fixture.path("../Sources/CVitc/include/vitc.h")
    let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    return text.matches(of: /\b(vitc_[a-z_]+)\(\n?/).map { String($0.1) }
  }()

  @Test("its functions are those that were promised")
  func symbols() throws {
    #expect(Set(Self.declared).count == Self.declared.count)
    Golden.expect(Self.declared.sorted().joined(separator: "\n") + "\n", "abi/symbols.txt")
    #expect(String(cString: vitc_version()) == Version.current)
    #expect(vitc_abi_version() == Int32(1000 * VITC_ABI_MAJOR + VITC_ABI_MINOR))
  }

  @Test("a model says what goes in and comes out, and outlives nobody's session")
  func inspects() throws {
    let known = try Known()
    var model: OpenModel? = try OpenModel(known.path)
    let pointer = try #require(model?.pointer)
    #expect(vitc_model_input_count(pointer) == 1 && vitc_model_output_count(pointer) == 1)
    let input = try #require(vitc_model_input(pointer, 0)?.pointee)
    let own = try Model(contentsOf: known.path)
    #expect(String(cString: input.name) == own.graph[own.graph.inputs[0]].name)
    #expect(input.type == VITC_F32 && input.rank == known.shape.count)
    #expect((0..<input.rank).map { input.shape[$0] } == [-1] + known.shape.dropFirst())
    #expect(vitc_model_input(pointer, 1) == nil && vitc_model_output(pointer, -1) == nil)
    #expect(vitc_model_parameter_count(pointer) == own.graph.parameterCount)
    #expect(vitc_model_label(pointer, 1 << 40) == nil && vitc_model_message(pointer, -1) == nil)
    let session = try #require(try model?.session())
    model = nil
    #expect(session.run(known.input, known.shape, into: known.output.count, known.result).1 == known.output)
  }

  @Test(
    "it runs as a session of the Swift library does, from a path and from memory, on several threads at once")
  func runs() async throws {
    let known = try Known()
    let bytes = try Data(contentsOf: URL(fileURLWithPath: known.path))
    var other: OpaquePointer?
    let ended = bytes.withUnsafeBytes { bytes in
      Ended { vitc_model_open_memory(bytes.baseAddress, bytes.count, "bytes", nil, &other, $0) }
    }
    #expect(ended.status == VITC_OK)
    defer { vitc_model_free(other) }
    var inMemory: OpaquePointer?
    #expect(vitc_session_open(other, 2, &inMemory, nil) == VITC_OK)
    defer { vitc_session_free(inMemory) }
    let session = try OpenModel(known.path).session(threads: 2)
    var (extents, rank) = ([Int64](repeating: 0, count: 4), 4)
    known.shape.withUnsafeBufferPointer { shape in
      var tensor = vitc_tensor(
        type: vitc_type(VITC_F32), data: nil, rank: shape.count, shape: shape.baseAddress, strides: nil)
      #expect(vitc_session_output_shape(inMemory, &tensor, 1, 0, &extents, &rank, nil) == VITC_OK)
    }
    #expect(Array(extents[..<rank]) == known.result)
    await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<4 {
        group.addTask {
          (0..<5).allSatisfy { _ in
            session.run(known.input, known.shape, into: known.output.count, known.result).1 == known.output
          }
        }
      }
      for await isSame in group { #expect(isSame) }
    }
  }

  @Test("tensors may have gaps, run backwards and lie anywhere; doubles become floats")
  func strides() throws {
    let known = try Known(count: 2)
    let session = try OpenModel(known.path).session()
    // Images in the other order, each number a double with one byte before it, so that none is aligned.
    let (images, each) = (Int(known.shape[0]), known.input.count / Int(known.shape[0]))
    var memory = [UInt8](repeating: 0, count: known.input.count * 9 + 9)
    for (place, value) in known.input.enumerated() {
      let (image, rest) = place.quotientAndRemainder(dividingBy: each)
      let start = ((images - 1 - image) * each + rest) * 9 + 1
      withUnsafeBytes(of: Double(value)) { bytes in memory.replaceSubrange(start..<start + 8, with: bytes) }
    }
    var steps = [Int64](repeating: 9, count: known.shape.count)
    for axis in known.shape.indices.dropLast().reversed() {
      steps[axis] = steps[axis + 1] * known.shape[axis + 1]
    }
    steps[0] *= -1
    // Of the output, column by column.
    var output = [Float](repeating: .nan, count: known.output.count)
    let turned = [Int64(4), Int64(4 * images)]
    let ended = memory.withUnsafeMutableBytes { memory in
      output.withUnsafeMutableBytes { taken in
        known.shape.withUnsafeBufferPointer { shape in
          known.result.withUnsafeBufferPointer { result in
            steps.withUnsafeBufferPointer { steps in
              turned.withUnsafeBufferPointer { turned in
                var from = vitc_tensor(
                  type: vitc_type(VITC_F64),
                  data: memory.baseAddress.map { $0 + (images - 1) * each * 9 + 1 },
                  rank: shape.count, shape: shape.baseAddress, strides: steps.baseAddress)
                var to = vitc_tensor(
                  type: vitc_type(VITC_F32), data: taken.baseAddress, rank: 2, shape: result.baseAddress,
                  strides: turned.baseAddress)
                return Ended { vitc_session_run(session.pointer, &from, 1, &to, 1, $0) }
              }
            }
          }
        }
      }
    }
    #expect(ended.status == VITC_OK, "\(ended)")
    let classes = Int(known.result[1])
    for image in 0..<images {
      #expect(
        (0..<classes).map { output[$0 * images + image] }
          == Array(known.output[image * classes..<(image + 1) * classes]))
    }
  }

  @Test("where the batch is fixed, other numbers of images run in parts")
  func parts() throws {
    let model = try OpenModel(Fixture.path("inputs/fixed4.onnx"))
    let own = try Model(contentsOf: Fixture.path("inputs/fixed4.onnx"))
    let shape = [6] + (try own.inputShapes()[0].dropFirst())
    let values = (0..<shape.reduce(1, *)).map { Float($0 % 17) / 17 }
    let wanted = try Session(own, threads: 1).run(Tensor(shape: shape, floats: values))
    let found = try model.session().run(
      values, shape.map(Int64.init), into: wanted.count, wanted.shape.map(Int64.init))
    let floats = try wanted.floats()
    #expect(found.0.status == VITC_OK && found.1 == floats, "\(found.0)")
  }

  @Test("what makes no sense is an error that says so")
  func misuse() throws {
    let known = try Known(count: 1)
    var model: OpaquePointer?
    #expect(Ended { vitc_model_open(nil, nil, &model, $0) }.status == VITC_USAGE)
    #expect(Ended { vitc_model_open(known.path, nil, nil, $0) }.status == VITC_USAGE)
    let missing = Ended { vitc_model_open("/nowhere/m.vmod", nil, &model, $0) }
    #expect(missing.status == VITC_INPUT && missing.code == "missing-file")
    #expect(missing.text?.contains("/nowhere/m.vmod: cannot be opened") ?? false)
    #expect(model == nil && vitc_model_open("/nowhere/m.vmod", nil, &model, nil) == VITC_INPUT)
    let damaged = Ended { vitc_model_open_memory("VITC", 4, "some bytes", nil, &model, $0) }
    #expect(damaged.status == VITC_INPUT && damaged.text?.contains("some bytes") ?? false, "\(damaged)")
    #expect(Ended { vitc_model_open_memory("", -1, nil, nil, &model, $0) }.status == VITC_USAGE)
    var options = vitc_model_options()
    #expect(Ended { vitc_model_open(known.path, &options, &model, $0) }.code == "argument")
    options.size = MemoryLayout<vitc_model_options>.size
    options.threads = -1
    #expect(Ended { vitc_model_open(known.path, &options, &model, $0) }.status == VITC_USAGE)
    options.threads = 0
    "int3".withCString {
      options.precision = $0
      #expect(Ended { vitc_model_open(known.path, &options, &model, $0) }.status == VITC_USAGE)
    }
    options.precision = nil
    options.input_shape_count = 1
    #expect(Ended { vitc_model_open(known.path, &options, &model, $0) }.status == VITC_USAGE)
    #expect(model == nil)

    let session = try OpenModel(known.path).session()
    #expect(Ended { vitc_session_run(nil, nil, 1, nil, 1, $0) }.status == VITC_USAGE)
    #expect(Ended { vitc_session_run(session.pointer, nil, 1, nil, 1, $0) }.status == VITC_USAGE)
    #expect(Ended { vitc_session_run(session.pointer, nil, 0, nil, 0, $0) }.status == VITC_USAGE)
    for shape in [
      [], [-1, 2], [1, 1, 1], [.max, .max, 2], [0, 1 << 40, 1 << 40], [0, 1, 28, 28],
      [Int64](repeating: 1, count: 17),
    ] {
      let ended = session.run(known.input, shape, into: known.output.count, known.result).0
      #expect(ended.status != VITC_OK, "\(shape)")
    }
    #expect(session.run(known.input, known.shape, into: 1, [1]).0.code == "output-type")
    #expect(vitc_model_input(nil, 0) == nil && vitc_model_label_count(nil) == 0)
    vitc_model_free(nil)
    vitc_session_free(nil)
    vitc_error_free(nil)
  }

  @Test("a tensor larger than memory is refused, also where all of its elements are one")
  func broadcast() throws {
    let session = try OpenModel(Fixture.path("compat/v1/teacher.vmod")).session()
    let (shape, strides): ([Int64], [Int64]) = ([1 << 33, 3, 8, 8], [0, 0, 0, 0])
    var (element, result) = ([Float(1)], [Float](repeating: 0, count: 10))
    let ended = element.withUnsafeMutableBytes { element in
      result.withUnsafeMutableBytes { result in
        shape.withUnsafeBufferPointer { shape in
          strides.withUnsafeBufferPointer { strides in
            var from = vitc_tensor(
              type: vitc_type(VITC_F32), data: element.baseAddress, rank: 4, shape: shape.baseAddress,
              strides: strides.baseAddress)
            var to = vitc_tensor(
              type: vitc_type(VITC_F32), data: result.baseAddress, rank: 0, shape: nil, strides: nil)
            return Ended { vitc_session_run(session.pointer, &from, 1, &to, 1, $0) }
          }
        }
      }
    }
    #expect(ended.status != VITC_OK, "\(ended)")
  }

  @Test(
    "a batch of none, or of more images than there can be, in a file is no trap",
    arguments: ["0", "1099511627776"])
  func oddBatches(batch: String) throws {
    let text = "graph \"odd\" (%x: f32[\(batch), 1, 1, 1]) -> (x = %x) {\n}\n"
    var model: OpaquePointer?
    let opened = Ended { vitc_model_open_memory(text, text.utf8.count, nil, nil, &model, $0) }
    guard opened.status == VITC_OK else {
      #expect(opened.status == VITC_INPUT, "\(opened)")
      return
    }
    defer { vitc_model_free(model) }
    var session: OpaquePointer?
    #expect(vitc_session_open(model, 1, &session, nil) == VITC_OK)
    let own = OpenSession(try #require(session))
    let ended = own.run([1, 2], [2, 1, 1, 1], into: 2, [2, 1, 1, 1]).0
    #expect(ended.status != VITC_OK, "\(ended)")
  }

  @Test("images are prepared as by the Swift library")
  func images() throws {
    let path = Fixture.path("teacher/fashion-vit.onnx")
    let model = try OpenModel(path)
    var (extents, rank) = ([Int64](repeating: 0, count: 3), 3)
    #expect(vitc_image_shape(model.pointer, &extents, &rank, nil) == VITC_OK)
    let preprocessor = try Preprocessor(Model(contentsOf: path))
    #expect(Array(extents[..<rank]) == preprocessor.shape.map(Int64.init))
    let count = preprocessor.shape.reduce(1, *)
    let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: Fixture.path("fuzz/images/gray.png"))))
    var (found, wanted) = ([Float](repeating: 0, count: count), [Float](repeating: 0, count: count))
    try wanted.withUnsafeMutableBufferPointer { try preprocessor.prepare(encoded: bytes, into: $0) }
    let ended = Ended { vitc_image_prepare(model.pointer, bytes, bytes.count, &found, count, $0) }
    #expect(ended.status == VITC_OK && found == wanted && wanted.contains { $0 != 0 }, "\(ended)")
    #expect(
      Ended { vitc_image_prepare(model.pointer, bytes, bytes.count, &found, count - 1, $0) }.code
        == "sample-shape")
    #expect(Ended { vitc_image_prepare(model.pointer, bytes, 9, &found, count, $0) }.status == VITC_INPUT)
    // Rows with a byte behind each are as good as those without.
    let (width, height) = (Int(extents[2]), Int(extents[1]))
    let pixels = (0..<height * (width + 1)).map { UInt8($0 * 7 % 256) }
    let packed = (0..<height).flatMap { pixels[$0 * (width + 1)..<$0 * (width + 1) + width] }
    try wanted.withUnsafeMutableBufferPointer {
      try preprocessor.prepare(pixels: packed, width: width, height: height, channels: 1, into: $0)
    }
    func prepare(_ width: Int, _ channels: Int, _ rowBytes: Int) -> Ended {
      Ended {
        vitc_image_prepare_pixels(
          model.pointer, pixels, width, height, channels, rowBytes, &found, count, $0)
      }
    }
    #expect(prepare(width, 1, width + 1).status == VITC_OK && found == wanted)
    #expect(prepare(width, 2, width + 1).status == VITC_USAGE)
    #expect(prepare(width, 1, width - 1).status == VITC_USAGE)
    #expect(prepare(.max, 3, .max).status == VITC_USAGE)
  }
}
