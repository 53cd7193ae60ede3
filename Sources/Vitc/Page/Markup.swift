/// A piece of an HTML page, or of an SVG picture in it. Texts and attributes are escaped when it is written.
indirect enum Markup: Hashable, Sendable {
  /// An element with its attributes and what is in it.
  case element(String, [Attribute], [Markup])
  /// Text.
  case text(String)

  /// An attribute.
  struct Attribute: Hashable, Sendable {
    let name, value: String
  }

  /// Elements that nothing may be in and that have no end.
  private static let void: Set<String> = ["meta", "br", "hr", "img", "link"]

  /// The HTML of it.
  var html: String {
    var text = ""
    write(to: &text)
    return text
  }

  private func write(to text: inout String) {
    switch self {
    case .text(let words): text += words.asXML
    case .element(let name, let attributes, let children):
      text += "<\(name)"
      for attribute in attributes { text += " \(attribute.name)=\"\(attribute.value.asXML)\"" }
      if Markup.void.contains(name) {
        text += "/>"
        return
      }
      text += ">"
      // What is in a style sheet is not read as markup.
      if name == "style" {
        for case .text(let words) in children { text += words }
      } else {
        for child in children { child.write(to: &text) }
      }
      text += "</\(name)>"
      if Markup.blocks.contains(name) { text += "\n" }
    }
  }

  /// Elements behind which the source has a line break.
  private static let blocks: Set<String> = [
    "head", "header", "main", "footer", "section", "table", "tr", "p", "h1", "h2", "h3", "ul", "li", "figure",
    "figcaption",
    "details", "summary", "div", "svg", "style", "title", "meta", "pre", "body",
  ]
}

extension Markup: ExpressibleByStringLiteral {
  /// Text.
  init(stringLiteral value: String) { self = .text(value) }

  /// An element.
  init(_ name: String, _ attributes: KeyValuePairs<String, String> = [:], _ children: [Markup] = []) {
    self = .element(name, attributes.map { Attribute(name: $0.key, value: $0.value) }, children)
  }

  /// An element with a text in it.
  init(_ name: String, _ attributes: KeyValuePairs<String, String> = [:], text: String) {
    self.init(name, attributes, [.text(text)])
  }

  /// A table with a row of heads; cells that begin with a digit or a sign are set as numbers.
  static func table(caption: String? = nil, _ heads: [String], _ rows: [[String]]) -> Markup {
    let head = Markup("tr", [:], heads.map { Markup("th", ["scope": "col"], text: $0) })
    let body = rows.map { row in
      Markup(
        "tr", [:],
        row.enumerated().map { place, cell in
          place == 0
            ? Markup("th", ["scope": "row"], text: cell)
            : Markup("td", cell.isFigure ? ["class": "n"] : [:], text: cell)
        })
    }
    let title = caption.map { [Markup("caption", text: $0)] } ?? []
    return Markup(
      "div",
      [
        "class": "wide", "tabindex": "0", "role": "region",
        "aria-label": caption ?? heads.joined(separator: ", "),
      ],
      [Markup("table", [:], title + [Markup("thead", [:], [head]), Markup("tbody", [:], body)])])
  }
}

extension String {
  /// Whether it looks like a number, with a sign or a unit.
  fileprivate var isFigure: Bool {
    guard let first = drop(while: { "+-−–±< ".contains($0) }).first else { return self == "–" || self == "-" }
    return first.isNumber
  }
}
