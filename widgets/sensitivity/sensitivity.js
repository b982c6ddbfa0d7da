// A sensitivity sweep, drawn as it comes: as a map or as curves. Both stand on one grid that the arrow keys
// walk through: what is under the mouse or the keys is read out in one line, and Enter or a click sets it.

const HINTS = {
  only: "Each layer is compressed alone, the others stay dense. Click a cell, or press Enter on it, to set the layer to that level.",
  others: "All layers are compressed but the one named, which tells what sparing it gives back. Click a cell, or press Enter on it, to set that layer.",
};
const ABOUT = "A layer that loses little bears more compression. A cell's figure is of this model on the split named here, measured and not predicted; it is hatched while its 95 % interval is wider than ± 1 point and ± a fifth of the loss. “To ± 0.5 points” stops a cell once its interval is that narrow, or a tenth of its loss; cells that decide the order of the layers go on until that order's rank correlation with the one on every image is 0.95, nine times out of ten. Once a sweep is through, the accuracy of a recipe is foreseen from it before any image is run.";

function choice(name, label, options, chosen, onChange) {
  const group = element("div", { class: "wb-choice", role: "radiogroup", "aria-label": label });
  const inputs = {};
  for (const [value, text] of options) {
    const input = inputs[value] = element("input", { type: "radio", name, value, class: "wb-hidden", "aria-label": `${label}: ${text}` });
    input.checked = value === chosen;
    input.addEventListener("change", () => onChange(value));
    group.append(element("label", {}, input, element("span", {}, text)));
  }
  return { group, show: (value) => { if (inputs[value]) inputs[value].checked = true; } };
}

function legend() {
  const bar = element("span", { class: "wb-ramp", "aria-hidden": "true" });
  const name = element("span", {}, "");
  let metric = null;
  let ticks = [];
  const wide = element("span", { class: "wb-key" }, element("i", { class: "wb-key-wide" }), "wide interval");
  const now = element("span", { class: "wb-key" }, element("i", { class: "wb-key-now" }), "set now");
  return {
    root: element("div", { class: "wb-legend" }, name, bar, wide, now),
    colour: (dark, shown) => {
      if (metric !== shown.name) {
        metric = shown.name;
        setText(name, shown.scale);
        const last = shown.ticks[shown.ticks.length - 1];
        ticks = shown.ticks.map((harm) => element("i", { style: `left: ${5 + 88 * onScale(harm, shown)}%` }, `${harm === last ? (shown.sign < 0 ? "≤" : "≥") : ""}${String(shown.sign * harm || 0)}`));
        bar.replaceChildren(...ticks);
      }
      const scale = colourScale(dark, shown);
      bar.style.setProperty("--wb-ramp", SCALES[dark ? "dark" : "light"].map((colour, at, all) => `${colour} ${5 + (88 * at) / (all.length - 1)}%`).join(", "));
      ticks.forEach((tick, at) => { tick.style.color = scale(shown.ticks[at]).ink; });
    },
  };
}

// The traits as something to look cells up in.
function readData(model) {
  const dial = model.get("dials").find((entry) => entry.name === model.get("technique"));
  const about = model.get("about");
  const levels = about.levels || dial.levels;
  const layers = model.get("layers");
  const [value, low, high] = ["value", "low", "high"].map((name) => typed(model.get(name), Float32Array));
  const n = typed(model.get("n"), Uint32Array);
  const untouched = typed(model.get("untouched"), Uint8Array);
  const metric = about.metric || { ...POINTS, offset: about.baseline };
  const harm = (figure) => metric.factor * (figure - metric.offset);
  const data = {
    dial, about, levels, layers, value, low, high, baseline: about.baseline, metric, harm,
    present: typed(model.get("present"), Float32Array),
    done: n.filter((images) => images > 0).length / (n.length || 1),
    selected: new Set(model.get("selected")), locked: new Set(model.get("locked")),
    levelText: (level, brief) => (dial.percent ? `${number(level * 100, 0)}${brief ? "" : " %"}` : `${level}${brief ? "" : dial.unit}`),
    cell(row, column) {
      const at = row * levels.length + column;
      if (!(n[at] > 0)) return null;
      return { value: value[at], low: low[at], high: high[at], n: n[at], same: untouched[at] === 1, lost: harm(value[at]), half: Math.abs(metric.factor) * (high[at] - low[at]) / 2 };
    },
    // Where among the columns a setting lies; null for one that does nothing.
    placeOf(setting) {
      if (setting === undefined || Number.isNaN(setting) || setting === dial.neutral) return null;
      const up = levels[levels.length - 1] > levels[0];
      const after = levels.findIndex((level) => (up ? level >= setting - 1e-6 : level <= setting + 1e-6));
      if (after < 0) return levels.length - 1;
      if (after === 0 || Math.abs(levels[after] - setting) < 1e-6) return after;
      return after - (levels[after] - setting) / (levels[after] - levels[after - 1]);
    },
  };
  return data;
}

function inWords(data, { row, column }, whole = false) {
  const cell = data.cell(row, column);
  const where = `${data.layers[row]} at ${data.levelText(data.levels[column])}`;
  if (!cell) return `${where}: not measured yet`;
  if (cell.same) return `${where}: left as it is, since nothing of the layer can be compressed so by itself`;
  const { total, split } = data.about;
  const { metric } = data;
  const seen = `${count(cell.n)} of ${count(total)} ${split} images`;
  if (metric.name !== "drop") {
    const digits = metric.digits + 1;
    const [from, to] = [data.harm(cell.low), data.harm(cell.high)].map((harm) => metric.sign * harm).sort((one, other) => one - other);
    const span = cell.n === total ? "exact" : `95 % interval ${number(from, digits)} to ${number(to, digits)}`;
    return `${where}${whole && data.locked.has(row) ? ", locked" : ""}: ${number(metric.sign * cell.lost, digits)} ${metric.unit}, ${span}, ${seen}`;
  }
  const lost = Math.abs(cell.lost) < 0.005 ? "as the dense model" : `${number(Math.abs(cell.lost), 2)} points ${cell.lost > 0 ? "lost" : "gained"}`;
  const range = cell.n === total ? "exact" : `95 % interval ${number(100 * cell.low, 1)} to ${number(100 * cell.high, 1)} %`;
  const locked = whole && data.locked.has(row) ? ", locked" : "";
  return `${where}${locked}: ${percent(cell.value, 2)}, ${lost}, ${range}, ${seen}${placeText(data, row)}`;
}

// A layer's place by its mean loss, with the places between which it surely lies.
function placeText({ about, layers }, row) {
  if (!about.places) return "";
  const [place, low, high] = about.places[row];
  return ` · layer ${place} of ${layers.length} by its mean loss${low < high ? ` (95 %: ${low} to ${high})` : ""}`;
}

// How sure the layers' order is: its rank correlation with the one on every image, as nine draws of ten reach it.
function orderText({ about }) {
  return about.order == null || about.order === 1 ? "" : ` · order ${number(about.order, 2)}`;
}

function courseText(data, state, technique, mode) {
  const { about } = data;
  // a sweep of another mode is as one of another technique
  const shown = technique;
  const progress = state.mode && state.mode !== mode && state.technique === technique ? { ...state, technique: "other mode" } : state;
  const seen = about.total ? `${count(about.fewest)}${about.most > about.fewest ? ` to ${count(about.most)}` : ""} of ${count(about.total)} ${about.split} images a cell` : "";
  const took = progress.technique === shown && progress.state === "done" ? ` · took ${duration(progress.seconds)}` : "";
  if (progress.state === "running") {
    const left = progress.left == null || progress.share === 0 ? "" : ` · about ${duration(progress.left)} left`;
    const which = progress.technique === shown ? "" : progress.technique === "other mode" ? `${data.modes[state.mode]}: ` : `${data.dials[progress.technique]}: `;
    return `${which}${number(100 * progress.share, 0)} %${left}${progress.technique === shown && seen ? ` · ${seen}${orderText(data)}` : ""}`;
  }
  if (!about.total) return progress.technique === shown && progress.state === "cancelled" ? "Stopped before anything was measured." : "";
  if (!about.fewest) return `Not finished: ${number(100 * data.done, 0)} % of the cells are measured`;
  if (about.fewest === about.total) return `Exact: all ${count(about.total)} ${about.split} images${took}`;
  if (progress.technique === shown && progress.state === "cancelled") return `Stopped, and valid as it stands: ${seen}${orderText(data)}`;
  return `Done: ${seen}${orderText(data)}${took}`;
}

function render({ model, el }) {
  el.classList.add("wb");
  const dials = model.get("dials");
  const technique = choice(uniqueId("technique"), "What is varied", dials.map(({ name, label }) => [name, label]), model.get("technique"), (name) => model.send({ do: "show", technique: name }));
  const form = choice(uniqueId("form"), "Shown as", [["map", "Map"], ["curves", "Curves"], ["ranking", "Ranking"], ["pairs", "Pairs"]], model.get("form"), (name) => { model.set("form", name); model.save_changes(); update(); });
  const modeId = uniqueId("mode");
  const mode = element("select", { id: modeId }, ...model.get("modes").map(([value, text]) => element("option", { value }, text)));
  const metricId = uniqueId("metric");
  const metric = element("select", { id: metricId });
  const precisionId = uniqueId("precision");
  const precision = element("select", { id: precisionId }, element("option", { value: "half a point" }, "to ± 0.5 points"), element("option", { value: "every image" }, "every image"));
  const start = button("Start", { class: "wb-button wb-start" });
  const bar = element("div", { class: "wb-progress", role: "progressbar", "aria-label": "Sensitivity sweep", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" }, element("i"));
  const course = element("span", { class: "wb-course-text wb-muted" });
  const done = element("span", { class: "wb-hidden", role: "status" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const canvas = element("canvas", { "aria-hidden": "true" });
  const spacer = element("div", { class: "wb-spacer" }, canvas);
  const spoken = element("div", { class: "wb-hidden", role: "presentation" });
  const hintId = uniqueId("hint");
  const hint = element("p", { class: "wb-hidden", id: hintId }, HINTS.only);
  const grid = element("div", { class: "wb-cells", tabindex: "0", role: "grid", "aria-label": "What each layer costs at each level", "aria-describedby": hintId }, spacer, spoken);
  const begin = button("Start the sweep", { class: "wb-button wb-begin" });
  const empty = element("div", { class: "wb-nothing" }, element("p", {}, "Which layers bear compression, and which don't?"), element("p", { class: "wb-muted" }, "A sweep compresses each layer alone, at every level, and measures the accuracy. The first picture is there within seconds and sharpens while you work on."), begin);
  const readout = element("p", { class: "wb-readout" });
  const keys = legend();
  const tables = tableStage(model);
  el.replaceChildren(element("div", { class: "wb-sensitivity wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Sensitivity", help("sensitivity", ABOUT)), technique.group, form.group,
      element("div", { class: "wb-what" }, element("span", {}, element("label", { for: modeId }, "Compress"), mode), element("span", {}, element("label", { for: metricId }, "Show"), metric)),
      element("div", { class: "wb-run" }, element("label", { for: precisionId }, "Measure"), precision, start)),
    element("div", { class: "wb-course" }, bar, course, done, keys.root), problem,
    element("div", { class: "wb-stage" }, grid, empty, tables.root), hint, readout));

  let data = readData(model);
  let layout = null;
  let active = null;
  let pointed = false;
  const isMap = () => model.get("form") === "map";
  const hintText = () => (isMap() ? HINTS[model.get("mode")] : HINTS[model.get("mode")].replace("Click a cell", "Click a point"));

  function draw() {
    canvas.style.height = `${grid.clientHeight}px`; // it stays in sight while the rows scroll under it
    const fit = fitCanvas(canvas);
    if (!fit) return;
    const { pen, width, height } = fit;
    data.font = getComputedStyle(el).fontFamily;
    layout = isMap() ? mapLayout(data, width, height) : curvesLayout(data, width, height);
    spacer.style.height = isMap() ? `${Math.max(layout.full, grid.clientHeight)}px` : "100%";
    const focused = document.activeElement === grid;
    const view = { width, height, scroll: grid.scrollTop, colours: coloursOf(el), dark: isDark(el), font: data.font, active, marked: pointed || focused };
    (isMap() ? drawMap : drawCurves)(pen, data, layout, view);
    keys.colour(view.dark, data.metric);
  }
  let frame = 0;
  const redraw = () => { if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); }); };

  function tell(text) {
    readout.classList.toggle("wb-muted", !text);
    setText(readout, text || (grid.classList.contains("wb-blank") ? "" : hintText()));
  }

  // The cell in the grid that assistive technology reads: only the active one is in the page.
  function speak() {
    if (!active) return;
    const id = uniqueId("cell");
    const cell = element("span", { role: "gridcell", id, "aria-colindex": active.column + 1, "aria-selected": String(data.selected.has(active.row)) }, inWords(data, active, true));
    spoken.replaceChildren(element("div", { role: "row", "aria-rowindex": active.row + 1 }, cell));
    grid.setAttribute("aria-activedescendant", id);
  }

  function update() {
    data = readData(model);
    data.modes = Object.fromEntries(model.get("modes"));
    data.dials = Object.fromEntries(dials.map(({ name, label }) => [name, label]));
    const [progress, shown] = [model.get("progress"), model.get("technique")];
    const running = progress.state === "running";
    const here = progress.technique === shown && (!progress.mode || progress.mode === model.get("mode"));
    const something = Boolean(data.about.total) || (running && here);
    mode.value = model.get("mode");
    const offered = model.get("metrics");
    if (metric.dataset.offered !== offered.join()) {
      metric.dataset.offered = offered.join();
      metric.replaceChildren(...offered.map(([value, text]) => element("option", { value }, text)));
    }
    metric.value = model.get("metric");
    setText(hint, hintText());
    technique.show(shown);
    form.show(model.get("form"));
    precision.value = model.get("precision");
    el.firstChild.classList.toggle("wb-curves-shown", !isMap());
    const asTable = ["ranking", "pairs"].includes(model.get("form"));
    tables.show(model.get("form"), data);
    readout.hidden = asTable;
    empty.hidden = something || asTable;
    grid.classList.toggle("wb-blank", !something || asTable);
    grid.tabIndex = something && !asTable ? 0 : -1;
    grid.setAttribute("aria-rowcount", data.layers.length);
    grid.setAttribute("aria-colcount", data.levels.length);
    setText(start, running ? "Stop" : !data.about.total ? "Start" : data.about.fewest ? "Run again" : "Go on");
    start.classList.toggle("wb-running", running);
    begin.disabled = running;
    start.style.visibility = empty.hidden ? "" : "hidden"; // one button to start with: the one under the question
    const share = running ? progress.share : !data.about.fewest ? data.done : progress.state === "cancelled" ? progress.share : 1;
    bar.firstChild.style.width = `${100 * share}%`;
    bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    const text = courseText(data, progress, shown, model.get("mode"));
    bar.setAttribute("aria-valuetext", text || "not started");
    bar.classList.toggle("wb-quiet", !running);
    bar.classList.toggle("wb-idle", !text);
    setText(course, text);
    course.title = text + (orderText(data) && text ? ". Order: rank correlation of the layers' order with the one on every image, at least, nine times out of ten" : "");
    setText(done, running ? "" : text);
    setText(problem, model.get("problem") || progress.error || "");
    if (active && (active.row >= data.layers.length || active.column >= data.levels.length)) active = null;
    tell(active && (pointed || document.activeElement === grid) ? inWords(data, active) : "");
    redraw();
  }

  function activate(next) {
    active = next;
    tell(active ? inWords(data, active) : "");
    redraw();
  }
  function reveal() {
    if (!isMap() || !layout || !active) return;
    const top = active.row * layout.rowHeight;
    const room = grid.clientHeight - HEAD - layout.rowHeight;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top > grid.scrollTop + room) grid.scrollTop = top - room;
  }
  const select = (row, adding) => {
    const others = model.get("selected");
    model.send({ do: "select", layers: !adding ? [row] : others.includes(row) ? others.filter((other) => other !== row) : [...others, row] });
  };
  const set = ({ row, column }) => model.send({ do: "set", layer: row, level: data.levels[column] });

  const hit = (event) => {
    if (!layout) return null;
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return isMap() ? mapHit(layout, data, x, y, grid.scrollTop) : curvesHit(layout, data, x, y);
  };
  grid.addEventListener("pointermove", (event) => {
    const found = hit(event);
    pointed = Boolean(found) && found.column != null;
    grid.classList.toggle("wb-pointing", Boolean(found));
    if (pointed) activate({ row: found.row, column: found.column });
    else if (document.activeElement !== grid) { tell(""); redraw(); }
  });
  grid.addEventListener("pointerleave", () => { pointed = false; update(); });
  grid.addEventListener("click", (event) => {
    const found = hit(event);
    if (!found) return;
    if (found.column == null || !isMap() || event.ctrlKey || event.metaKey) select(found.row, event.ctrlKey || event.metaKey);
    else { activate(found); set(found); }
    speak();
  });
  grid.addEventListener("focus", () => {
    if (!active) active = { row: Math.min(Math.max(0, ...data.selected), Math.max(0, data.layers.length - 1)), column: Math.floor(data.levels.length / 2) };
    speak();
    activate(active);
  });
  grid.addEventListener("blur", () => update());
  grid.addEventListener("keydown", (event) => {
    if (!active || event.altKey) return;
    const [rows, columns] = [data.layers.length, data.levels.length];
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0], Home: [event.ctrlKey ? -rows : 0, -columns], End: [event.ctrlKey ? rows : 0, columns] };
    const move = moves[event.key];
    if (move) {
      pointed = false;
      const within = (value, end) => Math.max(0, Math.min(end - 1, value));
      activate({ row: within(active.row + move[0], rows), column: within(active.column + move[1], columns) });
      reveal();
      speak();
    } else if (event.key === "Enter") set(active);
    else if (event.key === " ") select(active.row, event.ctrlKey);
    else return;
    event.preventDefault();
  });
  grid.addEventListener("scroll", redraw, { passive: true });
  mode.addEventListener("change", () => model.send({ do: "show", mode: mode.value }));
  metric.addEventListener("change", () => model.send({ do: "show", metric: metric.value }));
  precision.addEventListener("change", () => { model.set("precision", precision.value); model.save_changes(); });
  start.addEventListener("click", () => model.send({ do: model.get("progress").state === "running" ? "cancel" : "start" }));
  begin.addEventListener("click", () => { model.send({ do: "start" }); start.focus(); });

  const traits = onTraits(model, ["value", "low", "high", "n", "untouched", "present", "about", "progress", "problem", "layers", "selected", "locked", "technique", "mode", "metric", "form", "precision", "ranking", "pairs", "asked"], update, { frame: true });
  const looks = onLooks(grid, redraw);
  const unseen = reportVisibility(model, el);
  update();
  return () => { cancelAnimationFrame(frame); traits.end(); looks(); unseen(); };
}

export default { render };
