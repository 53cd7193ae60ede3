extension Markup {
  /// A whole page that needs no other file, as HTML.
  static func page(
    title: String, version: String, head: [Markup], sections: [Markup], foot: [Markup]
  ) -> String {
    let body = [
      Markup("header", [:], head), Markup("main", [:], sections), Markup("footer", [:], foot),
    ]
    let page = Markup(
      "html", ["lang": "en"],
      [
        Markup(
          "head", [:],
          [
            Markup("meta", ["charset": "utf-8"]),
            Markup("meta", ["name": "viewport", "content": "width=device-width, initial-scale=1"]),
            Markup("meta", ["name": "generator", "content": "vitc \(version)"]),
            // A browser asks for a picture of the page unless it has one.
            Markup("link", ["rel": "icon", "href": "data:,"]),
            Markup("title", text: title), Markup("style", text: PageStyle.sheet),
          ]), Markup("body", [:], body),
      ])
    return "<!DOCTYPE html>\n" + page.html + "\n"
  }

  /// A part of a page with a heading; `nil` where there is nothing in it.
  static func section(_ title: String, _ content: [Markup?]) -> Markup? {
    let content = content.compactMap { $0 }
    return content.isEmpty ? nil : Markup("section", [:], [Markup("h2", text: title)] + content)
  }

  /// Large numbers, each with what it is.
  static func tiles(_ tiles: [(String, String)]) -> Markup {
    Markup(
      "ul", ["class": "tiles"],
      tiles.map { Markup("li", [:], [Markup("b", text: $0.0), Markup("span", text: $0.1)]) })
  }
}
