// The curves: points lost over the levels, a line for each layer, on the scale of the map's colours. The selected
// layers are strong, with the band of their intervals; the others are there to be compared with.

const ROOM = { left: 66, right: 16, top: 12, bottom: 28 };
const STRONG = ["accent", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];
const bent = (points) => Math.sign(points) * Math.log1p(Math.abs(points));

function curvesLayout(data, width, height) {
  let [least, most] = [-0.3, 2];
  for (let at = 0; at < data.value.length; at += 1) {
    const lost = 100 * (data.baseline - data.value[at]);
    if (lost < least) least = lost;
    if (lost > most) most = lost;
  }
  const [top, bottom] = [bent(least), bent(most) * 1.04];
  const names = width > 460 ? 150 : 0;
  const columns = Math.max(1, data.levels.length - 1);
  const [wide, tall] = [width - ROOM.left - ROOM.right - names, height - ROOM.top - ROOM.bottom];
  return {
    least, most, names,
    x: (column) => ROOM.left + (column / columns) * wide,
    y: (lost) => ROOM.top + ((bent(Math.min(most * 1.2, Math.max(least * 1.5, lost))) - top) / (bottom - top)) * tall,
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
  const right = width - ROOM.right - names;
  pen.textBaseline = "middle";
  for (const points of [0, 0.5, 1, 2, 5, 10, 20, 50]) {
    if (points > most) break;
    pen.strokeStyle = colours(points ? "line" : "base");
    pen.lineWidth = points ? 1 : 1.5;
    pen.setLineDash(points ? [] : [5, 4]);
    pen.beginPath();
    pen.moveTo(ROOM.left, Math.round(y(points)) + 0.5);
    pen.lineTo(right, Math.round(y(points)) + 0.5);
    pen.stroke();
    pen.fillStyle = colours("muted");
    pen.textAlign = "right";
    pen.fillText(points ? `−${points}` : data.baseline == null ? "dense" : percent(data.baseline, 1), ROOM.left - 8, y(points));
  }
  pen.setLineDash([]);
  pen.textAlign = "left";
  pen.fillText("points", 2, height - ROOM.bottom / 2);
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
  for (const column of known) pen.lineTo(x(column), y(100 * (data.baseline - data.cell(row, column).low)));
  for (const column of known.reverse()) pen.lineTo(x(column), y(100 * (data.baseline - data.cell(row, column).high)));
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
