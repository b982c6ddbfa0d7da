// The curves: points lost over the levels, a line for each layer, on the scale of the map's colours. The selected
// layers are strong, with the band of their intervals; the others are there to be compared with.

const ROOM = { left: 66, right: 16, top: 12, bottom: 28 };
const STRONG = ["accent", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];
// As the map's colours: what is logarithmic is bent so that little differences near nothing are seen.
const bent = (harm, { log, ticks }) => (log ? Math.sign(harm) * Math.log1p((50 * Math.abs(harm)) / ticks[ticks.length - 1]) : harm);

function curvesLayout(data, width, height) {
  const { metric } = data;
  const finest = metric.ticks[metric.log ? 2 : 0];
  let [least, most] = metric.log ? [-0.15 * finest, finest] : [0, finest];
  for (let at = 0; at < data.value.length; at += 1) {
    const lost = data.harm(data.value[at]);
    if (!Number.isFinite(lost)) continue;
    if (lost < least) least = lost;
    if (lost > most) most = lost;
  }
  if (!metric.log) [least, most] = [Math.min(least, most - 1), most + 1];
  const [top, bottom] = [bent(least, metric), bent(most, metric) + 0.04 * Math.abs(bent(most, metric))];
  const names = width > 460 ? 150 : 0;
  const columns = Math.max(1, data.levels.length - 1);
  const [wide, tall] = [width - ROOM.left - ROOM.right - names, height - ROOM.top - ROOM.bottom];
  return {
    least, most, names,
    x: (column) => ROOM.left + (column / columns) * wide,
    y: (lost) => ROOM.top + ((bent(Math.min(most + 0.2 * Math.abs(most), Math.max(least - 0.5 * Math.abs(least), lost)), metric) - top) / (bottom - top)) * tall,
  };
}

function drawCurves(pen, data, layout, view) {
  const { width, height, colours } = view;
  const { x, y } = layout;
  pen.font = `11px ${view.font}`;
  drawAxes(pen, data, layout, view);
  const strong = [...data.selected].slice(-STRONG.length).reverse();
  const emphasised = new Set(strong);
  pen.lineWidth = 1;
  pen.strokeStyle = colours("control");
  pen.globalAlpha = data.layers.length > 60 ? 0.2 : 0.4;
  for (let row = 0; row < data.layers.length; row += 1) if (!emphasised.has(row)) strokeCurve(pen, data, layout, row);
  pen.globalAlpha = 1;
  if (view.active && view.marked && !emphasised.has(view.active.row)) {
    pen.lineWidth = 2;
    pen.strokeStyle = colours("text");
    strokeCurve(pen, data, layout, view.active.row);
  }
  const labels = [];
  for (let at = strong.length - 1; at >= 0; at -= 1) {
    const row = strong[at];
    const colour = at === 0 ? colours("accent") : STRONG[at];
    band(pen, data, layout, row, colour);
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2.2;
    strokeCurve(pen, data, layout, row);
    const last = lastKnown(data, row);
    if (last != null) labels.push({ text: data.layers[row], colour, y: y(data.cell(row, last).lost) });
  }
  drawLabels(pen, labels, layout.names ? width - layout.names : 0, height, view);
  const cell = view.active && view.marked && data.cell(view.active.row, view.active.column);
  if (cell) {
    pen.fillStyle = colours("surface");
    pen.strokeStyle = colours("text");
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x(view.active.column), y(cell.lost), 4.5, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
  }
}

function drawAxes(pen, data, layout, view) {
  const { colours, width, height } = view;
  const { x, y, most, names } = layout;
  const { metric } = data;
  const right = width - ROOM.right - names;
  pen.textBaseline = "middle";
  for (const harm of metric.ticks) {
    if (harm > most || harm < layout.least) continue;
    const dense = metric.log && harm === 0;
    pen.strokeStyle = colours(dense ? "base" : "line");
    pen.lineWidth = dense ? 1.5 : 1;
    pen.setLineDash(dense ? [5, 4] : []);
    pen.beginPath();
    pen.moveTo(ROOM.left, Math.round(y(harm)) + 0.5);
    pen.lineTo(right, Math.round(y(harm)) + 0.5);
    pen.stroke();
    pen.fillStyle = colours("muted");
    pen.textAlign = "right";
    const text = dense ? (metric.name === "drop" && data.baseline != null ? percent(data.baseline, 1) : "dense") : `${metric.name === "drop" ? "−" : ""}${String(metric.sign * harm || 0)}`;
    pen.fillText(text, ROOM.left - 8, y(harm));
  }
  pen.setLineDash([]);
  pen.textAlign = "left";
  pen.fillText({ drop: "points", agreement: "% other", sqnr: "dB" }[metric.name] || (metric.name === "logit_mse" ? "squares" : "nats"), 2, height - ROOM.bottom / 2);
  pen.textAlign = "center";
  data.levels.forEach((level, column) => pen.fillText(data.levelText(level, width < 500), x(column), height - ROOM.bottom / 2));
}

function strokeCurve(pen, data, { x, y }, row) {
  pen.beginPath();
  let drawn = false;
  for (let column = 0; column < data.levels.length; column += 1) {
    const cell = data.cell(row, column);
    if (!cell) { drawn = false; continue; }
    if (drawn) pen.lineTo(x(column), y(cell.lost)); else pen.moveTo(x(column), y(cell.lost));
    drawn = true;
  }
  pen.stroke();
}

function band(pen, data, { x, y }, row, colour) {
  const known = data.levels.map((_, column) => column).filter((column) => data.cell(row, column));
  if (!known.length) return;
  pen.beginPath();
  for (const column of known) pen.lineTo(x(column), y(data.harm(data.cell(row, column).low)));
  for (const column of known.reverse()) pen.lineTo(x(column), y(data.harm(data.cell(row, column).high)));
  pen.closePath();
  pen.globalAlpha = 0.18;
  pen.fillStyle = colour;
  pen.fill();
  pen.globalAlpha = 1;
}

function lastKnown(data, row) {
  for (let column = data.levels.length - 1; column >= 0; column -= 1) if (data.cell(row, column)) return column;
  return null;
}

// Names at the lines' ends, pushed apart where they would overlap; without room there (`left` is 0), in the corner
// that curves leave free.
function drawLabels(pen, labels, left, height, view) {
  labels.sort((one, other) => one.y - other.y);
  if (!left) {
    labels.forEach((label, at) => { label.y = height - ROOM.bottom - 12 - 15 * (labels.length - 1 - at); });
    left = ROOM.left + 16;
  }
  let free = 8;
  pen.textAlign = "left";
  pen.font = `600 11px ${view.font}`;
  for (const label of labels) {
    label.at = Math.max(free, label.y);
    free = label.at + 15;
  }
  const over = Math.max(0, free - 15 - (height - ROOM.bottom));
  for (const label of labels) {
    pen.fillStyle = label.colour;
    pen.fillRect(left - 8, label.at - over - 1, 10, 3);
    pen.fillStyle = view.colours("text");
    pen.fillText(fitted(pen, label.text, view.width - left - 10), left + 6, label.at - over);
  }
}

function curvesHit(layout, data, x, y) {
  let best = null;
  for (let column = 0; column < data.levels.length; column += 1) {
    for (let row = 0; row < data.layers.length; row += 1) {
      const cell = data.cell(row, column);
      if (!cell) continue;
      const distance = Math.hypot((layout.x(column) - x) * 0.7, layout.y(cell.lost) - y);
      if (distance < 40 && (!best || distance < best.distance)) best = { row, column, distance };
    }
  }
  return best;
}
