/// How pages look: light and dark by the reader's settings, one column on a phone, charts of one hue on paper.
enum PageStyle {
  /// The style sheet. Colours of series are told apart by lightness, too, for those who see no hues.
  static let sheet = """
    :root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --faint: #5b6470; --line: #d4d9df; --panel: #f4f6f8;
      --a: #1f5fbf; --b: #c2571a; --c: #2e7d4f; --d: #8a3d8f; --good: #1e7a3c; --bad: #b3261e; }
    @media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e9ed; --faint: #a2abb6; --line: #39414b;
      --panel: #1d2228; --a: #7db0ff; --b: #ff9e64; --c: #74d39b; --d: #d9a0de; --good: #74d39b; --bad: #ff8f85; } }
    * { box-sizing: border-box; }
    body { margin: 0 auto; max-width: 66rem; padding: 1rem; background: var(--paper); color: var(--ink);
      font: 1rem/1.5 system-ui, sans-serif; }
    h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.25rem 0 .5rem; }
    h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; } p { margin: .4rem 0; max-width: 46rem; } a { color: var(--a); }
    header p, footer, figcaption, caption { color: var(--faint); } figcaption, caption, footer { font-size: .9rem; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; padding: 0; margin: 1rem 0;
      list-style: none; }
    .tiles li { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem; }
    .tiles b { display: block; font-size: 1.35rem; line-height: 1.3; } .tiles span { color: var(--faint); font-size: .85rem; }
    .wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
    th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
    thead th { border-bottom-width: 2px; } tbody th { font-weight: 500; } caption { text-align: left; padding: .2rem 0; }
    td.n { text-align: right; font-variant-numeric: tabular-nums; }
    figure { margin: 1rem 0; } svg { display: block; width: 100%; height: auto; max-width: 46rem; }
    svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .faint { fill: var(--faint); }
    svg .axis { stroke: var(--line); stroke-width: 1; fill: none; } svg .zero { stroke: var(--faint); stroke-width: 1; }
    .s0 { --s: var(--a); } .s1 { --s: var(--b); } .s2 { --s: var(--c); } .s3 { --s: var(--d); }
    svg .fill { fill: var(--s); } svg .stroke { stroke: var(--s); fill: none; stroke-width: 2; }
    svg .thick { stroke-width: 8; }
    svg .broken { stroke-dasharray: 5 3; } svg .dotted { stroke-dasharray: 2 2; } svg image { image-rendering: pixelated; }
    pre { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem; overflow-x: auto;
      white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
    summary { cursor: pointer; color: var(--faint); font-size: .9rem; }
    .maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .75rem; }
    .pair { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; grid-column: span 2; }
    .maps figure { margin: 0; } .maps svg { max-width: 14rem; }
    @media print { :root { --paper: #fff; --ink: #000; --faint: #444; --line: #bbb; --panel: #fff; } body { max-width: none; }
      h2 { break-after: avoid; } figure, table { break-inside: avoid; } details > * { display: block; } .wide { overflow: visible; } }
    """
}
