// One layer's weights: grey before, accent after, with the pruning threshold and the quantizer's grid.
// The bins arrive as typed arrays; drawing is one canvas pass, at most once a frame.

const short = (value) => (Math.abs(value) < 1e-12 ? "0" : String(Number(value.toPrecision(2))));

const MARGIN = { left: 46, right: 12, top: 10, bottom: 34 };
function axisSteps(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const steps = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) steps.push(value);
  return steps;
}

function countSteps(top, log) {
  if (!log) return axisSteps(0, top, 4);
  const steps = [];
  for (let value = 1; value <= top; value *= 10) steps.push(value);
  return steps;
}

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("weights");
  const picker = element("select", { id });
  const log = element("input", { type: "checkbox" });
  const fact = element("span", { class: "wb-fact wb-muted" });
  const legend = {};
  const key = (name, text) => (legend[name] = element("span", {}, element("i", { class: `wb-${name}` }), text));
  const canvas = element("canvas", { role: "img" });
  const tip = element("p", { class: "wb-tip", "aria-hidden": "true" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  el.replaceChildren(element("div", { class: "wb-weights wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Weights"), element("label", { for: id, class: "wb-hidden" }, "Layer"), picker,
      element("label", {}, log, " log counts"), fact),
    problem,
    element("div", { class: "wb-legend" }, key("before", "before"), key("after", ""), key("threshold", "pruning threshold"), key("grid", "values the quantizer can take")),
    element("div", { class: "wb-canvas" }, canvas), tip));

  let hover = null;

  function listLayers() {
    picker.replaceChildren(...model.get("layers").map(({ name, type, params }) => element("option", { value: name }, `${name} · ${type} · ${count(params)}`)));
    picker.value = model.get("layer");
  }

  function draw() {
    const edges = typed(model.get("edges"), Float32Array);
    const before = typed(model.get("before"), Uint32Array);
    const after = typed(model.get("after"), Uint32Array);
    const grid = typed(model.get("grid"), Float32Array);
    const about = model.get("about");
    const useLog = model.get("log");
    picker.value = model.get("layer");
    log.checked = useLog;
    problem.textContent = model.get("error");
    fact.textContent = about.layer ? `${(about.sparsity * 100).toFixed(1)} % zeros · ${about.bits ? `${about.bits} bit` : "fp32"}` : "";
    legend.after.lastChild.textContent = about.threshold != null ? "after, its zeros left out" : "after";
    legend.threshold.classList.toggle("wb-absent", about.threshold == null);
    legend.grid.classList.toggle("wb-absent", !grid.length);

    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (edges.length < 2) return;

    const style = getComputedStyle(el);
    const colour = (name) => style.getPropertyValue(`--wb-${name}`).trim();
    const [low, high] = [edges[0], edges[edges.length - 1]];
    const plotWidth = width - MARGIN.left - MARGIN.right;
    const floor = height - MARGIN.bottom;
    const plotHeight = floor - MARGIN.top;
    let top = 1;
    for (const value of before) top = Math.max(top, value);
    // In linear counts the spike of zeros would flatten all else: it is cut, and says so.
    let cut = Infinity;
    if (useLog) for (const value of after) top = Math.max(top, value);
    else cut = top = top * 1.6;
    const x = (value) => MARGIN.left + ((value - low) / (high - low)) * plotWidth;
    const level = (n) => (useLog ? (n > 0 ? (Math.log10(n) + 0.3) / (Math.log10(top) + 0.3) : 0) : Math.min(n, cut) / top);
    const y = (n) => floor - level(n) * plotHeight;

    pen.font = `11px ${style.fontFamily}`;
    pen.fillStyle = colour("muted");
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const step of countSteps(top, useLog)) {
      const at = Math.round(y(step)) + 0.5;
      pen.globalAlpha = 0.6;
      pen.beginPath();
      pen.moveTo(MARGIN.left, at);
      pen.lineTo(width - MARGIN.right, at);
      pen.stroke();
      pen.globalAlpha = 1;
      pen.fillText(step >= 1e4 ? `${step / 1e3}k` : count(step), MARGIN.left - 8, at);
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const step of axisSteps(low, high, Math.max(4, Math.floor(plotWidth / 90)))) pen.fillText(short(step), x(step), floor + 14);

    if (about.threshold != null) {
      pen.fillStyle = colour("sunken");
      pen.globalAlpha = 0.8;
      const left = Math.max(x(-about.threshold), MARGIN.left);
      pen.fillRect(left, MARGIN.top, Math.min(x(about.threshold), width - MARGIN.right) - left, plotHeight);
      pen.globalAlpha = 1;
    }
    const bars = (bins, gap) => {
      for (let index = 0; index < bins.length; index += 1) {
        if (!bins[index]) continue;
        const left = x(edges[index]);
        pen.fillRect(left + gap, y(bins[index]), Math.max(1, x(edges[index + 1]) - left - 2 * gap), floor - y(bins[index]));
      }
    };
    pen.fillStyle = colour("base");
    pen.globalAlpha = 0.45;
    bars(before, 0);
    pen.globalAlpha = 0.9;
    pen.fillStyle = colour("accent");
    bars(after, (plotWidth / Math.max(1, after.length)) * 0.2);
    pen.globalAlpha = 1;
    for (let index = 0; index < after.length; index += 1) {
      if (after[index] <= cut) continue;
      pen.fillStyle = colour("text");
      pen.textAlign = "left";
      pen.fillText(`${count(after[index])} ↑`, Math.min(x(edges[index + 1]) + 4, width - 70), MARGIN.top);
    }
    if (about.threshold != null) {
      pen.strokeStyle = colour("text");
      pen.lineWidth = 1.5;
      pen.setLineDash([5, 4]);
      for (const at of [-about.threshold, about.threshold]) {
        if (at < low || at > high) continue;
        pen.beginPath();
        pen.moveTo(x(at), MARGIN.top);
        pen.lineTo(x(at), floor);
        pen.stroke();
      }
      pen.setLineDash([]);
    }
    pen.strokeStyle = colour("text");
    pen.lineWidth = 1;
    pen.globalAlpha = grid.length > plotWidth / 5 ? 0.35 : 0.8;
    for (const value of grid) {
      if (value < low || value > high) continue;
      pen.beginPath();
      pen.moveTo(x(value), floor + 2);
      pen.lineTo(x(value), floor + 9);
      pen.stroke();
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("control");
    pen.beginPath();
    pen.moveTo(MARGIN.left, floor + 0.5);
    pen.lineTo(width - MARGIN.right, floor + 0.5);
    pen.stroke();

    canvas.setAttribute("aria-label", `Histogram of ${about.layer || "no layer"}: ${fact.textContent}${about.threshold != null ? `, pruned below ${short(about.threshold)}` : ""}`);
    const bin = hover == null ? -1 : Math.floor(((hover - MARGIN.left) / plotWidth) * before.length);
    tip.textContent = bin >= 0 && bin < before.length
      ? `${short(edges[bin])} to ${short(edges[bin + 1])}: ${count(before[bin])} before, ${count(after[bin] ?? 0)} after`
      : [about.threshold != null ? `threshold ± ${short(about.threshold)}` : "", grid.length ? `${grid.length} values, ${short(grid[1] - grid[0] || 0)} apart near ${short(grid[0])}` : ""].filter(Boolean).join(" · ");
  }

  let frame = 0;
  const later = () => { if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); }); };
  picker.addEventListener("change", () => model.send({ do: "select", layer: picker.value }));
  log.addEventListener("change", () => { model.set("log", log.checked); model.save_changes(); later(); });
  canvas.addEventListener("pointermove", (event) => { hover = event.offsetX; later(); });
  canvas.addEventListener("pointerleave", () => { hover = null; later(); });
  const sizes = new ResizeObserver(later);
  sizes.observe(canvas);
  const themes = new MutationObserver(later);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  const events = ["edges", "before", "after", "grid", "about", "log", "error", "layer"].map((name) => `change:${name}`);
  for (const event of events) model.on(event, later);
  model.on("change:layers", listLayers);
  listLayers();
  later();
  return () => {
    cancelAnimationFrame(frame);
    sizes.disconnect();
    themes.disconnect();
    for (const event of events) model.off(event, later);
    model.off("change:layers", listLayers);
  };
}

export default { render };
