// What a deployed model is asked and answers: drift feature by feature, latency, agreement with the dense model.

const SOURCES = { here: "this setting, rehearsed", server: "a running serve-monitor" };
const [SOME, MUCH] = [0.1, 0.25];

function courseChart(root, rows, names, drifted) {
  const width = Math.max(200, root.clientWidth || 600);
  const [left, top, height] = [32, 8, 74];
  const most = Math.max(0.3, ...rows.flatMap((row) => row.slice(1).filter(Number.isFinite)));
  const [first, last] = [rows[0][0], rows[rows.length - 1][0]];
  const x = (at) => left + ((width - left - 6) * (at - first)) / Math.max(1, last - first);
  const y = (psi) => top + height * (1 - Math.min(1, Math.sqrt(psi / most))); // the root: small values stay apart
  root.replaceChildren(svg("svg", { width, height: top + height + 18, role: "img", "aria-label": "Stability index of every feature, window by window" },
    ...[0, SOME, MUCH].flatMap((psi) => [svg("line", { class: "wb-grid", x1: left, x2: width - 6, y1: y(psi), y2: y(psi) }), psi === SOME && y(SOME) - y(MUCH) < 11 ? "" : svg("text", { x: left - 6, y: y(psi) + 3.5, "text-anchor": "end" }, String(psi))]),
    ...names.map((name, at) => svg("path", { class: drifted.has(name) ? "wb-bad" : "", d: rows.filter((row) => Number.isFinite(row[at + 1])).map((row, place) => `${place ? "L" : "M"}${x(row[0])} ${y(row[at + 1])}`).join("") }, svg("title", {}, name))),
    svg("text", { x: left, y: top + height + 14 }, `prediction ${count(first)}`), svg("text", { x: width - 6, y: top + height + 14, "text-anchor": "end" }, count(last))));
}

function render({ model, el }) {
  el.classList.add("wb");
  const set = (name, value) => { model.set(name, value); model.save_changes(); };
  const source = choice(Object.entries(SOURCES));
  const url = element("input", { type: "url", spellcheck: "false", size: 26, value: model.get("url") });
  const urlPick = pick("Address", url);
  const change = choice([]);
  const changePick = pick("Traffic", change);
  const start = button("Start", { class: "wb-button wb-primary" });
  const live = element("span", { class: "wb-live wb-muted", role: "status" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const verdict = element("p", { class: "wb-verdict" });
  const figures = element("dl", { class: "wb-figures" });
  const table = element("div", { class: "wb-scroll", tabindex: 0, role: "region", "aria-label": "Drift of each feature" });
  const course = element("div", { class: "wb-course" });
  const alarms = element("ul", { class: "wb-alarms", "aria-label": "Latest alarms" });
  const note = element("p", { class: "wb-note" }, "A window of 512 predictions is compared with what was normal: numbers by the Kolmogorov–Smirnov test, classes by chi-square; PSI says how far they moved (0.1 some, 0.25 much). An alarm comes where chance would give one in 50,000 comparisons.");
  const empty = element("p", { class: "wb-empty wb-muted" }, "Start lets the present setting answer test images as if it were deployed, and compares each window of 512 with what was normal. Choose other traffic to see what an alarm looks like.");
  const stage = element("div", { class: "wb-watch" }, verdict, figures, element("div", { class: "wb-drifts" }, table, element("div", {}, course, alarms)), note);
  el.replaceChildren(element("div", { class: "wb-study wb-monitor wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Monitor"), element("p", { class: "wb-muted" }, "Once deployed: do images and answers stay as they were, how long does an image take, and does the dense model still agree?")),
    element("div", { class: "wb-picks" }, pick("Watch", source), urlPick, changePick, start, live), problem, empty, stage));

  source.addEventListener("change", () => { set("source", source.value); update(); });
  url.addEventListener("change", () => set("url", url.value));
  change.addEventListener("change", () => set("traffic", change.value));
  start.addEventListener("click", () => model.send({ do: model.get("watching").what ? "stop" : "start" }));

  const fact = (title, value, small, bad) => element("div", { class: bad ? "wb-bad" : "" }, element("dt", {}, title), element("dd", {}, value, element("small", {}, small || " ")));
  function tell(status) {
    const features = model.get("features");
    const alarmed = (drift) => drift.p != null && drift.p < 2e-5;
    const drifted = new Set(Object.entries(status.drift).filter(([, drift]) => alarmed(drift)).map(([name]) => name));
    const first = !Object.keys(status.drift).length;
    const fell = drifted.has("confidence") && status.drift.confidence.shift < 0;
    setText(verdict, first ? `The first window closes at 512 predictions; ${count(status.predictions)} were served.`
      : drifted.size ? `The last window differs from what was normal in ${[...drifted].map((name) => features[name].toLowerCase()).join(", ")}${fell ? "; confidence is falling" : ""}.` : "The last window is as it was when the model was deployed.");
    verdict.classList.toggle("wb-bad", drifted.size > 0);
    const { latency, shadow, drift, normal } = status;
    figures.replaceChildren(
      fact("Predictions", count(status.predictions), status.failures ? `${count(status.failures)} failed` : "none failed", status.failures > 0),
      fact("Alarms", count(status.alarms), "since the start", status.alarms > 0),
      fact("Latency, median", `${rounded(latency.p50)} ms`, `95 %: ${rounded(latency.p95)}, 99 %: ${rounded(latency.p99)} ms`),
      fact("Confidence", drift.confidence?.shift == null ? "–" : percent(normal.confidence + drift.confidence.shift), `normal: ${percent(normal.confidence)}`, fell),
      fact("Dense model agrees", shadow?.agreement == null ? "–" : percent(shadow.agreement), !shadow ? "no shadow is run" : shadow.compared ? `${percent(shadow.low)} to ${percent(shadow.high)}, ${count(shadow.compared)} compared` : "none compared yet"));
    table.replaceChildren(first ? "" : tableOf("Drift of each feature", ["Feature", "Mean, normal", "PSI", "Distance", "p"], Object.entries(features).filter(([name]) => drift[name]).map(([name, title]) => {
      const one = drift[name];
      const bar = element("span", { class: "wb-psi", role: "img", "aria-label": `PSI ${number(one.psi ?? 0, 3)}` }, element("i", { style: `width:${Math.min(100, 200 * (one.psi ?? 0))}%` }), ...[SOME, MUCH].map((level) => element("u", { style: `left:${200 * level}%` })));
      const mean = name === "class" ? "–" : one.shift == null ? "not a number" : `${number(normal[name] + one.shift, 3)}, ${number(normal[name], 3)}`;
      return [title, mean, element("span", { class: "wb-index" }, bar, number(one.psi ?? 0, 3)), number(one.distance, 3), one.p < 0.001 ? (one.p < 2e-5 ? "<0.00002" : "<0.001") : number(one.p, 3)];
    }), (at) => (drifted.has(Object.keys(features).filter((name) => drift[name])[at]) ? "wb-drifted" : "")));
    alarms.replaceChildren(...[...status.latest].reverse().map((text) => element("li", {}, text)));
    const values = [...typed(model.get("course"), Float32Array)];
    const wide = Object.keys(features).length + 1;
    const rows = Array.from({ length: values.length / wide }, (_, at) => values.slice(at * wide, (at + 1) * wide));
    course.hidden = rows.length < 2;
    if (rows.length > 1) courseChart(course, rows, Object.keys(features), drifted);
  }
  function update() {
    const [watching, status, changes] = [model.get("watching"), model.get("status"), model.get("changes")];
    const own = model.get("source") === "own";
    if (change.options.length !== Object.keys(changes).length) change.replaceChildren(...Object.entries(changes).map(([value, text]) => element("option", { value }, text)));
    change.value = model.get("traffic");
    source.value = model.get("source");
    source.parentElement.hidden = own;
    source.disabled = url.disabled = Boolean(watching.what);
    urlPick.hidden = source.value !== "server" || own;
    changePick.hidden = source.value !== "here" || own;
    setText(start, watching.what ? "Stop" : "Start");
    start.classList.toggle("wb-primary", !watching.what);
    live.classList.toggle("wb-on", Boolean(watching.what));
    setText(live, watching.what ? (status.predictions == null ? "Learning what is normal" : `Watching ${watching.what}`) : status.predictions == null ? "" : "Stopped");
    setText(problem, model.get("problem"));
    stage.hidden = status.predictions == null;
    empty.hidden = !stage.hidden || Boolean(watching.what);
    if (!stage.hidden) tell(status);
  }
  const traits = onTraits(model, ["watching", "status", "course", "problem", "source", "traffic", "changes", "present"], update, { frame: true });
  const looks = onLooks(course, () => { if (!stage.hidden && !course.hidden) update(); });
  const unseen = reportVisibility(model, el);
  update();
  return () => { traits.end(); looks(); unseen(); };
}

export default { render };
