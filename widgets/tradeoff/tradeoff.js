// The trade-off of every setting tried. Hovering or walking with the arrow keys tells of a setting, a click
// or Enter goes back to it. On touch the first tap tells and the second goes.

const REACH = 16;
const TRAITS = ["edition", "points", "added", "added_upto", "dense", "present", "present_words", "x", "y", "log", "near", "scope", "comparison", "deleted", "problem", "notice"];

function choice(id, name, options) {
  const select = element("select", { id }, ...options.map(([value, text]) => element("option", { value }, text)));
  return { select, root: element("span", { class: "wb-choice" }, element("label", { for: id }, name), select) };
}
function tick(name) {
  const input = element("input", { type: "checkbox" });
  return { input, text: name, root: element("label", { class: "wb-tick" }, input, ` ${name}`) };
}

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("tradeoff");
  const metrics = Object.entries(METRICS).map(([value, { title }]) => [value, title]);
  const up = choice(`${id}-y`, "Up", metrics);
  const across = choice(`${id}-x`, "Across", metrics);
  const scope = choice(`${id}-scope`, "Settings", [["all", "all ever measured"], ["session", "of this session"], ["starred", "with a star"]]);
  const filter = element("input", { type: "text", class: "wb-filter", placeholder: "Filter, as in: 4 bit", "aria-label": "Filter settings by name or recipe" });
  const log = tick("log scale");
  const near = tick("only near dense");
  near.root.title = "Leave out accuracies more than 10 points below the dense model's.";
  const ground = element("canvas", { "aria-hidden": "true" });
  const canvas = element("canvas", {
    tabindex: 0, role: "application", "aria-roledescription": "scatter plot", "aria-label": "Settings tried", "aria-describedby": `${id}-keys`,
  });
  const words = element("b");
  const figures = element("span", { class: "wb-muted" });
  const go = button("Go back to it");
  const speaker = element("div", { class: "wb-hidden", "aria-live": "polite" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const notice = element("p", { class: "wb-problem wb-notice" });
  const store = pointStore(model);
  const send = (content) => model.send({ ...content, edition: model.get("edition") });
  const list = settingList({ send, goTo: (p) => goTo(p), point: (p) => { chosen = p; later(); }, deleted: () => model.get("deleted"), csv: () => list.chosen().length ? list.chosen() : shown.map((p) => p.place) });
  const comparison = comparisonTable(() => send({ do: "compare", places: [] }));
  el.replaceChildren(element("div", { class: "wb-tradeoff wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Trade-off"), up.root, across.root, log.root, near.root, filter, scope.root),
    element("div", { class: "wb-said" }, notice, problem),
    element("div", { class: "wb-legend", "aria-hidden": "true" },
      ...[["exact", "measured on every image"], ["sampled", "sampled, with interval"], ["front", "Pareto front"], ["dense", "dense"], ["present", "now"]]
        .map(([name, text]) => element("span", {}, element("i", { class: `wb-${name}` }), text))),
    element("div", { class: "wb-plot-box" }, ground, canvas, comparison.root),
    element("div", { class: "wb-told" }, element("div", { class: "wb-lines" }, words, figures), go),
    list.root,
    element("p", { class: "wb-hidden", id: `${id}-keys` }, "Left and right arrow keys walk the settings, Enter goes back to one."),
    speaker));

  // Without labels the accuracy's place is taken by the agreement, which then is not offered twice.
  function nameAccuracy() {
    const labelled = model.get("labelled");
    METRICS.accuracy.title = labelled ? "Accuracy" : "Agreement";
    for (const option of el.querySelectorAll(`#${id}-x option, #${id}-y option`)) {
      if (option.value === "accuracy") option.textContent = METRICS.accuracy.title;
      option.hidden = !labelled && ["agreement", "loss"].includes(option.value);
    }
  }
  nameAccuracy();
  model.on("change:labelled", nameAccuracy);
  const [xAxis, yAxis] = [axis(), axis()];
  let shown = [], sorted = [], front = [], dense = null, present = null, chosen = null;
  let places = null, stale = true, asked = -1, frame = 0, gathered = "", near10 = 0;

  const metric = (name) => METRICS[model.get(name)];
  const useLog = (which) => Boolean(which.scaled && model.get("log"));
  const later = () => { if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); }); };
  const one = (trait) => unpack(model.get(trait))[0] ?? null;

  function gather() {
    if (!store.read() && asked !== model.get("added_upto")) { asked = model.get("added_upto"); model.send({ do: "all" }); }
    dense = one("dense");
    present = one("present");
    if (present) present.words = model.get("present_words");
    const [x, y] = [metric("x"), metric("y")];
    near10 = model.get("near") && dense && Number.isFinite(dense.score) ? dense.score - 0.1 : -1;
    const now = [store.version(), dense?.score, dense?.bytes, dense?.ms, near10, filter.value, ...["x", "y", "log", "scope"].map((name) => model.get(name))].join();
    if (now !== gathered) { // else only the present setting has moved
      gathered = now;
      stale = true;
      const known = (p) => p && Number.isFinite(x.value(p)) && Number.isFinite(y.value(p)) && p.score >= near10;
      const within = { all: () => true, session: (p) => p.mine, starred: (p) => p.starred }[model.get("scope")];
      const words = filter.value.trim().toLowerCase();
      shown = store.points.filter((p) => known(p) && !p.deleted && within(p) && (!words || `${p.name} ${p.recipe}`.toLowerCase().includes(words)));
      front = paretoFront(shown.filter((p) => p.kind === EXACT), x, y);
      sorted = [...shown].sort((a, b) => x.value(a) - x.value(b) || y.value(a) - y.value(b));
      if (chosen && !shown.includes(chosen)) chosen = shown.find((p) => p.place === chosen.place) ?? null;
      list.show({ points: store.points, shown, front, x, y });
    }
    comparison.show(model.get("comparison"), store.points);
    list.undo();
    rescale(x, y);
    controls();
  }

  function rescale(x, y) {
    const held = [...shown, dense, present && present.score >= near10 ? present : null].filter(Boolean);
    const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    for (const [scale, which] of [[xAxis, x], [yAxis, y]]) {
      const values = held.map(which.value).filter(Number.isFinite);
      const least = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
      const same = scale.of === which && scale.log === useLog(which) && scale.near === near10 && scale.scope === model.get("scope");
      if (!same || !scale.holds(least)) {
        if (present) values.push(...[which.low(present), which.high(present)].filter(Number.isFinite)); // room for its interval
        scale.aim(spanOf(values, which, useLog(which)), useLog(which), smooth && scale.of === which);
        stale = true;
      }
      Object.assign(scale, { of: which, near: near10, scope: model.get("scope") });
    }
  }

  function controls() {
    across.select.value = model.get("x");
    up.select.value = model.get("y");
    scope.select.value = model.get("scope");
    log.input.checked = model.get("log");
    near.input.checked = model.get("near");
    setText(problem, model.get("problem"));
    setText(notice, model.get("notice"));
    const counted = `${plural(shown.length, "setting")}, ${count(front.length)} on the Pareto front`;
    canvas.setAttribute("aria-label", `${metric("y").title} against ${metric("x").title.toLowerCase()}: ${counted}`);
  }

  const isPresent = (p) => Boolean(p && present && p.place === present.place);
  const whenOf = (p) => {
    if (!Number.isFinite(p.minutes)) return "";
    const time = new Date((model.get("epoch") + p.minutes * 60) * 1000);
    const today = time.toDateString() === new Date().toDateString();
    return today ? time.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }) : time.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
  };
  function tellOf(p) {
    const half = p.high - p.low > 0 ? ` ± ${number((p.high - p.low) * 50, 1)} points` : "";
    const timed = Number.isFinite(p.ms) ? milliseconds(p.ms) + (Number.isFinite(p.measured) ? `, measured ${milliseconds(p.measured)}` : "") : "";
    const score = Number.isFinite(p.score) ? `${METRICS.accuracy.show(p.score, p)}${half}${p.kind === 0 ? " predicted" : ""}` : "";
    const images = p.n ? `${count(p.n)} images` : "";
    return [score, METRICS.size.show(p.bytes), timed, images, whenOf(p)].filter(Boolean).join(" · ");
  }
  function tell() {
    const p = chosen || present;
    setText(words, p ? (chosen && !isPresent(chosen) ? chosen.words : `Now: ${present.words}`) : "");
    setText(figures, p ? (p.name && p === chosen ? `${p.recipe} · ` : "") + tellOf(p) : "Settings appear here as they are measured.");
    go.disabled = !chosen || isPresent(chosen);
  }
  function chainOf(p) {
    const chain = [];
    for (let at = p; at && chain.length < 6 && !chain.includes(at); at = store.points[at.parent]) chain.push(at);
    return chain;
  }

  function draw() {
    tell();
    const fitted = fitCanvas(canvas);
    if (!fitted) return;
    const colour = coloursOf(el);
    const state = {
      x: metric("x"), y: metric("y"), xAxis, yAxis, shown, front, dense, present, chosen, chain: chosen ? chainOf(chosen) : [], crowded: shown.length > 300,
    };
    if (stale || !places || xAxis.moving || yAxis.moving) {
      places = placesOf(fitted, state);
      drawGround(fitCanvas(ground).pen, places, state, colour, `11px ${getComputedStyle(el).fontFamily}`);
      stale = xAxis.moving || yAxis.moving;
      if (stale) later();
    }
    drawMarks(fitted.pen, places, state, colour);
  }

  function nearest(event) {
    if (!places) return null;
    let found = null, best = REACH ** 2;
    for (const p of shown) {
      const [px, py] = places.at(p);
      const distance = (px - event.offsetX) ** 2 + (py - event.offsetY) ** 2;
      if (distance < best) { best = distance; found = p; }
    }
    return found;
  }
  function goTo(p) {
    if (!p || isPresent(p)) return;
    model.send({ do: "go", place: p.place, edition: model.get("edition") });
  }
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const found = nearest(event);
    canvas.style.cursor = found && !isPresent(found) ? "pointer" : "";
    if (found !== chosen) { chosen = found; later(); }
  });
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch" && chosen) { chosen = null; later(); } });
  canvas.addEventListener("click", (event) => {
    const found = nearest(event);
    const touch = event.pointerType === "touch";
    if (!touch || found === chosen) goTo(found);
    chosen = found;
    later();
  });
  go.addEventListener("click", () => goTo(chosen));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = chosen ? sorted.indexOf(chosen) : present ? sorted.findIndex(isPresent) : -1;
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at < 0 ? 0 : at - 1, ArrowDown: at < 0 ? 0 : at - 1, Home: 0, End: sorted.length - 1 }[event.key];
    if (event.key === "Enter" && chosen) goTo(chosen);
    else if (event.key === "Escape" && chosen) chosen = null;
    else if (to != null && sorted.length) {
      chosen = sorted[Math.max(0, Math.min(sorted.length - 1, to))];
      speaker.textContent = `${isPresent(chosen) ? "Now: " : ""}${chosen.words}: ${tellOf(chosen)}`;
    } else return;
    event.preventDefault();
    later();
  });
  canvas.addEventListener("blur", () => { if (!go.matches(":hover, :active")) { chosen = null; later(); } });

  // Beside the other views the page's head has the undo keys; alone, this view has them.
  const own = undoKeys(model);
  const keys = (event) => { if (!el.closest(".wb-page")) own(event); };
  el.addEventListener("keydown", keys);

  function set(changes) {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  }
  // The same figure on both axes would be a line: the other axis takes what this one had.
  function chooseAxis(name, other, value) {
    set({ [name]: value, ...(model.get(other) === value ? { [other]: model.get(name) } : {}) });
  }
  across.select.addEventListener("change", () => chooseAxis("x", "y", across.select.value));
  up.select.addEventListener("change", () => chooseAxis("y", "x", up.select.value));
  scope.select.addEventListener("change", () => set({ scope: scope.select.value }));
  log.input.addEventListener("change", () => set({ log: log.input.checked }));
  filter.addEventListener("input", () => { gather(); later(); });
  near.input.addEventListener("change", () => set({ near: near.input.checked }));

  const arrived = (content, buffers) => { if (content.do === "file") saveFile(content.name, [buffers[0]]); };
  model.on("msg:custom", arrived);
  const update = onTraits(model, TRAITS, () => { gather(); later(); });
  const looks = onLooks(canvas, () => { stale = true; later(); });
  const unseen = reportVisibility(model, el);
  gather();
  later();
  return () => {
    model.off("change:labelled", nameAccuracy);
    cancelAnimationFrame(frame);
    update.end();
    model.off("msg:custom", arrived);
    looks();
    unseen();
    el.removeEventListener("keydown", keys);
  };
}

export default { render };
