// The plot: axes that move only when they must, a ground drawn when it changes, and marks drawn over it.
// Coordinates are CSS pixels.

const PLOT = { left: 62, right: 16, top: 14, bottom: 40 };
const RESCALE_MS = 220;

const roundSteps = (low, high, wanted) => {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
};
function linearTicks([low, high], wanted) {
  const step = roundSteps(low, high, wanted);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-6); at * step <= high + step * 1e-6; at += 1) ticks.push(at * step + 0); // never −0
  return { ticks, step };
}
function logTicks([low, high], wanted) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const factor of [1, 1.5, 2, 3, 5, 7]) all.push(factor * 10 ** power);
  }
  const inside = all.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  if (inside.length < 3) return linearTicks([low, high], wanted);
  const every = Math.ceil(inside.length / (wanted + 1));
  return { ticks: inside.filter((_, index) => index % every === 0), step: 1 };
}

// An axis' span: a little wider than what it holds, with round ends, so that few changes move it.
function spanOf(values, metric, log) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (Number.isFinite(value)) { if (value < low) low = value; if (value > high) high = value; }
  if (low > high) return log ? [1, 10] : [0, 1];
  if (log) { const room = Math.max(Math.log(high / low) * 0.06, 0.08); return [low * Math.exp(-room), high * Math.exp(room)]; }
  const least = metric.higher ? 0.01 : high * 0.1;
  if (high - low < least) { low -= least / 2; high += least / 2; }
  const room = (high - low) * 0.05;
  const step = roundSteps(low - room, high + room, 12);
  const span = [Math.floor((low - room) / step) * step, Math.ceil((high + room) / step) * step];
  return metric.higher ? [Math.max(0, span[0]), Math.min(span[1], Math.max(1, high))] : [Math.max(0, span[0]), span[1]];
}

// One axis. `aim` sets where it should be; `now` is where it is, on the way there while it moves.
function axis() {
  let from = null, to = null, began = 0, log = false;
  const ease = (t) => 1 - (1 - t) ** 3;
  return {
    get log() { return log; },
    get moving() { return Boolean(to) && performance.now() - began < RESCALE_MS; },
    aim(span, useLog, smooth) {
      if (to && span[0] === to[0] && span[1] === to[1] && useLog === log) return;
      from = smooth && to && useLog === log ? this.now() : span;
      to = span; log = useLog; began = smooth ? performance.now() : 0;
    },
    // Keeps the span while it still fits: all inside, and not much too wide.
    holds(span) {
      if (!to) return false;
      const size = (pair) => (log ? Math.log(pair[1] / pair[0]) : pair[1] - pair[0]);
      return span[0] >= to[0] && span[1] <= to[1] && size(span) > 0.6 * size(to);
    },
    now() {
      if (!to) return [0, 1];
      const t = ease(Math.min(1, (performance.now() - began) / RESCALE_MS));
      return [0, 1].map((end) => (log ? from[end] * (to[end] / from[end]) ** t : from[end] + (to[end] - from[end]) * t));
    },
  };
}

// Where settings lie, for axes that stand still meanwhile.
function placesOf({ width, height }, { x, y, xAxis, yAxis }) {
  const box = { left: PLOT.left, right: width - PLOT.right, top: PLOT.top, bottom: height - PLOT.bottom };
  const line = (axis, from, to) => {
    const [low, high] = axis.now();
    const scale = (to - from) / (axis.log ? Math.log(high / low) : high - low);
    return axis.log ? (value) => from + Math.log(value / low) * scale : (value) => from + (value - low) * scale;
  };
  const across = line(xAxis, box.left, box.right);
  const up = line(yAxis, box.bottom, box.top);
  const at = (p) => [across(x.value(p)), up(y.value(p))];
  const inside = ([px, py]) => px >= box.left - 1 && px <= box.right + 1 && py >= box.top - 1 && py <= box.bottom + 1;
  return { box, across, up, at, inside };
}

const clipTo = (pen, box) => {
  pen.beginPath();
  pen.rect(box.left, box.top - 8, box.right - box.left + 8, box.bottom - box.top + 8);
  pen.clip();
};
const dot = (pen, [px, py], radius) => { pen.beginPath(); pen.arc(px, py, radius, 0, 2 * Math.PI); };

function drawInterval(pen, p, { x, y }, { across, up, at }) {
  const [px, py] = at(p);
  const stroke = (fromX, fromY, toX, toY) => { pen.beginPath(); pen.moveTo(fromX, fromY); pen.lineTo(toX, toY); pen.stroke(); };
  if (x.high(p) > x.low(p)) stroke(across(x.low(p)), py, across(x.high(p)), py);
  if (y.high(p) > y.low(p)) stroke(px, up(y.low(p)), px, up(y.high(p)));
}

// What stays while a pointer moves: the grid, all settings, the front and the dense model.
function drawGround(pen, places, state, colour, font) {
  const { shown, front, dense, crowded } = state;
  const { at, inside, box } = places;
  drawGrid(pen, places, state, colour, font);
  pen.save();
  clipTo(pen, box);
  const [accent, surface] = [colour("accent"), colour("surface")];
  pen.strokeStyle = accent;
  for (const p of shown) {
    const place = at(p);
    if (!inside(place)) continue;
    pen.lineWidth = 1.25;
    pen.globalAlpha = 0.35;
    if (!crowded) drawInterval(pen, p, state, places);
    dot(pen, place, crowded ? 2.5 : 3.5);
    pen.globalAlpha = p.kind === EXACT ? 0.5 : 0.9;
    pen.fillStyle = p.kind === EXACT ? accent : surface;
    pen.fill();
    if (p.kind !== EXACT) pen.stroke();
  }
  pen.globalAlpha = 1;
  drawFront(pen, front, state, places, { accent, surface });
  if (dense && inside(at(dense))) drawDense(pen, at(dense), box, { ink: colour("muted"), ground: surface }, font);
  pen.restore();
}

function drawFront(pen, front, { x }, { at, inside }, { accent, surface }) {
  pen.lineWidth = 1.5;
  pen.strokeStyle = accent;
  pen.beginPath();
  front.forEach((p, index) => {
    const [px, py] = at(p);
    if (!index) { pen.moveTo(px, py); return; }
    const [qx, qy] = at(front[index - 1]);
    // Between two settings of the front only the worse of both figures is known to be reached.
    pen.lineTo(...(x.higher ? [qx, py] : [px, qy]));
    pen.lineTo(px, py);
  });
  pen.stroke();
  pen.fillStyle = accent;
  pen.strokeStyle = surface;
  for (const p of front) {
    const place = at(p);
    if (!inside(place)) continue;
    dot(pen, place, 4.5);
    pen.fill();
    pen.stroke();
  }
}

function drawDense(pen, [px, py], box, { ink, ground }, font) {
  pen.fillStyle = ink;
  pen.strokeStyle = ground;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(px, py - 7);
  pen.lineTo(px + 7, py);
  pen.lineTo(px, py + 7);
  pen.lineTo(px - 7, py);
  pen.closePath();
  pen.fill();
  pen.stroke();
  label(pen, "dense", px, py, box, { ink, ground }, font);
}

// What moves: the present setting, the one pointed at and the settings it came from.
function drawMarks(pen, places, state, colour) {
  const { present, chosen, chain } = state;
  const { at, inside, box } = places;
  pen.save();
  clipTo(pen, box);
  if (chain.length > 1) {
    pen.strokeStyle = colour("control");
    pen.lineWidth = 1;
    pen.setLineDash([1, 4]);
    pen.beginPath();
    chain.forEach((p, index) => (index ? pen.lineTo(...at(p)) : pen.moveTo(...at(p))));
    pen.stroke();
    pen.setLineDash([]);
  }
  if (present && inside(at(present))) {
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 2;
    drawInterval(pen, present, state, places);
    pen.setLineDash(present.kind === 0 ? [3, 3] : []); // predicted
    dot(pen, at(present), 8);
    pen.stroke();
    pen.setLineDash([]);
    dot(pen, at(present), 3);
    pen.fillStyle = colour(present.kind === EXACT ? "accent" : "surface");
    pen.fill();
    pen.lineWidth = 1.25;
    pen.stroke();
  }
  if (chosen && inside(at(chosen))) {
    pen.strokeStyle = colour("text");
    pen.lineWidth = 1.25;
    drawInterval(pen, chosen, state, places);
    pen.lineWidth = 2;
    dot(pen, at(chosen), 7);
    pen.stroke();
  }
  pen.restore();
}

// Below its mark, on a ground of its own: the front often runs through where it would stand.
function label(pen, text, px, py, box, { ink, ground }, font) {
  pen.font = font;
  pen.textAlign = px + 24 > box.right ? "right" : "center";
  pen.textBaseline = "top";
  const left = pen.textAlign === "right" ? px + 8 : px;
  pen.lineJoin = "round";
  pen.lineWidth = 3;
  pen.strokeStyle = ground;
  pen.strokeText(text, left, py + 10);
  pen.fillStyle = ink;
  pen.fillText(text, left, py + 10);
}

function drawGrid(pen, { box, across, up }, { x, y, xAxis, yAxis }, colour, font) {
  const ticksOf = (scale, wanted) => (scale.log ? logTicks : linearTicks)(scale.now(), wanted);
  pen.font = font;
  pen.lineWidth = 1;
  pen.strokeStyle = colour("line");
  pen.fillStyle = colour("muted");
  pen.textBaseline = "top";
  pen.textAlign = "center";
  const columns = ticksOf(xAxis, Math.max(3, Math.floor((box.right - box.left) / 90)));
  for (const tick of columns.ticks) {
    const px = Math.round(across(tick)) + 0.5;
    if (px < box.left || px > box.right + 1) continue;
    pen.beginPath();
    pen.moveTo(px, box.bottom);
    pen.lineTo(px, box.bottom + 4);
    pen.stroke();
    pen.fillText(x.tick(tick, columns.step), px, box.bottom + 7);
  }
  const rows = ticksOf(yAxis, Math.max(3, Math.floor((box.bottom - box.top) / 46)));
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const tick of rows.ticks) {
    const py = Math.round(up(tick)) + 0.5;
    if (py < box.top - 1 || py > box.bottom + 1) continue;
    pen.globalAlpha = 0.7;
    pen.beginPath();
    pen.moveTo(box.left, py);
    pen.lineTo(box.right, py);
    pen.stroke();
    pen.globalAlpha = 1;
    pen.fillText(y.tick(tick, rows.step), box.left - 8, py);
  }
  pen.strokeStyle = colour("control");
  pen.beginPath();
  pen.moveTo(box.left, box.bottom + 0.5);
  pen.lineTo(box.right, box.bottom + 0.5);
  pen.stroke();
  pen.textBaseline = "bottom";
  pen.textAlign = "right";
  pen.fillText(axisTitle(x, xAxis.log), box.right, box.bottom + 38);
}
const axisTitle = (metric, log) => `${metric.title}${metric.unit ? `, ${metric.unit}` : ""}${log ? ", log scale" : ""}${metric.higher ? " →" : " (less is better)"}`;
