// Chosen settings side by side: figures, how each recipe differs from the first, and layers.

function comparisonTable(onClose) {
  const close = button("Close");
  const heading = element("h3");
  const body = element("div", { class: "wb-compare-body", tabindex: 0, role: "region", "aria-label": "Settings side by side" });
  const root = element("div", { class: "wb-compare" }, element("div", { class: "wb-compare-head" }, heading, close), body);
  root.hidden = true;
  close.addEventListener("click", onClose);
  const figures = [
    ["Accuracy", (one) => one.score, (value, one) => percent(value, 2) + (one.high > one.low ? ` (${percent(one.low)} to ${percent(one.high)})` : ""), true],
    ["Packed file", (one) => one.bytes, bytes, false],
    ["Runtime file", (one) => one.runtime_bytes, bytes, false],
    ["Latency, predicted", (one) => one.ms, milliseconds, false],
    ["Latency, measured", (one) => one.measured_ms, milliseconds, false],
    ["Same answers as dense", (one) => one.agreement, (value) => percent(value, 1), true],
    ["Loss", (one) => one.loss, (value) => number(value, 4), false],
  ];
  // Without labels there is no accuracy and no loss, and the share of the dense model's answers stands first.
  const unlabelled = [["Same answers as dense", ...figures[0].slice(1)], ...figures.slice(1, 5)];
  const section = (title, span) => element("tr", { class: "wb-section" }, element("th", { colspan: span, scope: "colgroup" }, title));

  function figureRow([title, read, show, higher], settings) {
    const values = settings.map(read);
    const known = values.filter((value) => value != null);
    const best = known.length > 1 ? (higher ? Math.max(...known) : Math.min(...known)) : null;
    return element("tr", {}, element("th", { scope: "row" }, title), ...values.map((value, at) =>
      element("td", { class: value != null && value === best && known.some((other) => other !== best) ? "wb-better" : "" }, value == null ? "–" : show(value, settings[at]))));
  }
  function layerRow({ name, cells }) {
    const text = (cell) => (cell ? `${bytes(cell[0])} · ${number(cell[2], Number.isInteger(cell[2]) ? 0 : 1)} bit · ${percent(cell[1], 0)} zeros` : "–");
    return element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell, at) => element("td", { class: at && text(cell) !== text(cells[0]) ? "wb-other" : "" }, text(cell))));
  }
  let drawn = null;
  return {
    root,
    show(found) {
      const settings = found.settings ?? [];
      root.hidden = !settings.length;
      if (found === drawn) return;
      drawn = found;
      if (root.hidden) return;
      setText(heading, `${settings.length} settings side by side`);
      const span = settings.length + 1;
      body.replaceChildren(element("table", {},
        element("thead", {}, element("tr", {}, element("th"), ...settings.map((one) => element("th", { scope: "col" }, one.words)))),
        element("tbody", {}, ...(found.judged === "agreement" ? unlabelled : figures).map((figure) => figureRow(figure, settings)),
          section("Recipe, against the first", span),
          element("tr", {}, element("th"), ...found.differences.map((texts, at) => element("td", {}, at ? (texts.length ? element("ul", {}, ...texts.map((text) => element("li", {}, text))) : "the same") : "–"))),
          ...(found.layers.length ? [section("Layers", span), ...found.layers.map(layerRow)] : []))));
      body.focus();
    },
  };
}
