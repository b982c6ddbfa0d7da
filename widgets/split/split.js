// Where to cut a model between a device and a server: a slider over the cuts, what each costs, and a real run.

const SPLIT_WORDS = {
  start: "Measure the cuts", again: "Measure again", idle: "What device, link and server would each take, at every place where the model can be cut, and which cut is the quickest. Both halves are timed and what would be sent is coded, which takes some seconds.",
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
  const device = machineField("Device", "slowdown", "× slower than this machine", (pace) => pace.slower);
  const server = machineField("Server", "speedup", "× faster than this machine", (pace) => 1 / pace.slower);
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
    element("div", { class: "wb-picks" }, device.root, server.root, pick("Network", network), own, pick("Sent in", bits)),
    line.root, line.problem, line.empty, stage));
  let chosen = null;

  // A machine is chosen, and a factor foretold of it; a factor typed by hand counts instead.
  function machineField(title, factor, words, paceOf) {
    const machine = choice([]);
    const value = numberField("", { min: 0.01, step: "any", "aria-label": `${title}: times ${factor === "slowdown" ? "slower" : "faster"} than this machine` });
    const guess = element("span", { class: "wb-pick" }, value, words);
    const name = title.toLowerCase();
    const known = () => model.get("machines").find((pace) => pace.device === model.get(name));
    machine.addEventListener("change", () => {
      const own = machine.value === "own";
      if (!own) model.set(name, machine.value);
      set(factor, own ? Number(value.value) || 1 : null);
    });
    value.addEventListener("change", () => set(factor, Number(value.value)));
    function update() {
      if (machine.options.length <= 1) machine.replaceChildren(...choice([...model.get("machines").map((pace) => [pace.device, pace.title]), ["own", "by hand"]]).children);
      const [typed, pace] = [model.get(factor), known()];
      machine.value = typed == null ? model.get(name) : "own";
      guess.hidden = typed == null && pace?.slower == null; // known once the cuts are measured
      if (document.activeElement !== value) value.value = typed ?? (pace?.slower == null ? "" : Number(paceOf(pace).toPrecision(3)));
    }
    const reach = () => {
      const pace = known();
      if (model.get(factor) != null || pace?.slower == null || pace.low === pace.high) return "";
      const [least, most] = [paceOf(pace), paceOf({ slower: pace.low }), paceOf({ slower: pace.high })].slice(1).sort((a, b) => a - b);
      return `${title}: ${rounded(least)} to ${rounded(most)} times (90 %), foretold from ${pace.anchors ? "published measurements" : "its data sheet alone"}. `;
    };
    return { root: element("span", { class: "wb-machine" }, pick(title, machine), guess), update, reach };
  }
  function move(at) { chosen = model.get("plan").cuts[at]?.name ?? null; update(); }
  function linked() {
    own.hidden = network.value !== "own";
    set("link", network.value === "own" ? { name: "own", mbps: Number(mbps.value), rtt_ms: Number(rtt.value) } : { name: network.value });
  }
  for (const node of [network, mbps, rtt]) node.addEventListener("change", linked);
  bits.addEventListener("change", () => set("bits", Number(bits.value)));
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
      fact("same", "Same answers", percent(cut.agreement), cut.bytes ? `of ${plan.images} images, sent in ${plural(plan.bits, "bit")}` : "nothing is rounded"));
  }
  function update() {
    const { here, fresh, running } = line.update();
    const [plan, link, trial] = [model.get("plan"), model.get("link"), model.get("trial")];
    if (network.options.length <= 1) network.replaceChildren(...choice([...model.get("networks").map((one) => [one.name, named(one)]), ["own", "your own"]]).children);
    network.value = link.name;
    own.hidden = link.name !== "own";
    bits.value = String(model.get("bits"));
    device.update();
    server.update();
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
    setText(note, `Halves are measured on this machine, one thread, and scaled by these factors. ${device.reach()}${server.reach()}Bytes are those of ${plan.images} test images, rounded to ${plan.bits} bit and entropy-coded. ${plan.network.name in LINKS ? `${LINKS[plan.network.name]}: round figures for links of its kind, not measured.` : ""}`);
  }
  const traits = onTraits(model, [...STUDIED, "networks", "plan", "trial", "link", "machines", "device", "server", "slowdown", "speedup", "bits"], update, { frame: true });
  const looks = onLooks(chart.root, () => { if (!stage.hidden) update(); });
  const unseen = reportVisibility(model, el);
  update();
  return () => { traits.end(); looks(); unseen(); };
}

export default { render };
