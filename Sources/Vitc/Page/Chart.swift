/// A picture with a title and a text for those who do not see it, and the numbers in a table below.
struct Chart {
  /// What it shows, and what is to be seen there.
  let title, description: String
  /// Its size, in its own units.
  let width: Double
  let height: Double
  /// What is drawn.
  let shapes: [Markup]
  /// The numbers.
  let table: Markup

  /// The figure.
  var markup: Markup {
    Markup(
      "figure", [:],
      [
        Markup("h3", text: title),
        Markup(
          "svg",
          [
            "viewBox": "0 0 \(width.svg) \(height.svg)", "role": "img",
            "aria-label": "\(title). \(description)",
          ], [Markup("title", text: title), Markup("desc", text: description)] + shapes),
        Markup("figcaption", text: description),
        Markup("details", [:], [Markup("summary", text: "the numbers"), table]),
      ])
  }

  static func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: String = "axis") -> Markup
  {
    Markup("line", ["x1": x1.svg, "y1": y1.svg, "x2": x2.svg, "y2": y2.svg, "class": style])
  }

  static func label(
    _ x: Double, _ y: Double, _ text: String, anchor: String = "start", style: String = ""
  ) -> Markup {
    Markup("text", ["x": x.svg, "y": y.svg, "text-anchor": anchor, "class": style], text: text)
  }
}

extension Double {
  /// The number as pictures write it.
  var svg: String { fixed(2) }
}

/// Bars that lie one below the other, each with one or several parts side by side.
struct BarChart {
  /// One row: its name, and for each series a number, or none.
  typealias Row = (name: String, values: [Double?])

  let title, description, unit: String
  let series: [String]
  let rows: [Row]

  private static let (width, left, right, thickness) = (720.0, 150.0, 70.0, 14.0)

  /// The chart; `nil` where there is nothing to show.
  var chart: Chart? {
    let values = rows.flatMap(\.values).compactMap { $0 }
    guard !values.isEmpty else { return nil }
    let count = Double(max(1, series.count))
    let each = BarChart.thickness * count + 8
    let top = Legend.height(series, at: BarChart.left)
    let height = top + each * Double(rows.count) + 28
    let axis = Axis(values, from: BarChart.left, to: BarChart.width - BarChart.right, includesZero: true)
    var shapes: [Markup] = []
    for tick in axis.ticks {
      let x = axis.place(tick)
      shapes.append(Chart.line(x, top, x, height - 24))
      shapes.append(Chart.label(x, height - 8, axis.label(tick), anchor: "middle", style: "faint"))
    }
    if series.count > 1 { shapes += Legend.markup(series, at: BarChart.left) }
    for (place, row) in rows.enumerated() {
      let y = top + each * Double(place) + 4
      shapes.append(
        Chart.label(BarChart.left - 8, y + BarChart.thickness * count / 2 + 4, row.name, anchor: "end"))
      for (number, value) in row.values.enumerated() {
        guard let value, value.isFinite else { continue }
        let (a, b) = (axis.place(0), axis.place(value))
        let bar = y + BarChart.thickness * Double(number)
        shapes.append(
          Markup(
            "rect",
            [
              "x": min(a, b).svg, "y": bar.svg, "width": max(abs(b - a), 0.5).svg,
              "height": (BarChart.thickness - 2).svg, "class": "fill s\(number % 4)",
            ], [Markup("title", text: "\(row.name): \(value.short) \(unit)")]))
        shapes.append(
          Chart.label(
            b + (value < 0 ? -4 : 4), bar + 10, value.short, anchor: value < 0 ? "end" : "start",
            style: "faint"))
      }
    }
    shapes.append(Chart.line(axis.place(0), top, axis.place(0), height - 24, "zero"))
    let names = series.isEmpty ? [unit] : series
    return Chart(
      title: title, description: description, width: BarChart.width, height: height, shapes: shapes,
      table: .table(caption: title, [""] + names, rows.map { [$0.name] + $0.values.map { $0?.short ?? "" } }))
  }
}

/// Names of series with their colours, in rows.
enum Legend {
  /// How high rows of these names are, from the top of a chart.
  static func height(_ series: [String], at left: Double) -> Double {
    series.count > 1 ? 26 + 16 * Double(places(series, at: left).last?.row ?? 0) : 6
  }

  /// Where each name stands.
  private static func places(_ series: [String], at left: Double) -> [(x: Double, row: Int)] {
    var (x, row) = (left, 0)
    return series.map { name in
      let width = 24 + 7.2 * Double(name.count)
      if x + width > 716, x > left { (x, row) = (left, row + 1) }
      defer { x += width }
      return (x, row)
    }
  }

  /// The look of a series: one of four colours, and from the fifth on the line is broken, from the ninth on dotted.
  static func style(_ number: Int) -> String {
    "s\(number % 4)" + ["", " broken", " dotted"][number / 4 % 3]
  }

  static func markup(_ series: [String], at left: Double) -> [Markup] {
    zip(series, places(series, at: left)).enumerated().flatMap { number, entry -> [Markup] in
      let (name, (x, row)) = entry
      let y = 11 + 16 * Double(row)
      return [
        Markup(
          "line",
          [
            "x1": x.svg, "y1": y.svg, "x2": (x + 11).svg, "y2": y.svg,
            "class": "stroke thick \(style(number))",
          ]),
        Chart.label(x + 14, y + 4, name),
      ]
    }
  }
}

/// Points in a plane, those of a series joined by a line where that is asked for.
struct PointChart {
  /// A series of points.
  struct Series {
    let name: String
    let points: [(x: Double, y: Double, label: String)]
    var isLine = false
  }

  let title, description: String
  let x, y: (name: String, isLogarithmic: Bool)
  let series: [Series]

  private static let (width, height, left, bottom) = (720.0, 340.0, 64.0, 44.0)

  /// The chart; `nil` where there is nothing to show.
  var chart: Chart? {
    let points = series.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
    guard !points.isEmpty else { return nil }
    let top = max(28, Legend.height(series.map(\.name), at: PointChart.left))
    let across = Axis(
      points.map(\.x), from: PointChart.left, to: PointChart.width - 16, logarithmic: x.isLogarithmic)
    let up = Axis(
      points.map(\.y), from: PointChart.height - PointChart.bottom, to: top,
      logarithmic: y.isLogarithmic)
    var shapes: [Markup] = []
    for tick in across.ticks {
      let place = across.place(tick)
      shapes.append(Chart.line(place, top, place, up.from))
      shapes.append(
        Chart.label(place, up.from + 16, across.label(tick), anchor: "middle", style: "faint"))
    }
    for tick in up.ticks {
      let place = up.place(tick)
      shapes.append(Chart.line(across.from, place, across.to, place))
      shapes.append(Chart.label(across.from - 6, place + 4, up.label(tick), anchor: "end", style: "faint"))
    }
    shapes.append(
      Chart.label((across.from + across.to) / 2, PointChart.height - 6, x.name, anchor: "middle"))
    if series.count < 2 { shapes.append(Chart.label(4, 15, y.name, style: "faint")) }
    if series.count > 1 { shapes += Legend.markup(series.map(\.name), at: PointChart.left) }
    for (number, series) in series.enumerated() { shapes += draw(series, number, across, up) }
    return Chart(
      title: title, description: description, width: PointChart.width, height: PointChart.height,
      shapes: shapes,
      table: .table(
        caption: title, ["", x.name, y.name],
        series.flatMap { series in
          series.points.map { [$0.label.isEmpty ? series.name : $0.label, $0.x.short, $0.y.short] }
        }))
  }

  private func draw(_ series: Series, _ number: Int, _ across: Axis, _ up: Axis) -> [Markup] {
    let points = series.points.filter { $0.x.isFinite && $0.y.isFinite }
    let places = points.map { (across.place($0.x), up.place($0.y)) }
    if series.isLine {
      let path = places.map { "\($0.0.svg),\($0.1.svg)" }.joined(separator: " ")
      return [
        Markup(
          "polyline", ["points": path, "class": "stroke \(Legend.style(number))"],
          [Markup("title", text: series.name)])
      ]
    }
    return zip(points, places).flatMap { point, place -> [Markup] in
      let dot = Markup(
        "circle",
        ["cx": place.0.svg, "cy": place.1.svg, "r": "4.5", "class": "fill s\(number % 4)"],
        [Markup("title", text: "\(point.label): \(point.x.short), \(point.y.short)")])
      let isNamed = !point.label.isEmpty && points.count <= 24
      return [dot] + (isNamed ? [Chart.label(place.0 + 7, place.1 + 4, point.label, style: "faint")] : [])
    }
  }
}
