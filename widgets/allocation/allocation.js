// Find the best: a budget, what may be used, and the recipes that keep it, side by side with one click to apply each.

const ABOUT = "Every layer's options are measured alone on part of the validation split; the choice that harms least within the budget is then found exactly, measured in full, and searched again with what was learnt. Greedy and “same everywhere” keep the same budget, for comparison. Then repairs without training are tried: BatchNorm recalibrated, biases corrected, weights rounded by GPTQ; what is foreseen is without them. Channels and bits are chosen together, and layers whose channels go together share both. Locked layers keep what they have. The test split is only run for what is shown at the end.";
const START = { bytes: (dense) => dense.bytes / 11e3, runtime_bytes: (dense) => dense.runtime_bytes / 6e3, ms: (dense) => dense.ms * 0.6, macs: (dense) => dense.macs * 0.5e-6, drop: () => 0.5 };
const round = (value) => (value >= 100 ? Math.round(value / 10) * 10 : value >= 10 ? Math.round(value) : Number(value.toPrecision(2)));
const points = (lost) => (Math.abs(lost) < 0.005 ? "as dense" : `${number(Math.abs(lost), 2)} ${lost > 0 ? "lost" : "gained"}`);

function course(progress, about) {
  const { state, doing, share, left, seconds } = progress;
  if (state === "running") return `${number(100 * share, 0)} %${share > 0.02 && left != null ? ` · about ${duration(left)} left` : ""} · ${doing}`;
  if (state === "cancelled") return about.measured ? "Stopped; what was found so far stays." : "Stopped before anything was found.";
  if (state === "done") return `Done after ${duration(seconds)}: ${plural(about.measured, "recipe")} measured in full, ${plural(about.images, "image")} for each option`;
  return "";
}

function render({ model, el }) {
  el.classList.add("wb");
  const { kinds, techniques, apart } = model.get("choices");
  const byName = Object.fromEntries(kinds.map((kind) => [kind.name, kind]));
  const [kindId, amountId] = [uniqueId("budget"), uniqueId("amount")];
  const kind = element("select", { id: kindId, "aria-label": "Kind of budget" }, ...kinds.map(({ name, label }) => element("option", { value: name }, label)));
  const amount = element("input", { id: amountId, type: "number", min: "0", step: "any", "aria-label": "Budget" });
  const unit = element("span", { class: "wb-unit" });
  const boxes = Object.fromEntries(Object.entries(techniques).map(([name, label]) => {
    const input = element("input", { type: "checkbox" });
    return [name, { input, root: element("label", { class: "wb-tick" }, input, label) }];
  }));
  const start = button("Find the best", { class: "wb-button wb-start" });
  const bar = element("div", { class: "wb-progress", role: "progressbar", "aria-label": "Search", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" }, element("i"));
  const text = element("span", { class: "wb-course-text wb-muted" });
  const done = element("span", { class: "wb-hidden", role: "status" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const head = element("tr");
  const body = element("tbody");
  const table = element("div", { class: "wb-answers", tabindex: "0", role: "region", "aria-label": "Answers" }, element("table", {}, element("thead", {}, head), body));
  const empty = element("p", { class: "wb-nothing wb-muted" }, "Say what you can afford. The workbench measures what each layer bears, and finds the recipe that loses least within it. The first answer is there in about half a minute, and gets better while you work on.");
  const remarks = element("ul", { class: "wb-remarks" });
  const locks = element("p", { class: "wb-muted wb-locks" });
  const ticked = () => Object.entries(boxes).filter(([, { input, root }]) => input.checked && !root.hidden).map(([name]) => name);
  const front = frontView(model, ticked);
  el.replaceChildren(element("div", { class: "wb-allocation wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Find the best", help("finding the best", ABOUT)),
      element("div", { class: "wb-ask" }, kind, element("span", { class: "wb-muted" }, "at most"), amount, unit), start,
      element("fieldset", { class: "wb-techniques" }, element("legend", { class: "wb-hidden" }, "Techniques allowed"), ...Object.values(boxes).map(({ root }) => root))),
    element("div", { class: "wb-course" }, bar, text, done), problem, locks, empty, table, remarks, front.root));

  let typed = false;
  function propose() {
    const dense = model.get("dense");
    const { name } = byName[kind.value];
    if (typed || (name !== "drop" && dense[name] == null)) return;
    amount.value = String(round(START[name](dense)));
  }
  function offer() {
    const chosen = byName[kind.value];
    setText(unit, chosen.unit);
    for (const [name, { input, root }] of Object.entries(boxes)) {
      root.hidden = !chosen.able.includes(name);
      input.checked = chosen.usual.includes(name);
    }
    typed = false;
    amount.value = "";
    propose();
  }
  // Of techniques that cannot be allocated together only the one ticked last stays.
  for (const [name, { input }] of Object.entries(boxes)) {
    input.addEventListener("change", () => {
      if (!input.checked) return;
      for (const pair of apart) if (pair.includes(name)) boxes[pair.find((other) => other !== name)].input.checked = false;
    });
  }

  const figures = (about) => {
    const asked = about.kind === "runtime_bytes" ? [["Runtime's file", (row) => bytes(row.runtime_bytes)]] : [];
    return [["Size", (row) => bytes(row.bytes)], ...asked, ["Latency", (row) => milliseconds(row.ms)], ["MACs", (row) => (row.macs == null ? "–" : compact(row.macs))]];
  };
  function rowOf(row, about, dense, applied) {
    const accuracy = (value, before) => (value == null ? ["–"] : [percent(value, 2), ...(before == null ? [] : [element("small", { class: "wb-muted" }, ` ${points(100 * (before - value))}`)])]);
    const [value, low, high] = row.foreseen;
    const set = row.hash === applied;
    const apply = button(set ? "Set" : "Apply", { "aria-label": `Apply to the sliders: ${row.title}`, "data-by": row.by, disabled: set });
    apply.addEventListener("click", () => model.send({ do: "apply", by: row.by }));
    return element("tr", { class: row.by === "exact" ? "wb-best" : "" }, element("th", { scope: "row" }, row.title, ...(row.repair ? [element("small", { class: "wb-muted wb-under" }, row.repair)] : [])),
      element("td", {}, apply), element("td", {}, percent(value, 2), element("small", { class: "wb-muted" }, ` ± ${number(50 * (high - low), 2)}`)),
      element("td", {}, ...accuracy(row.validation, about.searched)), element("td", {}, ...accuracy(row.test, dense.accuracy)),
      ...figures(about).map(([, show]) => element("td", {}, show(row))));
  }
  // Built anew only where something in it changed: a hand may be on one of its buttons while the search goes on.
  let built = [];
  function buildTable(answers, about, dense) {
    const present = [answers, about, dense, model.get("applied")];
    if (!answers.length || present.every((value, at) => value === built[at])) return;
    built = present;
    const split = dense.test || "test";
    const held = body.contains(document.activeElement) ? document.activeElement.dataset.by : null;
    head.replaceChildren(...["", "", "Foreseen", "Validation", split[0].toUpperCase() + split.slice(1), ...figures(about).map(([name]) => name)].map((name) => (name ? element("th", { scope: "col" }, name) : element("td"))));
    body.replaceChildren(...answers.map((row) => rowOf(row, about, dense, model.get("applied"))));
    if (dense.accuracy != null) body.append(element("tr", { class: "wb-dense wb-muted" }, element("th", { scope: "row" }, "Dense"), element("td"), element("td"), element("td", {}, percent(about.searched, 2)), element("td", {}, percent(dense.accuracy, 2)), ...figures(about).map(([, show]) => element("td", {}, show(dense)))));
    if (held) [...body.querySelectorAll("button")].find((apply) => apply.dataset.by === held)?.focus();
    remarks.replaceChildren(...(about.remarks || []).map((remark) => element("li", {}, remark)));
  }
  function update() {
    const [progress, about, dense, answers] = [model.get("progress"), model.get("about"), model.get("dense"), model.get("answers")];
    const running = progress.state === "running";
    propose();
    setText(start, running ? "Cancel" : answers.length ? "Find again" : "Find the best");
    start.classList.toggle("wb-running", running);
    const share = running ? progress.share : progress.state === "done" ? 1 : progress.share || 0;
    bar.firstChild.style.width = `${100 * share}%`;
    bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    bar.classList.toggle("wb-quiet", !running);
    const words = course(progress, about);
    bar.classList.toggle("wb-idle", !words);
    setText(text, words);
    setText(done, running ? "" : words);
    setText(problem, model.get("problem") || (progress.state === "failed" ? progress.error : ""));
    const locked = model.get("locked");
    setText(locks, locked ? `${locked} locked ${locked === 1 ? "layer keeps" : "layers keep"} what ${locked === 1 ? "it has" : "they have"}.` : "");
    table.hidden = !answers.length;
    empty.hidden = Boolean(answers.length) || running;
    buildTable(answers, about, dense);
    front.draw();
  }

  kind.addEventListener("change", offer);
  amount.addEventListener("input", () => { typed = true; });
  start.addEventListener("click", () => {
    if (model.get("progress").state === "running") { model.send({ do: "cancel" }); return; }
    const chosen = ticked();
    amount.toggleAttribute("aria-invalid", false);
    if (!(Number(amount.value) >= 0) || amount.value === "") { amount.setAttribute("aria-invalid", "true"); amount.focus(); return; }
    model.send({ do: "start", kind: kind.value, amount: Number(amount.value), techniques: chosen });
  });
  amount.addEventListener("keydown", (event) => { if (event.key === "Enter") start.click(); });

  const traits = onTraits(model, ["dense", "answers", "about", "progress", "applied", "locked", "problem", "front", "evolving"], update, { frame: true });
  const unseen = reportVisibility(model, el);
  offer();
  update();
  return () => { traits.end(); front.end(); unseen(); };
}

export default { render };
