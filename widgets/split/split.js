// Where to cut a model between a device and a server: a slider over the cuts, what each costs, and a real run.

const SPLIT_WORDS = {
  start: "Measure the cuts", again: "Measure again", idle: "Times both halves at every cut and codes what would be sent; takes some seconds.",
  study: "Measuring", run: "Running two processes",
};

const LINKS = { ble: "Bluetooth LE", "3g": "3G", "4g": "4G", "5g": "5G", wifi: "Wi-Fi", ethernet: "Ethernet" };

function render({ model, el }) {
  el.classList.add("wb");
  const line = studyLine(model, SPLIT_WORDS);
  const set = (name, value) => { model.set(name, value); model.save_changes(); };
  const named = (network) => `${LINKS[network.name] ?? network.name} (${network.mbps} Mbit/s, ${network.rtt_ms} ms)`;
  const network = choice([]);
  const mbps = numberField(10, { min: 0.01, step: "any", "aria-label": "Megabits a second" });
  const rtt = numberField(20, { min: 0, step: "any", "aria-label": "Milliseconds there and back" });
  const own = element("span", { class: "wb-pick" }, mbps, "Mbit/s", rtt, "ms");
  const slowdown = numberField(model.get("slowdown"), { min: 0.01, step: "any" });
  const speedup = numberField(model.get("speedup"), { min: 0.01, step: "any" });
  const bits = choice([2, 3, 4, 5, 6, 7, 8].map((value) => [value, `${value} bit`]));
  const slider = element("input", { type: "range", min: 0, max: 1, step: 1, "aria-label": "Cut" });
  const where = element("output", { class: "wb-where" });
  const figures = element("dl", { class: "wb-figures" });
  const best = button("Go to the quickest");
  const run = button("Run this cut as two processes");
  const tried = element("p", { class: "wb-note", role: "status" });
  const note = element("p", { class: "wb-note" });
  const chart = cutChart((at) => move(at));
  const stage = element("div", { class: "wb-split-stage" },
    element("div", {}, chart.root, element("div", { class: "wb-cut-slider" }, slider), element("div", { class: "wb-picks" }, where, best, run)), figures, tried, note);
  el.replaceChildren(element("div", { class: "wb-study wb-split wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Split inference"), element("p", { class: "wb-muted" }, "The first layers on a device, the rest on a server: what does each cut cost, from image to answer?")),
    element("div", { class: "wb-picks" }, pick("Network", network), own, pick("Device is", slowdown), "× slower than this machine", pick("Server is", speedup), "× faster", pick("Sent in", bits)),
    line.root, line.problem, stage));
  let chosen = null;

  function move(at) { chosen = model.get("plan").cuts[at]?.name ?? null; update(); }
  function linked() {
    own.hidden = network.value !== "own";
    set("link", network.value === "own" ? { name: "own", mbps: Number(mbps.value), rtt_ms: Number(rtt.value) } : { name: network.value });
  }
  for (const node of [network, mbps, rtt]) node.addEventListener("change", linked);
  for (const [node, name] of [[slowdown, "slowdown"], [speedup, "speedup"], [bits, "bits"]]) node.addEventListener("change", () => set(name, Number(node.value)));
  slider.addEventListener("input", () => move(Number(slider.value)));
  best.addEventListener("click", () => { chosen = model.get("plan").best; update(); slider.focus(); });
  run.addEventListener("click", () => model.send({ do: "run", cut: chosen }));

  const fact = (part, title, value, small) => element("div", { class: `wb-is-${part}` }, element("dt", {}, title), element("dd", {}, value, small ? element("small", {}, small) : ""));
  function tell(plan, cut) {
    const shape = cut.shape.join(" × ");
    figures.replaceChildren(
      fact("device", "On the device", `${rounded(cut.device_ms)} ms`),
      fact("network", "Sent", bytes(cut.bytes), cut.bytes ? `${shape}; ${bytes(cut.raw_bytes)} as floats` : "nothing"),
      fact("network", "On the link", `${rounded(cut.network_ms)} ms`),
      fact("server", "On the server", `${rounded(cut.server_ms)} ms`),
      fact("total", "Total", `${rounded(cut.total_ms)} ms`, cut.name === plan.best ? "the quickest cut" : `${number(cut.total_ms / plan.cuts.find(({ name }) => name === plan.best).total_ms, 2)}× the quickest`),
      fact("same", "Same answers", percent(cut.agreement), `of ${plan.images} images, sent in ${plan.bits} bit`));
  }
  function update() {
    const { here, fresh, running } = line.update();
    const [plan, link, trial] = [model.get("plan"), model.get("link"), model.get("trial")];
    if (network.options.length <= 1) network.replaceChildren(...choice([...model.get("networks").map((one) => [one.name, named(one)]), ["own", "your own"]]).children);
    network.value = link.name;
    own.hidden = link.name !== "own";
    bits.value = String(model.get("bits"));
    for (const [node, name] of [[slowdown, "slowdown"], [speedup, "speedup"]]) if (document.activeElement !== node) node.value = model.get(name);
    const shown = here && plan.cuts;
    stage.hidden = !shown;
    stage.classList.toggle("wb-stale", Boolean(shown) && !fresh);
    if (!shown) return;
    let at = plan.cuts.findIndex(({ name }) => name === chosen);
    if (at < 0) { at = plan.cuts.findIndex(({ name }) => name === plan.best); chosen = plan.best; }
    const cut = plan.cuts[at];
    slider.max = plan.cuts.length - 1;
    slider.value = at;
    const words = cut.name === "input" ? "Everything on the server: the image is sent" : cut.name === "logits" ? "Everything on the device: nothing is sent" : `Cut behind ${cut.name}`;
    slider.setAttribute("aria-valuetext", `${words}, ${rounded(cut.total_ms)} ms`);
    setText(where, `${words} (${at + 1} of ${plan.cuts.length})`);
    chart.draw(plan, at);
    tell(plan, cut);
    best.disabled = cut.name === plan.best;
    run.disabled = running || !fresh || cut.name === "logits";
    const mine = trial.recipe && trial.recipe === model.get("shown").recipe;
    setText(tried, mine ? `Run at ${trial.cut}: ${trial.images} images, ${trial.equal ? "every answer to the digit that of one process" : "other answers than in one process"}; ${rounded(trial.ms)} ms and ${bytes(Math.round(trial.bytes))} an image over this machine's own network.` : "");
    setText(note, `Halves are measured on this machine, one thread, and scaled by your factors; bytes are those of ${plan.images} test images, rounded to ${plan.bits} bit and entropy-coded. ${plan.network.name in LINKS ? `${LINKS[plan.network.name]}: round figures for links of its kind, not measured.` : ""}`);
  }
  const traits = onTraits(model, [...STUDIED, "networks", "plan", "trial", "link", "slowdown", "speedup", "bits"], update, { frame: true });
  const looks = onLooks(chart.root, () => { if (!stage.hidden) update(); });
  const unseen = reportVisibility(model, el);
  update();
  return () => { traits.end(); looks(); unseen(); };
}

export default { render };
