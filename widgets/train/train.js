// The Train tab: the recovery ladder, a method with its settings, curves, and the jobs.

const ABOUT = "Compression loses accuracy; these win it back. Each rung is put behind the present recipe and judged on the validation split; cheap ones come first. The climb keeps those that help and stops as soon as the loss is within the points given. What came out becomes a part of the recipe.";

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("train");
  const send = (what, job) => model.send({ do: what, job });
  const within = element("input", { type: "text", inputmode: "decimal", id: `${id}-within`, autocomplete: "off" });
  const climb = button("Climb", { class: "wb-button wb-main" });
  const rungs = element("tbody");
  const method = element("select", { id: `${id}-method` }, ...model.get("methods").map(({ name, title }) => element("option", { value: name }, title)));
  const summary = element("p", { class: "wb-muted wb-summary" });
  const first = element("div", { class: "wb-fields" });
  const rest = element("div", { class: "wb-fields" });
  const more = element("details", {}, element("summary", {}, "More settings"), rest);
  const expected = element("p", { class: "wb-muted wb-expected" });
  const start = button("Start", { class: "wb-button wb-main" });
  const waiting = element("p", { class: "wb-waiting", role: "status" });
  const trainNow = button("Train these steps", { class: "wb-button wb-main" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const canvas = element("canvas", { role: "img" });
  const empty = element("p", { class: "wb-empty wb-muted" });
  const readout = element("p", { class: "wb-readout wb-muted" });
  const tray = element("ul", { class: "wb-jobs", "aria-label": "Training jobs" });
  el.replaceChildren(element("div", { class: "wb-train wb-card" },
    element("div", { class: "wb-side" },
      element("section", { "aria-label": "Recovery ladder" },
        element("div", { class: "wb-head" }, element("h2", {}, "Recovery ladder ", help("the recovery ladder", ABOUT)),
          element("span", { class: "wb-climb" }, element("label", { for: within.id }, "to within"), within, element("span", {}, "points"), climb)),
        element("table", { class: "wb-ladder" },
          element("thead", {}, element("tr", {}, ...["Rung", "points", "took", "points/s", ""].map((text, at) => element("th", { scope: "col", ...(at === 4 ? { "aria-label": "Start" } : {}) }, text)))), rungs)),
      element("section", { "aria-label": "Train by a method", class: "wb-method" },
        element("div", { class: "wb-head" }, element("h2", {}, element("label", { for: method.id }, "Method")), method, start),
        expected, summary, first, more),
      waiting, trainNow, problem),
    element("div", { class: "wb-main-side" },
      element("div", { class: "wb-head" }, element("h2", {}, "Validation accuracy"), readout),
      element("div", { class: "wb-stage" }, canvas, empty), tray)));

  let settings = {};
  const typed = {}; // by method, so that a look at another one loses nothing
  let controls = [];
  let lines = [], frame = null;
  const known = () => model.get("methods").find(({ name }) => name === method.value);
  const valueOf = (field) => (field.name in settings ? settings[field.name] : field.default);

  function showExpected() {
    const fields = known().fields;
    const of = (name) => { const field = fields.find((item) => item.name === name); return field ? valueOf(field) : null; };
    const images = Math.min(of("images") ?? Infinity, model.get("images"));
    const pace = model.get("pace")[method.value];
    const passes = known().again.reduce((sum, name) => sum * (1 + (of(name) ?? 0)), of("epochs"));
    const most = (of("minutes") ?? Infinity) * 60;
    setText(expected, pace ? `about ${duration(Math.min(pace * images * passes, most))} for ${count(images)} images × ${passes}` : "expected time: known after a first epoch");
  }
  function showFields() {
    const value = (name) => valueOf(known().fields.find((field) => field.name === name) || { name });
    for (const { field, show, apply, allow } of controls) {
      show(valueOf(field));
      allow(field.choices && field.choices.options[String(value(field.choices.by))]);
      const [head, inner] = field.name.split(".");
      apply((!inner || value(head) != null) && matters(field, value));
    }
    showExpected();
  }
  function build() {
    const chosen = model.get("chosen");
    if (chosen.method) method.value = chosen.method;
    settings = typed[method.value] = { ...(chosen.settings || {}) };
    rebuild();
  }
  function rebuild() {
    const { summary: text, source, url, fields } = known();
    summary.replaceChildren(`${text} `, url ? element("a", { href: url, target: "_blank", rel: "noreferrer" }, source) : source);
    controls = fields.map((field) => ({ field, ...advancedField(uniqueId("setting"), field, (value) => { settings[field.name] = value; showFields(); }, true) }));
    const nodes = (early) => controls.filter(({ field }) => field.first === early).flatMap((control) => control.nodes);
    first.replaceChildren(...nodes(true));
    rest.replaceChildren(...nodes(false));
    showFields();
  }

  const steps = new Map(); // a rung's row stays while its figures come: a hand may be on its button
  function rungRow({ name, title }) {
    const go = button("Run", { "aria-label": `Run: ${title}` });
    go.addEventListener("click", () => model.send({ do: "rung", rung: name }));
    const figures = [0, 1, 2].map(() => element("td", { class: "wb-figure" }));
    return { go, figures, root: element("tr", {}, element("th", { scope: "row" }, title), ...figures, element("td", {}, go)) };
  }
  function showLadder() {
    const ladder = model.get("ladder");
    for (const rung of ladder) {
      if (!steps.has(rung.name)) steps.set(rung.name, rungRow(rung));
      const { go, figures, root } = steps.get(rung.name);
      const tried = rung.points != null;
      root.title = rung.note || rung.help;
      root.classList.toggle("wb-in", rung.in);
      setText(go, rung.in ? "Again" : "Run");
      setText(figures[0], tried ? `${rung.points >= 0 ? "+" : "−"}${number(Math.abs(rung.points), 2)}` : "–");
      setText(figures[1], tried ? (rung.seconds < 10 ? `${number(rung.seconds, 1)} s` : duration(rung.seconds)) : "–");
      setText(figures[2], tried ? (rung.points > 0 ? number(rung.rate, rung.rate < 1 ? 3 : 1) : "0") : "–");
    }
    const wanted = ladder.map(({ name }) => steps.get(name).root);
    if (wanted.length !== rungs.children.length || wanted.some((row, at) => row !== rungs.children[at])) rungs.replaceChildren(...wanted);
    if (document.activeElement !== within) within.value = String(model.get("within"));
  }

  const rows = new Map();
  function toggle(job, on) {
    const shown = model.get("shown").filter((other) => other !== job);
    model.send({ do: "show", jobs: on ? [...shown, job] : shown });
  }
  function showJobs() {
    const jobs = model.get("jobs"), shown = model.get("shown"), curves = model.get("curves");
    for (const job of jobs) {
      if (!rows.has(job.id)) rows.set(job.id, jobRow(send, toggle));
      rows.get(job.id).show(job, shown.includes(job.id), Boolean(curves[job.id]));
    }
    const wanted = jobs.map((job) => rows.get(job.id).root);
    if (wanted.length !== tray.children.length || wanted.some((row, at) => tray.children[at] !== row)) tray.replaceChildren(...wanted);
    tray.hidden = !jobs.length;
    redraw();
  }

  let queued = 0;
  const redraw = () => { if (!queued) queued = requestAnimationFrame(() => { queued = 0; draw(); }); };
  function draw() {
    lines = linesOf(model);
    const running = model.get("jobs").some((job) => ["running", "queued"].includes(job.state));
    empty.hidden = lines.length > 0;
    setText(empty, running ? "The first point is drawn after the first epoch." : "Start a rung or a method: its curve is drawn here, epoch by epoch.");
    const told = lines.map(({ title, points }) => `${title}: ${percent(points.at(-1).value, 2)} after epoch ${points.at(-1).epoch}`);
    canvas.setAttribute("aria-label", told.length ? `Validation accuracy by epoch. ${told.join("; ")}` : "Validation accuracy by epoch: nothing trained yet");
    const fit = fitCanvas(canvas);
    if (!fit || !lines.length) { frame = null; return; }
    frame = curveFrame(lines, fit.width, fit.height);
    drawAxes(fit.pen, frame, coloursOf(el), getComputedStyle(el).fontFamily);
    for (const line of lines) drawLine(fit.pen, frame, line);
  }
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const found = frame && nearestPoint(lines, frame, event.clientX - box.left, event.clientY - box.top);
    const loss = found && found.point.loss != null ? `, loss ${number(found.point.loss, 3)}` : "";
    setText(readout, found ? `${found.line.title}, epoch ${found.point.epoch}: ${percent(found.point.value, 2)}, 95 % interval ${number(100 * found.point.low, 1)} to ${number(100 * found.point.high, 1)} %${loss}` : "");
  });
  canvas.addEventListener("pointerleave", () => setText(readout, ""));

  function showSaid() {
    const said = model.get("waiting");
    setText(waiting, said);
    waiting.hidden = !said;
    trainNow.hidden = !said.includes("has not been trained");
    setText(problem, model.get("problem"));
  }

  method.addEventListener("change", () => { settings = typed[method.value] ??= {}; rebuild(); });
  start.addEventListener("click", () => model.send({ do: "start", method: method.value, settings: nested(settings) }));
  trainNow.addEventListener("click", () => model.send({ do: "train" }));
  climb.addEventListener("click", () => {
    const points = Number(within.value.trim().replace(",", "."));
    const fits = within.value.trim() !== "" && Number.isFinite(points) && points >= 0;
    within.setAttribute("aria-invalid", String(!fits));
    if (!fits) return;
    model.set("within", points);
    model.save_changes();
    model.send({ do: "climb", within: points });
  });

  const traits = [
    onTraits(model, ["chosen"], build), onTraits(model, ["pace", "images"], showExpected), onTraits(model, ["ladder", "within"], showLadder),
    onTraits(model, ["jobs", "shown", "curves"], showJobs), onTraits(model, ["waiting", "problem"], showSaid),
  ];
  const looks = onLooks(canvas, redraw);
  const unseen = reportVisibility(model, el);
  build();
  showLadder();
  showJobs();
  showSaid();
  return () => { cancelAnimationFrame(queued); for (const trait of traits) trait.end(); looks(); unseen(); };
}

// Dotted names as nested settings; those without a value of a group are left out.
function nested(settings) {
  const found = {};
  for (const [name, value] of Object.entries(settings)) {
    const [head, inner] = name.split(".");
    if (inner) found[head] = { ...(found[head] || {}), [inner]: value };
    else found[head] = value;
  }
  return found;
}

export default { render };
