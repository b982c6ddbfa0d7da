// The selected layer: a box for each output channel's weights, before and after, what it puts out, and facts.

function boxPlot() {
  const canvas = element("canvas", { role: "img" });
  let rows = null;
  function draw() {
    const fit = rows && fitCanvas(canvas);
    if (!fit) return;
    const { pen, width, height } = fit;
    const colour = coloursOf(canvas);
    const [left, bottom] = [46, 18];
    const values = rows.flatMap(({ spans }) => spans.flatMap((span) => [span[0], span[span.length - 1]])).filter(Number.isFinite);
    let [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
    if (high === low) high = low + 1;
    const channels = 1 + Math.max(0, ...rows.flatMap(({ channels: own }) => own));
    const x = (channel) => left + ((channel + 0.5) * (width - left - 4)) / channels;
    const y = (value) => 6 + ((high - value) * (height - bottom - 10)) / (high - low);
    pen.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    pen.fillStyle = colour("muted");
    pen.strokeStyle = colour("line");
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const value of [low, 0, high]) {
      pen.beginPath();
      pen.moveTo(left, Math.round(y(value)) + 0.5);
      pen.lineTo(width, Math.round(y(value)) + 0.5);
      pen.stroke();
      if (value || low * high < 0) pen.fillText(number(value, Math.max(Math.abs(low), Math.abs(high)) < 1 ? 2 : 1).replace("-", "−"), left - 5, y(value));
    }
    pen.textBaseline = "bottom";
    pen.textAlign = "left";
    pen.fillText(`channel 0 to ${channels - 1}`, left, height);
    const wide = Math.max(1, Math.min(7, (width - left) / channels / 2.6));
    rows.forEach(({ channels: own, spans, name }, side) => {
      pen.fillStyle = pen.strokeStyle = colour(name === "before" ? "base" : "accent");
      own.forEach((channel, at) => {
        const span = spans[at];
        const place = x(channel) + (side ? 0.55 : -0.55) * wide;
        pen.fillRect(place - 0.5, y(span[span.length - 1]), 1, Math.max(1, y(span[0]) - y(span[span.length - 1])));
        if (span.length === 5) pen.fillRect(place - wide / 2, y(span[3]), wide, Math.max(1.5, y(span[1]) - y(span[3])));
        else pen.fillRect(place - wide / 2, y(span[1]), wide, Math.max(1.5, y(span[0]) - y(span[1])));
      });
    });
  }
  return { canvas, draw, show(next, label) { rows = next; canvas.hidden = !next; canvas.setAttribute("aria-label", label); draw(); } };
}

function layerDepth() {
  const [weights, outputs] = [boxPlot(), boxPlot()];
  const heading = element("h3");
  const facts = element("dl");
  const [onWeights, onOutputs] = [element("h4", {}, "Weights of each output channel"), element("h4")];
  const root = element("div", { class: "wb-depth" }, element("div", { class: "wb-depth-facts" }, heading, facts),
    element("figure", {}, onWeights, weights.canvas), element("figure", {}, onOutputs, outputs.canvas));
  const fact = (title, ...texts) => [element("dt", {}, title), ...texts.map((text) => element("dd", {}, text))];
  const rank = ({ effective_rank: value, full_rank: full }) => (value == null ? "–" : `${number(value, 1)} of ${count(full)}`);

  function show(depth) {
    root.hidden = !depth.layer;
    if (root.hidden) return;
    setText(heading, depth.layer);
    const dead = depth.dead.length;
    facts.replaceChildren(
      ...fact("Share of time · size · MACs", `${depth.time_share == null ? "–" : percent(depth.time_share)} · ${percent(depth.size_share)} · ${percent(depth.macs_share)}`),
      ...fact("Effective rank", `${rank(depth.before)} → ${rank(depth.after)}`),
      ...fact("Outliers, beyond 4 standard deviations", `${percent(depth.before.outliers, 2)} → ${percent(depth.after.outliers, 2)}`),
      ...fact("Dead filters", dead ? `${count(dead)} of ${count(depth.kept)}: ${depth.dead.slice(0, 8).join(", ")}${dead > 8 ? " …" : ""}` : "none"),
      ...fact("Under", depth.words));
    setText(onWeights, depth.each > 1 ? `Weights, ${depth.each} output channels a box` : "Weights of each output channel");
    weights.show([{ name: "before", channels: depth.before.channels, spans: depth.before.boxes }, { name: "after", channels: depth.after.channels, spans: depth.after.boxes }],
      `Weights of ${depth.layer} by output channel, before and after`);
    const put = [["before", depth.outputs_before, depth.before], ["after", depth.outputs_after, depth.after]]
      .filter(([, found, own]) => found && found.low.length === own.channels.length)
      .map(([name, found, own]) => ({ name, channels: own.channels, spans: found.low.map((low, at) => [low, found.high[at]]) }));
    setText(onOutputs, put.length ? `What it puts out on ${count(depth.n)} calibration images` : "It puts out nothing with channels");
    outputs.show(put.length ? put : null, `Range of the outputs of ${depth.layer} by channel`);
  }
  return { root, show, draw: () => { weights.draw(); outputs.draw(); } };
}
