// The plot: axes that move only when they must, and one canvas pass. Coordinates are CSS pixels.

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
  for (let at = Math.ceil(low / step - 1e-6); at * step <= high + step * 1e-6; at += 1) ticks.push(at * step);
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
    // A value's share of the axis, 0 to 1 inside.
    share(value) {
      const [low, high] = this.now();
      return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    },
  };
}

function drawPlot({ pen, width, height, colour, font }, state) {
  const { x, y, xAxis, yAxis, shown, front, dense, present, chosen, chain, crowded } = state;
  const box = { left: PLOT.left, right: width - PLOT.right, top: PLOT.top, bottom: height - PLOT.bottom };
  const at = (p) => [box.left + xAxis.share(x.value(p)) * (box.right - box.left), box.bottom - yAxis.share(y.value(p)) * (box.bottom - box.top)];
  const visible = ([px, py]) => Number.isFinite(px) && Number.isFinite(py) && px >= box.left - 1 && px <= box.right + 1 && py >= box.top - 1 && py <= box.bottom + 1;

  drawGrid(pen, box, state, colour, font);
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top - 8, box.right - box.left + 8, box.bottom - box.top + 8);
  pen.clip();

  const dot = ([px, py], radius) => { pen.beginPath(); pen.arc(px, py, radius, 0, 2 * Math.PI); };
  function interval(p) {
    const [px, py] = at(p);
    const spans = [[x, xAxis, true], [y, yAxis, false]];
    for (const [metric, scale, along] of spans) {
      const [low, high] = [scale.share(metric.low(p)), scale.share(metric.high(p))];
      if (!(high > low)) continue;
      pen.beginPath();
      if (along) { pen.moveTo(box.left + low * (box.right - box.left), py); pen.lineTo(box.left + high * (box.right - box.left), py); }
      else { pen.moveTo(px, box.bottom - low * (box.bottom - box.top)); pen.lineTo(px, box.bottom - high * (box.bottom - box.top)); }
      pen.stroke();
    }
  }

  if (chain.length > 1) { // the settings it came from
    pen.strokeStyle = colour("control");
    pen.lineWidth = 1;
    pen.setLineDash([1, 4]);
    pen.beginPath();
    chain.forEach((p, index) => (index ? pen.lineTo(...at(p)) : pen.moveTo(...at(p))));
    pen.stroke();
    pen.setLineDash([]);
  }
  pen.strokeStyle = colour("accent");
  pen.lineWidth = 1.25;
  for (const p of shown) {
    const place = at(p);
    if (!visible(place)) continue;
    pen.globalAlpha = 0.35;
    if (!crowded) interval(p);
    if (p.kind === EXACT) { pen.globalAlpha = 0.5; pen.fillStyle = colour("accent"); dot(place, 3.5); pen.fill(); }
    else { pen.globalAlpha = 0.9; pen.fillStyle = colour("surface"); dot(place, 3.5); pen.fill(); pen.stroke(); }
  }
  pen.globalAlpha = 1;
  if (front.length) {
    pen.beginPath();
    front.forEach((p, index) => {
      const [px, py] = at(p);
      if (!index) { pen.moveTo(px, py); return; }
      const [qx, qy] = at(front[index - 1]);
      // Between two settings of the front only the worse of both figures is known to be reached.
      const [cx, cy] = x.higher ? [qx, py] : [px, qy];
      pen.lineTo(cx, cy);
      pen.lineTo(px, py);
    });
    pen.lineWidth = 1.5;
    pen.stroke();
    for (const p of front) {
      const place = at(p);
      if (!visible(place)) continue;
      pen.fillStyle = colour("accent");
      dot(place, 4.5);
      pen.fill();
      pen.strokeStyle = colour("surface");
      pen.stroke();
      pen.strokeStyle = colour("accent");
    }
  }
  const [dx, dy] = dense ? at(dense) : [NaN, NaN];
  if (visible([dx, dy])) {
    pen.fillStyle = colour("muted");
    pen.strokeStyle = colour("surface");
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(dx, dy - 7); pen.lineTo(dx + 7, dy); pen.lineTo(dx, dy + 7); pen.lineTo(dx - 7, dy);
    pen.closePath();
    pen.fill();
    pen.stroke();
    label(pen, "dense", dx, dy, box, { ink: colour("muted"), ground: colour("surface") }, font);
  }
  const now = present ? at(present) : [NaN, NaN];
  if (visible(now)) {
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 2;
    interval(present);
    pen.setLineDash(present.kind === 0 ? [3, 3] : []);
    dot(now, 8);
    pen.stroke();
    pen.setLineDash([]);
    dot(now, 3);
    pen.fillStyle = present.kind === EXACT ? colour("accent") : colour("surface");
    pen.fill();
    pen.lineWidth = 1.25;
    pen.stroke();
  }
  if (chosen) {
    const place = at(chosen);
    if (visible(place)) {
      pen.strokeStyle = colour("text");
      pen.lineWidth = 1.25;
      interval(chosen);
      pen.lineWidth = 2;
      dot(place, 7);
      pen.stroke();
    }
  }
  pen.restore();
  return { at, box };
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

function drawGrid(pen, box, { x, y, xAxis, yAxis }, colour, font) {
  const ticksOf = (scale, wanted) => (scale.log ? logTicks : linearTicks)(scale.now(), wanted);
  pen.font = font;
  pen.lineWidth = 1;
  pen.strokeStyle = colour("line");
  pen.fillStyle = colour("muted");
  const across = ticksOf(xAxis, Math.max(3, Math.floor((box.right - box.left) / 90)));
  pen.textBaseline = "top";
  pen.textAlign = "center";
  for (const tick of across.ticks) {
    const px = Math.round(box.left + xAxis.share(tick) * (box.right - box.left)) + 0.5;
    if (px < box.left || px > box.right + 1) continue;
    pen.beginPath();
    pen.moveTo(px, box.bottom);
    pen.lineTo(px, box.bottom + 4);
    pen.stroke();
    pen.fillText(x.tick(tick, across.step), px, box.bottom + 7);
  }
  const up = ticksOf(yAxis, Math.max(3, Math.floor((box.bottom - box.top) / 46)));
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const tick of up.ticks) {
    const py = Math.round(box.bottom - yAxis.share(tick) * (box.bottom - box.top)) + 0.5;
    if (py < box.top - 1 || py > box.bottom + 1) continue;
    pen.globalAlpha = 0.7;
    pen.beginPath();
    pen.moveTo(box.left, py);
    pen.lineTo(box.right, py);
    pen.stroke();
    pen.globalAlpha = 1;
    pen.fillText(y.tick(tick, up.step), box.left - 8, py);
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
