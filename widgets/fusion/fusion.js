// What a runtime makes of the present setting's ONNX file: counts, patterns, times, and both graphs.

const FUSION_WORDS = { start: "Show the fusions", again: "Show again", idle: "The graph before and after, pattern by pattern, and the time that is saved. Each runtime optimizes the file and is timed with and without, which takes some seconds.", study: "Optimizing and timing" };

function render({ model, el }) {
  el.classList.add("wb");
  const line = studyLine(model, FUSION_WORDS);
  const runtime = choice([]);
  runtime.addEventListener("change", () => { model.set("runtime", runtime.value); model.save_changes(); update(); });
  const figures = element("dl", { class: "wb-figures" });
  const patterns = element("div", { class: "wb-scroll", tabindex: 0, role: "region", "aria-label": "What became of the operators" });
  const graphs = element("div", { class: "wb-graphs", tabindex: 0, role: "region", "aria-label": "Graph before and after" });
  const stage = element("div", { class: "wb-fusion-stage" }, figures, patterns, graphs);
  el.replaceChildren(element("div", { class: "wb-study wb-fusion wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Fusion"), element("p", { class: "wb-muted" }, "A runtime takes operators into one another before it runs them: what becomes of the graph, and what does it save?")),
    element("div", { class: "wb-picks" }, pick("Runtime", runtime), line.root), line.problem, line.empty, stage));
  let drawn = null;

  const fact = (title, value, small) => element("div", {}, element("dt", {}, title), element("dd", {}, value, element("small", {}, small || " ")));
  const within = ({ low, high }) => `${rounded(low)} to ${rounded(high)}`;
  function tell(found) {
    const total = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
    const { before, after } = found.ms;
    figures.replaceChildren(
      fact("Operators in the file", count(total(found.counts.before))),
      fact("Kernels that run", count(total(found.counts.after)), found.runtime),
      fact("As the file is", before ? `${rounded(before.median)} ms` : "–", before ? within(before) : "this runtime always fuses"),
      fact("Fused", after ? `${rounded(after.median)} ms` : "–", after ? within(after) : ""),
      fact("Time that is left", found.ratio ? percent(found.ratio.median, 0) : "–", found.ratio ? `${percent(found.ratio.low, 0)} to ${percent(found.ratio.high, 0)}, in turns` : ""));
    const rows = [
      ...Object.entries(found.patterns).map(([text, times]) => [text, `${times} ×`]),
      ...Object.entries(found.removed).map(([text, times]) => [`${text}: computed once, or not needed`, `${times} ×`]),
      ...Object.entries(found.added).map(([text, times]) => [`${text}: added`, `${times} ×`]),
    ];
    patterns.replaceChildren(rows.length ? tableOf("What became of the operators", ["What became of the operators", "how often"], rows) : element("p", { class: "wb-note" }, "Nothing was fused: every operator runs as it is."));
    graphs.replaceChildren(fusionGraphs(found));
  }
  function update() {
    const { here, fresh } = line.update();
    const [all, runtimes] = [model.get("found"), model.get("runtimes")];
    if (runtime.options.length !== Object.keys(runtimes).length) runtime.replaceChildren(...choice(Object.entries(runtimes)).children);
    runtime.value = model.get("runtime");
    const found = all[model.get("runtime")];
    stage.hidden = !here || !found;
    stage.classList.toggle("wb-stale", !fresh);
    if (found && drawn !== found) { drawn = found; tell(found); }
  }
  const traits = onTraits(model, [...STUDIED, "found", "runtimes", "runtime"], update, { frame: true });
  const unseen = reportVisibility(model, el);
  update();
  return () => { traits.end(); unseen(); };
}

export default { render };
