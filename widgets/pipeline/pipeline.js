// A model's layers on several processes: how evenly they are shared, what was measured, what more would give.

const PIPELINE_WORDS = { start: "Run the pipeline", again: "Run again", idle: "How evenly the layers can be shared, how many images a second several processes answer, and what more of them would give. Each block is timed, then one process and several are run, which takes some tens of seconds.", study: "Timing the blocks" };

function speedupChart({ forecast, stages, speedup }) {
  const [left, top, width, height] = [34, 10, 250, 130];
  const most = forecast.length ? forecast[forecast.length - 1].stages : stages;
  const high = Math.max(2, ...forecast.map((one) => one.speedup), speedup) * 1.15;
  const x = (count_) => left + (width * (count_ - 1)) / Math.max(1, most - 1);
  const y = (value) => top + height * (1 - value / high);
  const line = forecast.map((one) => `L${x(one.stages)} ${y(one.speedup)}`).join("");
  const ticks = Array.from({ length: Math.floor(high) + 1 }, (_, at) => at);
  return svg("svg", { viewBox: `0 0 ${left + width + 10} ${top + height + 34}`, role: "img", "aria-label": "Speed-up over the number of processes" },
    ...ticks.flatMap((at) => [svg("line", { class: "wb-grid", x1: left, x2: left + width, y1: y(at), y2: y(at) }), svg("text", { x: left - 5, y: y(at) + 3.5, "text-anchor": "end" }, `${at}×`)]),
    ...Array.from({ length: most }, (_, at) => svg("text", { x: x(at + 1), y: top + height + 15, "text-anchor": "middle" }, String(at + 1))),
    svg("text", { x: left + width, y: top + height + 30, "text-anchor": "end" }, "processes, a core each"),
    svg("path", { class: "wb-ideal", d: `M${x(1)} ${y(1)} L${x(Math.min(most, high))} ${y(Math.min(most, high))}` }),
    svg("path", { d: `M${x(1)} ${y(1)} ${line}` }),
    ...forecast.map((one) => svg("circle", { cx: x(one.stages), cy: y(one.speedup), r: 2.5 }, svg("title", {}, `${one.stages} processes: ${number(one.speedup, 2)}× foretold, ${percent(one.efficiency, 0)} of each core used`))),
    svg("circle", { class: "wb-truly", cx: x(stages), cy: y(speedup), r: 4.5 }, svg("title", {}, `${stages} processes: ${number(speedup, 2)}× measured`)));
}

function render({ model, el }) {
  el.classList.add("wb");
  const line = studyLine(model, PIPELINE_WORDS);
  const stages = choice([2, 3, 4, 5, 6, 7, 8].map((value) => [value, String(value)]));
  const microbatch = choice([4, 8, 16, 32, 64].map((value) => [value, String(value)]));
  const cores = element("span", { class: "wb-muted" });
  for (const [node, name] of [[stages, "stages"], [microbatch, "microbatch"]]) node.addEventListener("change", () => { model.set(name, Number(node.value)); model.save_changes(); });
  const figures = element("dl", { class: "wb-figures" });
  const work = element("div", { class: "wb-work", role: "img" });
  const table = element("div", { class: "wb-scroll" });
  const reason = element("p", { class: "wb-note" });
  const chart = element("figure", {});
  const stage = element("div", { class: "wb-pipeline-stage" }, figures, element("div", {}, work, table, reason), chart);
  el.replaceChildren(element("div", { class: "wb-study wb-pipeline wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Pipeline"), element("p", { class: "wb-muted" }, "The layers shared out over processes, a core each: while one stage finishes a microbatch, the stage before begins the next.")),
    element("div", { class: "wb-picks" }, pick("Processes", stages), pick("Images a microbatch", microbatch), cores, line.root), line.problem, line.empty, stage));
  let drawn = null;

  const fact = (title, value, small) => element("div", {}, element("dt", {}, title), element("dd", {}, value, element("small", {}, small)));
  function tell(found) {
    const { alone, pipeline } = found;
    const sum = found.stage_ms.reduce((all, ms) => all + ms, 0);
    figures.replaceChildren(
      fact("One process", `${number(alone.throughput, 0)} images/s`, "one core"),
      fact(`${found.stages} processes`, `${number(pipeline.throughput, 0)} images/s`, "a core each"),
      fact("Measured", `${number(found.speedup, 2)}×`, found.equal ? "the same answers" : "other answers"),
      fact("Largest stage's weights", bytes(Math.max(...pipeline.stages.map((one) => one.weights))), `in one: ${bytes(alone.stages[0].weights)}`),
      fact("Memory of a stage, most", bytes(Math.max(...pipeline.stages.map((one) => one.peak))), `in one: ${bytes(alone.stages[0].peak)}`));
    work.setAttribute("aria-label", `Shares of the work: ${found.stage_ms.map((ms) => percent(ms / sum, 0)).join(", ")}`);
    work.replaceChildren(...found.stage_ms.map((ms, at) => element("div", { style: `flex:${ms} 1 0` }, `${at + 1}: ${percent(ms / sum, 0)}`)));
    const starts = ["the input", ...pipeline.cuts];
    table.replaceChildren(tableOf("Stages", ["Stage", "begins at", "a microbatch", "weights", "memory"], found.stage_ms.map((ms, at) => [String(at + 1), starts[at], `${rounded(ms)} ms`, bytes(pipeline.stages[at].weights), bytes(pipeline.stages[at].peak)])));
    setText(reason, spaced(found.reason));
    chart.replaceChildren(element("h3", {}, "More processes, foretold"), speedupChart(found));
  }
  function update() {
    const { here, fresh } = line.update();
    const [found, count_] = [model.get("found"), model.get("cores")];
    stages.value = String(model.get("stages"));
    microbatch.value = String(model.get("microbatch"));
    for (const option of stages.options) option.disabled = count_ > 0 && Number(option.value) > count_;
    setText(cores, count_ ? `${plural(count_, "core")} here` : "");
    stage.hidden = !here || !found.alone;
    stage.classList.toggle("wb-stale", !fresh);
    if (!stage.hidden && drawn !== found) { drawn = found; tell(found); }
  }
  const traits = onTraits(model, [...STUDIED, "found", "cores", "stages", "microbatch"], update, { frame: true });
  const unseen = reportVisibility(model, el);
  update();
  return () => { traits.end(); unseen(); };
}

export default { render };
