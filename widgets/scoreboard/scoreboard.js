// The three headline figures. Each card is a role="status" whose data-* attributes always describe one
// true figure: the value together with the recipe it belongs to. While a newer recipe has no figure yet,
// the card is aria-busy and dimmed. The cards themselves are silent for screen readers (they change many
// times a second); one hidden live region speaks when the figures have settled.

const inCss = (share) => `${Math.max(0, Math.min(100, share * 100))}%`;

const HELP = {
  agreement: "These images have no labels, so it is not known which answers are right. This is the share answered like the dense model: sampled first, with an interval that holds at 95 % at every look, then exact.",
  accuracy: "The share of images answered right. It is sampled first: the bar is the 95 % interval, which holds at every look. When every image of the split has been run, it is exact. The grey mark is the dense model, the dashed ring what a sensitivity sweep predicts.",
  size: "The packed file you can download, to the byte. A runtime loads another file: ONNX holds zeros as full weights, so pruning does not shrink it. The entropy bound is the least any coder of single weights could reach.",
  latency: "Milliseconds for one image on this machine, one thread. Predicted from kernels measured once here, with its 95 % interval; press Measure to time the real file. The reason says why nothing is gained where nothing is. For another device it is computed from its data sheet and from what was measured there: trust the ratio to the dense model more than the milliseconds.",
};

function card(metric, title) {
  const parts = {
    kind: element("span", { class: "wb-kind" }),
    value: element("span", { class: "wb-value" }, "–"),
    change: element("span", { class: "wb-change" }),
    plot: element("div", { class: "wb-plot", "aria-hidden": "true" }, element("div", { class: "wb-axis" })),
    foot: element("div", { class: "wb-foot" }),
  };
  const root = element("div", { class: "wb-score wb-card", role: "status", "aria-live": "off", "aria-label": title, "data-metric": metric },
    element("div", { class: "wb-title" }, element("h2", {}, title, " ", help(title.toLowerCase(), HELP[metric])), parts.kind),
    element("div", { class: "wb-headline" }, parts.value, parts.change), parts.plot, parts.foot);
  const marks = {};
  for (const name of ["range", "fill", "mark", "ghost", "point"]) {
    marks[name] = element("i", { class: `wb-${name}` });
    marks[name].hidden = true;
    parts.plot.append(marks[name]);
  }
  const ends = [element("span"), element("span")];
  parts.plot.append(element("div", { class: "wb-ends" }, ...ends));
  return { root, marks, ends, ...parts };
}

function place(mark, left, width) {
  mark.hidden = left == null || Number.isNaN(left);
  mark.style.display = mark.hidden ? "none" : "";
  if (mark.hidden) return;
  mark.style.left = inCss(left);
  if (width != null) mark.style.width = inCss(Math.min(width, 1 - Math.max(0, left)));
}

// Nothing is known yet of a model just opened, and what stands in the card is the figure of the one before.
function blank(parts, kind, ...texts) {
  for (const name of ["value", "low", "high", "n", "kind", "recipe", "split"]) delete parts.root.dataset[name];
  setText(parts.value, "–");
  for (const node of [parts.change, ...parts.ends, ...texts]) setText(node, "");
  for (const mark of Object.values(parts.marks)) place(mark, null);
  kindOf(parts, kind);
}

function describe(root, data, busy) {
  for (const [name, value] of Object.entries(data)) if (root.dataset[name] !== String(value ?? "")) root.dataset[name] = value ?? "";
  root.setAttribute("aria-busy", String(busy));
}

function headline(parts, text, unit) {
  if (!parts.value.children.length) parts.value.replaceChildren(element("span"), element("small"));
  const [figure, small] = parts.value.children;
  setText(figure, text);
  setText(small, unit);
}

function kindOf(parts, kind) {
  setText(parts.kind, kind);
  parts.kind.dataset.kind = kind;
}

// The line that no headline hides: which classes lose more than chance and more than the others.
const signed = (points) => `${points < 0 ? "−" : "+"}${number(Math.abs(points), 1)}`;
const NAMED = 3;
function harmLine(onMore) {
  const lead = element("b");
  const list = element("span", { class: "wb-harm-list" });
  const more = button("See classes", { class: "wb-button wb-harm-more" });
  const root = element("div", { class: "wb-harm", "data-recipe": "", "data-hurt": "" }, element("p", {}, lead, " ", list), more);
  more.addEventListener("click", onMore);
  function show(harm, progress, bare) {
    const present = harm.recipe != null && harm.recipe === progress.recipe;
    const hurt = present && harm.hurt ? harm.hurt : [];
    const judged = present && harm.hurt != null;
    root.dataset.recipe = present ? harm.recipe : "";
    root.dataset.hurt = hurt.map(({ name }) => name).join();
    root.classList.toggle("wb-hurting", hurt.length > 0);
    more.hidden = !judged;
    setText(lead, hurt.length ? `▼ ${hurt.length === 1 ? "A class is" : `${hurt.length} classes are`} hurt beyond chance:` : "");
    const named = hurt.slice(0, NAMED).map(({ name, value, low, high }, place) => `${name} ${signed(value)}${place ? "" : ` points (${signed(low)} to ${signed(high)})`}`);
    if (hurt.length > NAMED) named.push(`${hurt.length - NAMED} more`);
    setText(list, hurt.length ? `${named.join(", ")}; all images ${signed(harm.overall.value)}`
      : judged ? `No class is hurt beyond chance, by all ${count(harm.n)} images.`
      : bare ? "Without labels it is not known which answers are right, nor which classes are hurt."
      : present ? "Uncompressed: there is nothing to compare yet." : "Which classes are hurt is known once every image was run.");
    root.title = hurt.map(({ name, value, low, high }) => `${name} ${signed(value)} points (95 %: ${signed(low)} to ${signed(high)})`).join("\n");
  }
  return { root, show, text: () => (root.classList.contains("wb-hurting") ? `${lead.textContent} ${list.textContent}` : "") };
}

function render({ model, el }) {
  el.classList.add("wb");
  const accuracy = card("accuracy", "Accuracy");
  const size = card("size", "Size");
  const latency = card("latency", "Latency");
  const harm = harmLine(() => model.send({ do: "behaviour" }));
  const why = element("p", { class: "wb-why", "aria-hidden": "true" });
  const speaker = element("div", { class: "wb-hidden", "aria-live": "polite" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const root = element("div", { class: "wb-scoreboard" },
    element("div", { class: "wb-scores" }, accuracy.root, size.root, latency.root), harm.root, why, problem, speaker);
  el.replaceChildren(root);

  const images = element("div");
  const counted = element("span");
  const counter = element("span", { class: "wb-wide" });
  images.append(counted, " ", counter);
  const runner = element("div", { class: "wb-wide" });
  const spread = element("div");
  const half = element("span");
  const level = element("span", { class: "wb-wide" });
  spread.append(half, " ", level);
  const agreement = element("div", { class: "wb-wide" });
  accuracy.foot.append(images, spread, agreement, runner);

  const rows = [["Runtime file (ONNX)", "ONNX"], ["Entropy bound", "entropy"], ["Dense fp32", ""]].map(([name, slim]) => {
    const value = element("b");
    size.foot.append(element("div", slim ? {} : { class: "wb-wide" }, element("span", { class: "wb-wide" }, name), element("span", { class: "wb-slim" }, slim), value));
    return value;
  });
  const reason = element("div", { class: "wb-reason wb-wide" });
  const measured = element("span");
  const button = element("button", { type: "button", class: "wb-button" }, "Measure");
  latency.foot.append(reason, element("div", {}, measured, button));
  measured.className = "wb-wide";
  button.addEventListener("click", () => model.send({ do: "measure" }));
  const device = element("select", { class: "wb-device", "aria-label": "Device" });
  latency.kind.before(device);
  device.addEventListener("change", () => model.send({ do: "device", name: device.value }));
  function drawDevices() {
    const known = model.get("devices");
    if (device.children.length !== known.length) {
      device.replaceChildren(...known.map(({ name, title }) => element("option", { value: name }, title)));
    }
    device.value = model.get("device");
    device.title = known.find(({ name }) => name === device.value)?.title ?? "";
  }

  const failed = () => Boolean(model.get("progress").error);
  const ahead = expectations(model, ["size", "accuracy"], draw);
  // What is expected is of the recipe that was asked for last, which the kernel may not have heard of yet.
  const old = (figure, metric) => !figure || (figure.recipe !== model.get("progress").recipe && !ahead.has(metric));
  const busy = (figure, metric) => old(figure, metric) && !failed();
  // What is under way; of a setting that could not be carried out there will be no figure, and those before it stay.
  const doing = (figure, what, metric) => (!old(figure, metric) ? figure.kind : !failed() ? what : figure ? "previous" : "none");

  // Without labels the first card tells agreement, and is called so.
  function rename(metric) {
    const title = metric[0].toUpperCase() + metric.slice(1);
    accuracy.root.dataset.metric = metric;
    accuracy.root.setAttribute("aria-label", title);
    accuracy.root.querySelector("h2").replaceChildren(title, " ", help(metric, HELP[metric]));
  }

  function drawAccuracy() {
    const figure = ahead.of("accuracy"), waits = busy(figure, "accuracy");
    const base = model.get("baseline").accuracy;
    const ghost = waits || !ahead.has("accuracy") ? model.get("progress").predicted : null; // that of the recipe before
    accuracy.root.setAttribute("aria-busy", String(waits));
    if (figure && figure.metric !== accuracy.root.dataset.metric) rename(figure.metric);
    if (!figure) {
      blank(accuracy, doing(figure, "measuring"), counter, half, level, agreement, runner);
      setText(counted, failed() ? "" : model.get("progress").doing || "Running the first images.");
      return;
    }
    const { value, low, high, n, kind, recipe, split } = figure;
    describe(accuracy.root, { value, low, high, n, kind, recipe, split }, waits);
    kindOf(accuracy, doing(figure, "measuring", "accuracy"));
    const exact = figure.kind === "exact";
    headline(accuracy, number(figure.value * 100, exact ? 2 : 1), "%");
    const change = base ? (figure.value - base.value) * 100 : null;
    setText(accuracy.change, change == null ? "" : Math.abs(change) < 0.005 ? "same as dense" : `${change < 0 ? "▼" : "▲"} ${number(Math.abs(change), exact ? 2 : 1)} points`);
    const total = model.get("context").total?.[figure.split] ?? figure.n;
    setText(counted, `${number(figure.n, 0)} of ${number(total, 0)}`);
    setText(counter, `${figure.split} images`);
    setText(half, exact ? "every image" : `± ${number((figure.high - figure.low) * 50, 1)} points`);
    setText(level, exact ? "was run" : "at 95 % confidence");
    setText(agreement, figure.metric === "agreement" ? "no labels: accuracy is not known" : figure.agreement == null ? "" : `same answer as dense on ${number(figure.agreement * 100, 1)} %`);
    setText(runner, ghost ? `predicted ${percent(ghost.value)} (${number(ghost.low * 100, 0)}–${number(ghost.high * 100, 0)})` : `run by ${titleOf(figure.runtime)}`);
    const lowest = Math.min(figure.value, ghost?.value ?? 1, base?.value ?? 1);
    const floor = [0.8, 0.6, 0.4, 0.2, 0].find((edge) => lowest - 0.03 > edge) ?? 0;
    const at = (value) => (value == null ? null : (value - floor) / (1 - floor));
    place(accuracy.marks.range, at(Math.max(figure.low, floor)), exact ? 0 : (figure.high - Math.max(figure.low, floor)) / (1 - floor));
    place(accuracy.marks.mark, at(base?.value));
    place(accuracy.marks.ghost, at(ghost?.value));
    place(accuracy.marks.point, at(figure.value));
    setText(accuracy.ends[0], `${floor * 100} %`);
    setText(accuracy.ends[1], "100 %");
  }

  function drawSize() {
    const figure = ahead.of("size"), waits = busy(figure, "size");
    size.root.setAttribute("aria-busy", String(waits));
    if (!figure) { blank(size, doing(figure, "packing"), ...rows); return; }
    describe(size.root, { value: figure.bytes, low: figure.bytes, high: figure.bytes, n: "", kind: figure.kind, recipe: figure.recipe, split: "" }, waits);
    kindOf(size, doing(figure, "packing", "size"));
    const [value, unit] = bytes(figure.bytes).split(" ");
    headline(size, value, unit);
    const ratio = figure.dense / figure.bytes;
    setText(size.change, ratio < 1.05 ? "same as dense" : `${number(ratio, ratio < 10 ? 1 : 0)}× smaller`);
    [figure.runtime, figure.entropy, figure.dense].forEach((count, index) => setText(rows[index], bytes(count)));
    place(size.marks.fill, 0, figure.bytes / figure.dense);
    place(size.marks.mark, 1);
    setText(size.ends[0], "packed file");
    setText(size.ends[1], "dense");
  }

  function drawLatency() {
    const figure = model.get("latency");
    const base = model.get("baseline").latency;
    const measuring = model.get("measuring");
    const missing = model.get("progress").settled && busy(figure); // there will be none
    latency.root.setAttribute("aria-busy", String(busy(figure) && !missing));
    button.disabled = measuring || !figure || missing;
    setText(button, measuring ? "Measuring" : "Measure");
    if (missing) {
      blank(latency, "not known", reason, measured, why);
      setText(reason, "Under this setting the model cannot be written as ONNX, so it cannot be timed.");
      reason.title = reason.textContent;
      return;
    }
    if (!figure) { blank(latency, doing(figure, "estimating"), reason, measured, why); return; }
    const { value, low, high, kind, recipe, ratio } = figure;
    describe(latency.root, { value, low, high, n: "", kind, recipe, split: "" }, busy(figure));
    kindOf(latency, doing(figure, "estimating"));
    button.hidden = ratio != null;
    if (ratio) { drawElsewhere(figure); return; }
    const [text, unit] = milliseconds(value).split(" ");
    headline(latency, text, unit);
    const change = base ? base.value / value : null;
    setText(latency.change, change == null ? "" : Math.abs(change - 1) < 0.03 ? "same as dense" : change > 1 ? `${number(change, 1)}× faster` : `${number(1 / change, 1)}× slower`);
    const [runtime, version] = figure.runtime.split(" ");
    const conditions = `${figure.batch === 1 ? "one image at a time" : `batches of ${figure.batch}`}, in ${titleOf(runtime)}${version ? ` ${version}` : ""}`;
    const because = spaced(figure.reason);
    setText(reason, because || conditions);
    reason.title = because || `${conditions}, on ${figure.device}`;
    setText(why, because || `Latency is that of ${conditions}, on this machine.`);
    setText(measured, figure.measured ? `measured ${milliseconds(figure.measured.value)} (${number(figure.measured.low, 2)}–${number(figure.measured.high, 2)})` : "not measured yet");
    const top = Math.max(value, high, base?.value ?? 0, figure.measured?.high ?? 0) * 1.08;
    place(latency.marks.fill, 0, value / top);
    place(latency.marks.range, low / top, (high - low) / top);
    place(latency.marks.mark, base ? base.value / top : null);
    place(latency.marks.point, figure.measured ? figure.measured.value / top : null);
    setText(latency.ends[0], figure.measured ? "bar predicted, tick measured" : "predicted");
    setText(latency.ends[1], base ? `dense ${milliseconds(base.value)}` : "");
  }

  // On a described device the ratio to the dense model is far surer than the milliseconds: it comes first.
  const times = (share) => number(share, share < 9.95 ? 2 : 0);
  function drawElsewhere({ value, low, high, ratio, energy, reason: why_, runtime }) {
    const faster = 1 / ratio.value;
    const same = Math.abs(faster - 1) < 0.03;
    headline(latency, same ? "same" : `${times(faster >= 1 ? faster : 1 / faster)}×`, same ? "" : faster > 1 ? "faster" : "slower");
    const [ms, from, to] = [value, low, high].map(milliseconds);
    const alike = [from, to].every((text) => text.split(" ")[1] === ms.split(" ")[1]);
    setText(latency.change, `${same ? "as dense, " : ""}${ms} (${alike ? `${from.split(" ")[0]}–${to.split(" ")[0]}` : `${from}–${to}`})`);
    const held = ratio.low === ratio.high ? "" : `90 % interval ${times(1 / ratio.high)}–${times(1 / ratio.low)}×. `;
    setText(reason, `${why_ ? `${why_} ` : ""}${held}Runtime: ${runtime}.`);
    reason.title = reason.textContent;
    setText(why, why_);
    setText(measured, energy ? `${number(energy.mj, energy.mj < 1 ? 3 : 1)} mJ (${number(energy.low, energy.low < 1 ? 3 : 1)}–${number(energy.high, energy.high < 1 ? 3 : 1)}), ${energy.scope}` : "energy not known");
    measured.title = measured.textContent;
    const top = Math.max(1, ratio.high) * 1.08;
    place(latency.marks.fill, 0, ratio.value / top);
    place(latency.marks.range, ratio.low / top, (ratio.high - ratio.low) / top);
    place(latency.marks.mark, 1 / top);
    place(latency.marks.point, null);
    setText(latency.ends[0], "share of the dense time");
    setText(latency.ends[1], "dense");
  }

  let spoken;
  function speak() {
    clearTimeout(spoken);
    if (!model.get("progress").settled || failed()) return;
    spoken = setTimeout(() => {
      const hurt = harm.text();
      const say = (parts) => `${parts.root.getAttribute("aria-label")} ${parts.value.textContent}, ${parts.change.textContent || "no baseline yet"}`;
      speaker.textContent = `${[accuracy, size, latency].map(say).join(". ")}.${hurt && ` ${hurt}`}`;
    }, 700);
  }

  function draw() {
    if (failed()) ahead.forget();
    drawAccuracy();
    drawSize();
    drawDevices();
    drawLatency();
    harm.show(model.get("harm"), model.get("progress"), model.get("accuracy")?.metric === "agreement");
    setText(problem, model.get("progress").error || model.get("problem"));
    speak();
  }

  const events = ["accuracy", "size", "latency", "baseline", "harm", "progress", "context", "devices", "device", "measuring", "problem"].map((name) => `change:${name}`);
  // Traits that arrive in one message change one after the other: draw once, when all are set.
  let queued = false;
  const later = () => {
    if (queued) return;
    queued = true;
    queueMicrotask(() => { queued = false; draw(); });
  };
  for (const event of events) model.on(event, later);
  draw();
  return () => {
    clearTimeout(spoken);
    ahead.end();
    for (const event of events) model.off(event, later);
  };
}

export default { render };
