// The Weights view. Compact: one header line, one line of legend and one drawing. Else also all layers small,
// beside the drawing or, in a narrow place, below it.

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("weights");
  const picker = element("select", { id });
  const compact = model.get("compact");
  const label = element("label", { for: id, class: "wb-hidden" }, compact ? "Layer" : "Layer shown");
  const set = (trait, value) => { model.set(trait, value); model.save_changes(); later(); };
  const back = stepButton("‹", "Previous layer", () => go(-1));
  const on = stepButton("›", "Next layer", () => go(1));
  const modes = modePicker(model.get("modes"), compact, (mode) => set("mode", mode));
  const log = toggle("log", "log counts", (value) => set("log", value));
  const near = toggle("close up", "close up", (value) => { model.set("page", 0); set("close_up", value); });
  const fact = element("span", { class: "wb-fact wb-muted" });
  const legend = legendOf();
  const canvas = element("canvas", { role: "img", tabindex: "0" });
  const tip = element("p", { class: "wb-tip", "aria-hidden": "true" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const told = element("span", { class: "wb-told", "aria-hidden": "true" });
  const [before, after] = [stepButton("‹", "Previous page of weights", () => turn(-1)), stepButton("›", "Next page of weights", () => turn(1))];
  const pages = element("div", { class: "wb-pages" }, told, before, after);
  const overview = compact ? null : thumbnails(choose);
  const all = () => element("div", { class: "wb-all" }, element("h3", {}, "All layers", element("span", {}, "zeros · bits")), element("div", { class: "wb-all-box" }, overview.list));
  el.replaceChildren(element("div", { class: `wb-weights wb-card ${compact ? "wb-compact" : "wb-full"}` },
    element("div", { class: "wb-head" }, element("h2", { class: compact ? "wb-hidden" : "" }, "Weights"), label,
      ...(compact ? [modes.root, picker, log.root, near.root] : [back, picker, on, modes.root, log.root, near.root, fact])),
    problem,
    element("div", { class: "wb-body" },
      element("div", { class: "wb-main" }, legend.root, element("div", { class: "wb-canvas" }, canvas, tip), pages),
      ...(compact ? [] : [all()]))));

  let hover = null; // where the pointer or the keys are, from the left
  let cell = null; // and in the pictures: which row, and which place in it
  let drawn = { of: 0 };
  const names = () => model.get("layers").map(({ name }) => name);

  function choose(name) {
    if (name && name !== model.get("layer")) model.send({ do: "select", layer: name });
  }
  function go(by) {
    choose(names()[names().indexOf(model.get("layer")) + by]);
  }
  function turn(by) {
    const { page, pages: total } = model.get("pictured");
    const to = page + by;
    if (to >= 0 && to < total) set("page", to);
  }
  function listLayers() {
    const layers = model.get("layers");
    picker.replaceChildren(...layers.map(({ name, type, params }) => element("option", { value: name }, `${name} · ${type} · ${count(params)}`)));
    overview?.build(layers);
    showChoice();
  }
  function showChoice() {
    const [layer, all] = [model.get("layer"), names()];
    picker.value = layer;
    back.disabled = all.indexOf(layer) <= 0;
    on.disabled = all.indexOf(layer) === all.length - 1;
    overview?.select(layer);
  }

  function words(about, digits = 1) {
    if (!about.layer) return "";
    const bits = { 16: "16-bit float", 32: "fp32" }[about.bits ?? 32] ?? `${about.bits} bit`;
    const removed = about.removed > 0 ? `${percent(about.removed, digits)} removed` : "";
    return [removed, `${percent(about.sparsity, digits)} zeros`, bits].filter(Boolean).join(" · ");
  }

  const floats = (name) => typed(model.get(name), Float32Array);
  const counts = (name) => typed(model.get(name), Uint32Array);
  const codes = (name) => typed(model.get(name), Int8Array);

  // Size, font and colours hold until the canvas or the theme changes; asking for them costs more than drawing.
  let looks = null;
  function looksOf({ width, height }) {
    const [colour, colours] = [coloursOf(canvas), {}];
    return { width, height, font: `11px ${getComputedStyle(el).fontFamily}`, colour: (name) => (colours[name] ??= colour(name)) };
  }

  // What each mode draws: null where its data have not come yet.
  const drawings = {
    histogram(pen, size, about) {
      const edges = floats("edges");
      return edges.length > 1 && drawHistogram(pen, size, looks.colour, {
        edges, before: counts("before"), after: counts("after"), grid: floats("grid"), threshold: about.threshold, log: model.get("log"), hover,
      });
    },
    channels(pen, size, about) {
      const [edges, channels] = [floats("edges"), floats("channels_before")];
      return channels.length > 0 && drawChannels(pen, size, looks.colour, {
        reach: edges[edges.length - 1], before: channels, after: floats("channels_after"), threshold: about.threshold, group: about.group, channels: about.channels, hover,
      });
    },
    spectrum(pen, size) {
      const values = floats("spectrum_before");
      return values.length > 0 && drawSpectrum(pen, size, looks.colour, { before: values, after: floats("spectrum_after"), rank: model.get("rank"), log: model.get("log"), hover });
    },
    posterior(pen, size) {
      const values = typed(model.get("posterior"), Float64Array);
      return values.length > 0 && drawPosterior(pen, size, looks.colour, { shown: values, hover });
    },
    filters(pen, size) {
      const pictured = model.get("pictured");
      const shown = codes("pictures_before");
      if (!pictured.kind || shown.length !== pictured.shape.reduce((product, side) => product * side, 1)) return null;
      if (cell && (cell.row >= pictured.shape[0] || cell.at >= drawn.across)) cell = null;
      return drawPictures(pen, size, looks.colour, { about: pictured, before: shown, after: codes("pictures_after"), cell });
    },
  };
  const titles = { histogram: "Histogram", channels: "Ranges of the channels", spectrum: "Singular values", posterior: "Distributions of the weights", filters: "Pictures of the weights" };

  function draw() {
    const [about, mode, pictured] = [model.get("about"), model.get("mode"), model.get("pictured")];
    const grid = floats("grid");
    showChoice();
    modes.show(mode, about.posterior || mode === "posterior" ? [] : ["posterior"]);
    log.show(model.get("log"), !["histogram", "spectrum"].includes(mode), mode === "spectrum" ? "log singular values" : "log counts");
    near.show(model.get("close_up"), mode !== "filters");
    setText(problem, model.get("error"));
    setText(fact, words(about));
    const missing = [];
    if (about.threshold == null) missing.push("threshold");
    if (!grid.length) missing.push("grid");
    if (model.get("rank") >= floats("spectrum_before").length) missing.push("cut");
    if (!codes("pictures_after").includes(ABSENT)) missing.push("removed");
    legend.say("after", "after", about.threshold != null && mode === "histogram" ? "after, its zeros left out" : "after");
    legend.say("grid", "levels", about.grids > 1 ? `values a weight can take on one of the ${count(about.grids)} grids` : "values a weight can take");
    legend.say("scale", pictured.reach ? `± ${short(pictured.reach)}` : "");
    legend.show(mode, missing);
    pages.hidden = mode !== "filters";
    before.disabled = !(pictured.page > 0);
    after.disabled = !(pictured.page < pictured.pages - 1);

    const fitted = fitCanvas(canvas, looks);
    if (!fitted) return;
    looks ??= looksOf(fitted);
    fitted.pen.font = looks.font;
    drawn = drawings[mode](fitted.pen, fitted, about) || { of: 0, words: "", waiting: true };
    const rest = (compact && drawn.brief) || drawn.rest || "";
    const limits = mode === "histogram" ? [about.threshold != null ? `pruned below ${short(about.threshold)}` : "", levelWords(grid)] : [rest];
    const summary = [words(about), ...limits].filter(Boolean);
    const shown = `${titles[mode]} of ${about.layer || "no layer"}: ${[...summary, drawn.words].filter(Boolean).join(", ")}`;
    canvas.setAttribute("aria-label", drawn.waiting ? `Weights of ${model.get("layer") || "no layer"}: ${model.get("error") || "being drawn"}` : shown);
    const corner = mode === "filters" ? "" : drawn.words || (compact && mode !== "spectrum" ? words(about, 0) : limits.filter(Boolean).join(" · "));
    setText(tip, corner);
    setText(told, mode === "filters" ? drawn.words || drawn.rest || "" : "");
  }

  function drawOverview() {
    overview.show({
      before: codesOf("overview_before"), after: codesOf("overview_after"),
      facts: typed(model.get("overview_facts"), Uint16Array), ceilings: floats("overview_ceilings"), log: model.get("log"),
    });
  }
  const codesOf = (name) => typed(model.get(name), Uint8Array);

  // What is drawn can be walked with the keys too; what is under the pointer is said in the corner.
  const moves = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  function walkPictures(key) {
    if (key === "PageDown" || key === "PageUp") { turn(key === "PageDown" ? 1 : -1); return true; }
    if (!moves[key] || !drawn.of) return false;
    const [right, down] = moves[key];
    const clamp = (value, limit) => Math.max(0, Math.min(limit - 1, value));
    cell = cell ? { row: clamp(cell.row + down, drawn.rows), at: clamp(cell.at + right, drawn.across) } : { row: 0, at: 0 };
    return true;
  }
  function walk(key) {
    const by = { ArrowRight: 1, ArrowLeft: -1, PageDown: 8, PageUp: -8 }[key];
    if (!by || !drawn.of) return false;
    const { left, width } = frameOf(canvas.clientWidth, canvas.clientHeight, false);
    const at = hover == null ? (by > 0 ? -1 : drawn.of) : Math.floor(((hover - left) / width) * drawn.of);
    hover = left + ((Math.max(0, Math.min(drawn.of - 1, at + by)) + 0.5) / drawn.of) * width;
    return true;
  }
  const forget = () => { hover = cell = null; later(); };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { forget(); return; }
    if (!(model.get("mode") === "filters" ? walkPictures : walk)(event.key)) return;
    event.preventDefault();
    later();
  });
  canvas.addEventListener("blur", forget);
  canvas.addEventListener("pointermove", (event) => {
    hover = event.offsetX;
    cell = drawn.locate?.(event.offsetX, event.offsetY) ?? null;
    later();
  });
  canvas.addEventListener("pointerleave", forget);
  picker.addEventListener("change", () => choose(picker.value));

  const traits = [
    "edges", "before", "after", "grid", "about", "log", "mode", "channels_before", "channels_after", "spectrum_before", "spectrum_after", "rank", "posterior",
    "pictures_before", "pictures_after", "pictured", "close_up", "error", "layer",
  ];
  const later = onTraits(model, traits, draw, { frame: true });
  const laterAll = compact ? null : onTraits(model, ["overview_before", "overview_after", "overview_facts", "overview_ceilings", "log"], drawOverview, { frame: true });
  const endLooks = onLooks(canvas, () => { looks = null; later(); });
  const endReport = reportVisibility(model, el);
  model.on("change:layers", listLayers);
  listLayers();
  later();
  laterAll?.();
  return () => {
    later.end();
    laterAll?.end();
    endLooks();
    endReport();
    overview?.end();
    model.off("change:layers", listLayers);
  };
}

export default { render };
