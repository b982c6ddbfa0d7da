// Which class is taken for which: the difference of two confusion matrices, or either of them, and what grew most.

function confusionPart(model) {
  const form = segments("Matrix", { moved: "Difference", before: "Before", after: "After" }, "moved", () => draw());
  const table = element("table", { class: "wb-matrix" });
  const told = element("ol", { class: "wb-told" });
  const hint = element("p", { class: "wb-muted" });
  const root = element("div", { class: "wb-part wb-confusion" }, element("div", { class: "wb-part-head" }, hint, form.root),
    element("div", { class: "wb-split" }, element("div", { class: "wb-scroll", tabindex: 0, role: "region", "aria-label": "Confusion matrix" }, table), element("div", { class: "wb-scroll" }, element("h3", {}, "What moved most"), told)));
  let found = null;

  function draw() {
    if (!found) return;
    const classes = model.get("classes");
    const form_ = form.value();
    const moved = form_ === "moved";
    setText(hint, moved ? "Images of a true class (rows) by the answer given (columns): after minus before." : "Images of a true class (rows) by the answer given (columns).");
    told.replaceChildren(...found.told.map(([truth, answer, before, after]) => element("li", {}, element("b", { class: after > before ? "wb-more" : "wb-less" }, `${after > before ? "+" : "−"}${count(Math.abs(after - before))}`), ` ${classes[truth]} taken for ${classes[answer]}: ${count(before)} → ${count(after)}`)));
    if (!found.told.length) told.replaceChildren(element("li", {}, "No confusion changed."));
    table.hidden = !found.before;
    if (!found.before) return;
    const cell = (row, column) => (moved ? found.after[row][column] - found.before[row][column] : found[form_][row][column]);
    const most = Math.max(1, ...classes.flatMap((_, row) => classes.map((__, column) => (moved || row !== column ? Math.abs(cell(row, column)) : 0))));
    const shade = (row, column) => {
      const value = cell(row, column);
      if (!value) return "";
      const bad = moved ? (row === column ? value < 0 : value > 0) : row !== column;
      return `--wb-share:${Math.min(100, Math.round(12 + (78 * Math.abs(value)) / (row === column && !moved ? Math.abs(value) * 1.6 : most)))}%;--wb-ink:var(--wb-${bad ? "problem" : "accent"})`;
    };
    const text = (value) => (value === 0 ? "" : moved ? `${value > 0 ? "+" : "−"}${count(Math.abs(value))}` : count(value));
    table.replaceChildren(element("caption", { class: "wb-hidden" }, hint.textContent),
      element("thead", {}, element("tr", {}, element("td"), ...classes.map((name) => element("th", { scope: "col" }, element("span", {}, name))))),
      element("tbody", {}, ...classes.map((name, row) => element("tr", {}, element("th", { scope: "row" }, name),
        ...classes.map((answer, column) => element("td", { style: shade(row, column), class: row === column ? "wb-diagonal" : "", title: `${name} taken for ${answer}: ${count(found.before[row][column])} → ${count(found.after[row][column])}` }, text(cell(row, column))))))));
  }
  return { root, show(data) { found = data; form.root.hidden = !data.before; draw(); } };
}
