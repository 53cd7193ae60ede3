internal import VitIR
internal import VitOps

/// Mixers of a hybrid, and the same with fewer channels, each solved in closed form.
struct NarrowMixers {
  /// As they are in the hybrid.
  let whole: [MixerNode]
  /// For each layer what can stand there, falling in width; the first is the whole one.
  private(set) var byLayer: [(layer: Int, widths: [MixerNode])]

  /// The parts of a mixer's width that are tried.
  private static let parts = [0.75, 0.5, 0.25]

  /// Of mixers that need no steps, those with fewer channels; of others none.
  init(
    _ whole: [MixerNode], of teacher: Teacher, images: Int, context: PassContext
  ) throws {
    self.whole = whole
    byLayer = whole.map { ($0.layer.index, [$0]) }
    for part in NarrowMixers.parts {
      var hybrid = Hybrid(of: teacher)
      do {
        let swaps = try NarrowMixers.swaps(whole, part: part)
        guard !swaps.isEmpty else { return }
        for swap in swaps { _ = try swap.run(on: &hybrid, context: context) }
        _ = try Distil(steps: 0, images: images).run(on: &hybrid, context: context)
      } catch let error as VitError where error.kind == .usage {
        // So many channels are no whole number of each head.
        continue
      }
      for mixer in try MixerNode.all(in: hybrid, teacher: teacher) {
        guard let place = byLayer.firstIndex(where: { $0.layer == mixer.layer.index }),
          let last = byLayer[place].widths.last, mixer.width < last.width
        else { continue }
        byLayer[place].widths.append(mixer)
      }
    }
  }

  /// Mixers by their width, in order.
  static func alike(_ mixers: [MixerNode]) -> [[MixerNode]] {
    Set(mixers.map(\.width)).sorted().map { width in mixers.filter { $0.width == width } }
  }

  /// The passes that put the mixers of layers in with a part of their channels: one for all that are alike. None for those that
  /// need steps, or have no channels of their own.
  static func swaps(_ mixers: [MixerNode], part: Double) throws -> [Swap] {
    var swaps: [(text: String, swap: Swap, layers: [Int])] = []
    for mixer in mixers {
      guard let text = mixer.layer.candidates.last?.mixer, mixer.region.mixer.values != nil,
        let swap = try Swap(again: text, width: part * mixer.relativeWidth)
      else { continue }
      let same = swaps.firstIndex { $0.text == text }
      if let same {
        swaps[same].layers.append(mixer.layer.index)
      } else {
        swaps.append((text, swap, [mixer.layer.index]))
      }
    }
    return swaps.map { entry in
      var swap = entry.swap
      swap.layers = .listed(entry.layers)
      return swap
    }
  }
}

extension MixerNode {
  /// The channels that its last map reads.
  var width: Int {
    region.readout?.weight.map { region.constants[$0].tensor.shape[1] } ?? 0
  }

  /// Its width as a fraction of its tokens'; 1 where it has no values of its own.
  fileprivate var relativeWidth: Double {
    guard let weight = region.mixer.values?.weight.flatMap(region.constant) else { return 1 }
    return Double(width) / Double(max(1, region.constants[weight].tensor.shape[1]))
  }
}

extension Swap {
  /// What put a mixer in that is noted as `text`, with another width; `nil` where it needs steps.
  fileprivate init?(again text: String, width: Double) throws {
    let written = try NestedOption(text)
    var own = written.attributes
    func word(_ name: String) -> String? {
      defer { own[name] = nil }
      if case .string(let word)? = own[name] { return word }
      return nil
    }
    let (order, placement, prefix) = (word("order"), word("placement"), word("prefix"))
    own["width"] = nil
    own["heads"] = nil
    let request = NestedOption(written.name, own).description
    let kind = try MixerRequest(request)
    guard kind.kind.isSolved else { return nil }
    self.init(
      mixer: request, width: width, order: order.flatMap(Order.init) ?? .bidirectional,
      placement: placement.flatMap(ScanOrder.Placement.init) ?? .last,
      prefix: try prefix.map(PrefixRows.init) ?? .automatic)
  }
}
