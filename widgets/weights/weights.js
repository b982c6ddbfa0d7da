// The Weights view. Compact: one header line, one line of legend and the histogram. Else also the channels on
// request, and all layers small, beside the histogram or, in a narrow place, below it.

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("weights");
  const picker = element("select", { id });
  const compact = model.get("compact");
  const label = element("label", { for: id, class: "wb-hidden" }, compact ? "Layer" : "Layer shown");
  const step = (sign, name, by) => {
    const node = button(sign, { class: "wb-button wb-step", "aria-label": name, title: name });
    node.addEventListener("click", () => go(by));
    return node;
  };
  const [back, on] = [step("‹", "Previous layer", -1), step("›", "Next layer", 1)];
  const toggle = (text, name, trait) => {
    const box = element("input", { type: "checkbox", "aria-label": name });
    box.addEventListener("change", () => { model.set(trait, box.checked); model.save_changes(); later(); });
    return { box, root: element("label", { class: "wb-toggle", title: name }, box, text) };
  };
  const log = toggle("log", "log counts", "log");
  const each = toggle("per channel", "per channel", "per_channel");
  const fact = element("span", { class: "wb-fact wb-muted" });
  const legend = {};
  const key = (name, brief, long) => (legend[name] = element("span", {}, element("i", { class: `wb-${name}` }),
    element("span", { class: "wb-brief" }, brief), element("span", { class: "wb-long" }, long)));
  const canvas = element("canvas", { role: "img", tabindex: "0" });
  const tip = element("p", { class: "wb-tip", "aria-hidden": "true" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const overview = compact ? null : thumbnails(choose);
  const all = () => element("div", { class: "wb-all" }, element("h3", {}, "All layers", element("span", {}, "zeros · bits")), element("div", { class: "wb-all-box" }, overview.list));
  el.replaceChildren(element("div", { class: `wb-weights wb-card ${compact ? "wb-compact" : "wb-full"}` },
    element("div", { class: "wb-head" }, element("h2", {}, "Weights"), label, ...(compact ? [picker, log.root] : [back, picker, on, log.root, each.root, fact])),
    problem,
    element("div", { class: "wb-body" },
      element("div", { class: "wb-main" },
        element("div", { class: "wb-legend" }, key("before", "before", "before"), key("after", "after", "after"),
          key("threshold", "threshold", "pruning threshold"), key("grid", "grid", "values the quantizer can take")),
        element("div", { class: "wb-canvas" }, canvas, tip)),
      ...(compact ? [] : [all()]))));

  let hover = null;
  const names = () => model.get("layers").map(({ name }) => name);

  function choose(name) {
    if (name && name !== model.get("layer")) model.send({ do: "select", layer: name });
  }
  function go(by) {
    choose(names()[names().indexOf(model.get("layer")) + by]);
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

  function draw() {
    const about = model.get("about");
    const grid = typed(model.get("grid"), Float32Array);
    const edges = typed(model.get("edges"), Float32Array);
    const channels = typed(model.get("channels_before"), Float32Array);
    const byChannel = model.get("per_channel") && channels.length > 0 && about.channels > 0;
    showChoice();
    log.box.checked = model.get("log");
    log.box.disabled = byChannel;
    each.box.checked = model.get("per_channel");
    setText(problem, model.get("error"));
    setText(fact, words(about));
    setText(legend.after.lastChild, about.threshold != null && !byChannel ? "after, its zeros left out" : "after");
    legend.threshold.classList.toggle("wb-absent", about.threshold == null);
    legend.grid.classList.toggle("wb-absent", !grid.length || byChannel);

    const fitted = fitCanvas(canvas);
    if (!fitted || edges.length < 2) return;
    const { pen } = fitted;
    pen.font = `11px ${getComputedStyle(el).fontFamily}`;
    const { threshold, group } = about;
    const found = byChannel
      ? drawChannels(pen, fitted, coloursOf(el), {
        reach: edges[edges.length - 1], before: channels, after: typed(model.get("channels_after"), Float32Array), threshold, group, channels: about.channels, hover,
      })
      : drawHistogram(pen, fitted, coloursOf(el), {
        edges, before: typed(model.get("before"), Uint32Array), after: typed(model.get("after"), Uint32Array), grid, threshold, log: model.get("log"), hover,
      });
    entries = found.of;
    const limits = [threshold != null ? `pruned below ${short(threshold)}` : "", grid.length > 1 ? `${grid.length} values, ${short(grid[1] - grid[0])} apart` : ""];
    const summary = [words(about), ...limits].filter(Boolean);
    canvas.setAttribute("aria-label", `${byChannel ? "Ranges of the channels" : "Histogram"} of ${about.layer || "no layer"}: ${[...summary, found.words].filter(Boolean).join(", ")}`);
    setText(tip, found.words || (compact ? words(about, 0) : limits.filter(Boolean).join(" · ")));
  }

  function drawOverview() {
    overview.show({
      before: typed(model.get("overview_before"), Uint8Array), after: typed(model.get("overview_after"), Uint8Array),
      facts: typed(model.get("overview_facts"), Uint16Array), ceilings: typed(model.get("overview_ceilings"), Float32Array), log: model.get("log"),
    });
  }

  // The bins and channels can be walked with the keys too; what is under the pointer is said in the corner.
  let entries = 0;
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (event.key === "Escape") hover = null;
    else if (by && entries) {
      event.preventDefault();
      const { left, width } = frameOf(canvas.clientWidth, canvas.clientHeight, false);
      const at = hover == null ? (by > 0 ? -1 : entries) : Math.floor(((hover - left) / width) * entries);
      hover = left + ((Math.max(0, Math.min(entries - 1, at + by)) + 0.5) / entries) * width;
    } else return;
    later();
  });
  canvas.addEventListener("blur", () => { hover = null; later(); });
  canvas.addEventListener("pointermove", (event) => { hover = event.offsetX; later(); });
  canvas.addEventListener("pointerleave", () => { hover = null; later(); });
  picker.addEventListener("change", () => choose(picker.value));

  const traits = ["edges", "before", "after", "grid", "about", "log", "per_channel", "channels_before", "channels_after", "error", "layer"];
  const later = onTraits(model, traits, draw, { frame: true });
  const laterAll = compact ? null : onTraits(model, ["overview_before", "overview_after", "overview_facts", "overview_ceilings", "log"], drawOverview, { frame: true });
  const endLooks = onLooks(canvas, later);
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
