public import CVitc
internal import Synchronization
internal import VitIR
internal import VitPasses
internal import Vitc

/// A model as C sees it, with what it is asked about.
final class ModelHandle: Handle {
  let model: Model
  let inputs, outputs: [Value]
  let labels, messages: [CText]
  private let settings: [(key: String, value: String)]
  private let prepared = Mutex<Preprocessor?>(nil)

  /// What goes in or comes out.
  final class Value {
    /// What C reads; nobody changes it.
    let pointer: UnsafePointer<vitc_value>
    private let value: UnsafeMutablePointer<vitc_value>
    private let name: CText
    private let extents: UnsafeMutableBufferPointer<Int64>

    init(_ name: String, _ type: TensorType) throws(VitError) {
      self.name = CText(name)
      extents = .allocate(capacity: max(1, type.rank))
      extents.initialize(repeating: -1)
      for (axis, extent) in type.shape.enumerated() {
        if let count = extent.fixedValue { extents[axis] = Int64(count) }
      }
      value = .allocate(capacity: 1)
      value.initialize(
        to: vitc_value(
          name: self.name.pointer, type: try ElementTypes.number(of: type.element), rank: type.rank,
          shape: UnsafePointer(extents.baseAddress)))
      pointer = UnsafePointer(value)
    }

    deinit {
      value.deallocate()
      extents.deallocate()
    }
  }

  init(_ model: Model, settings: [(key: String, value: String)]) throws {
    (self.model, self.settings) = (model, settings)
    let graph = model.graph
    inputs = try graph.inputs.map { try Value(graph[$0].name, graph.type($0)) }
    outputs = try graph.outputs.map { try Value($0.name, graph.type($0.value)) }
    labels = (model.labels ?? []).map { CText($0) }
    messages = model.diagnostics.map { CText($0.text) }
  }

  /// What prepares its images, made when it is first asked for.
  func preprocessor() throws -> Preprocessor {
    try prepared.withLock { known in
      if let known { return known }
      let made = try Preprocessor(model, settings: settings)
      known = made
      return made
    }
  }
}

/// The numbers that types of elements have in `vitc.h`.
enum ElementTypes {
  private static let all: [(type: ElementType, number: Int)] = [
    (.f32, VITC_F32), (.f64, VITC_F64), (.f16, VITC_F16), (.bf16, VITC_BF16), (.i64, VITC_I64),
    (.i32, VITC_I32), (.i16, VITC_I16), (.i8, VITC_I8), (.u64, VITC_U64), (.u32, VITC_U32),
    (.u16, VITC_U16), (.u8, VITC_U8), (.bool, VITC_BOOL),
  ]

  /// The type of a number that C gives; throws for one that stands for none.
  static func type(_ number: vitc_type) throws(VitError) -> ElementType {
    guard let found = all.first(where: { $0.number == Int(number) }) else {
      throw misuse("a tensor has the type \(number), expected one of vitc_type")
    }
    return found.type
  }

  /// The number of a type; throws for those in which only weights are stored.
  static func number(of type: ElementType) throws(VitError) -> vitc_type {
    guard let found = all.first(where: { $0.type == type }) else {
      throw VitError("an input or output has elements of the type \(type.rawValue)", code: "element-type")
    }
    return vitc_type(found.number)
  }
}

/// What was said of how a model is read, read as far as its size goes.
private struct ModelOptions {
  var precision: Precision?
  var inputShapes: [String] = []
  var settings: [(key: String, value: String)] = []
  var threads: Int?

  init(_ options: UnsafePointer<vitc_model_options>?) throws(VitError) {
    guard let given = options else { return }
    let options = try sized(given, vitc_model_options(), "options")
    if let word = options.precision.map({ text($0) }) {
      guard let known = Precision(rawValue: word) else {
        let names = Precision.allCases.map(\.rawValue).joined(separator: ", ")
        throw misuse("precision cannot be '\(word)' (expected \(names))")
      }
      precision = known
    }
    inputShapes = try texts(options.input_shapes, options.input_shape_count, "input_shapes")
    for setting in try texts(options.preprocessing, options.preprocessing_count, "preprocessing") {
      guard let equals = setting.firstIndex(of: "=") else {
        throw misuse("preprocessing cannot be '\(setting)' (expected KEY=VALUE)")
      }
      settings.append((String(setting[..<equals]), String(setting[setting.index(after: equals)...])))
    }
    try Samples.check(settings)
    threads = try ThreadCount(options.threads).value
  }

  func finish(_ model: Model) throws -> ModelHandle {
    try ModelHandle(precision.map { try model.computing(in: $0) } ?? model, settings: settings)
  }
}

/// How many threads; 0 for as many as cores may be used.
struct ThreadCount {
  let value: Int?

  init(_ number: Int32) throws(VitError) {
    guard (0...1024).contains(number) else { throw misuse("\(number) threads, expected 0 to 1024") }
    value = number == 0 ? nil : Int(number)
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_open(
  _ path: UnsafePointer<CChar>!, _ options: UnsafePointer<vitc_model_options>!,
  _ model: UnsafeMutablePointer<OpaquePointer?>!, _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let (path, target) = (text(try required(path, "path")), try required(model, "model"))
    let options = try ModelOptions(options)
    let read = try Model(contentsOf: path, inputShapes: options.inputShapes, threads: options.threads)
    target.pointee = try options.finish(read).handedOver()
    return done
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_open_memory(
  _ bytes: UnsafeRawPointer!, _ size: Int, _ name: UnsafePointer<CChar>!,
  _ options: UnsafePointer<vitc_model_options>!, _ model: UnsafeMutablePointer<OpaquePointer?>!,
  _ error: UnsafeMutablePointer<OpaquePointer?>!
) -> vitc_status {
  status(error) {
    let (bytes, target) = (try required(bytes, "bytes"), try required(model, "model"))
    guard size >= 0 else { throw misuse("a model has \(UInt(bitPattern: size)) bytes") }
    let options = try ModelOptions(options)
    let read = try Model(
      bytes: UnsafeRawBufferPointer(start: bytes, count: size), named: name.map { text($0) } ?? "model",
      inputShapes: options.inputShapes, threads: options.threads)
    target.pointee = try options.finish(read).handedOver()
    return done
  }
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_free(_ model: OpaquePointer!) { ModelHandle.free(model) }

/// See `vitc.h`.
@c @implementation
public func vitc_model_input_count(_ model: OpaquePointer!) -> Int {
  model.map { ModelHandle.at($0).inputs.count } ?? 0
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_output_count(_ model: OpaquePointer!) -> Int {
  model.map { ModelHandle.at($0).outputs.count } ?? 0
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_input(_ model: OpaquePointer!, _ index: Int) -> UnsafePointer<vitc_value>! {
  model.flatMap { ModelHandle.at($0).inputs.entry(index)?.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_output(_ model: OpaquePointer!, _ index: Int) -> UnsafePointer<vitc_value>! {
  model.flatMap { ModelHandle.at($0).outputs.entry(index)?.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_parameter_count(_ model: OpaquePointer!) -> Int64 {
  model.map { Int64(ModelHandle.at($0).model.graph.parameterCount) } ?? 0
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_label_count(_ model: OpaquePointer!) -> Int {
  model.map { ModelHandle.at($0).labels.count } ?? 0
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_label(_ model: OpaquePointer!, _ index: Int) -> UnsafePointer<CChar>! {
  model.flatMap { ModelHandle.at($0).labels.entry(index)?.pointer }
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_message_count(_ model: OpaquePointer!) -> Int {
  model.map { ModelHandle.at($0).messages.count } ?? 0
}

/// See `vitc.h`.
@c @implementation
public func vitc_model_message(_ model: OpaquePointer!, _ index: Int) -> UnsafePointer<CChar>! {
  model.flatMap { ModelHandle.at($0).messages.entry(index)?.pointer }
}

extension Array {
  /// The entry of a number that C gives, where there is one.
  fileprivate func entry(_ index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}
