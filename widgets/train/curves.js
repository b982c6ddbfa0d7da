// Validation accuracy by epoch, one line a job, laid over each other, each in its 95 % interval.

const SERIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8b6fc0"];
const seriesOf = (id) => SERIES[(id - 1) % SERIES.length];

// A round step that gives at most `most` ticks over `span`.
function tickStep(span, most) {
  const raw = span / most;
  const scale = 10 ** Math.floor(Math.log10(raw));
  return scale * [1, 2, 5, 10].find((step) => step * scale >= raw);
}

function curveFrame(lines, width, height) {
  const all = lines.flatMap(({ points }) => points);
  const lows = all.map((point) => point.low), highs = all.map((point) => point.high);
  let [low, high] = [Math.min(...lows), Math.max(...highs)];
  const room = Math.max(0.004, 0.06 * (high - low));
  [low, high] = [Math.max(0, low - room), Math.min(1, high + room)];
  const last = Math.max(1, ...all.map((point) => point.epoch));
  const box = { left: 46, right: width - 12, top: 10, bottom: height - 30 };
  return {
    box, low, high, last,
    x: (epoch) => box.left + ((box.right - box.left) * epoch) / last,
    y: (share) => box.bottom - ((box.bottom - box.top) * (share - low)) / (high - low || 1),
  };
}

function drawAxes(pen, frame, colours, font) {
  const { box, low, high, last, x, y } = frame;
  pen.font = `11px ${font}`;
  pen.fillStyle = colours("muted");
  pen.strokeStyle = colours("line");
  pen.lineWidth = 1;
  const step = tickStep(100 * (high - low), 5);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (let tick = Math.ceil((100 * low) / step) * step; tick <= 100 * high + 1e-9; tick += step) {
    const at = Math.round(y(tick / 100)) + 0.5;
    pen.beginPath();
    pen.moveTo(box.left, at);
    pen.lineTo(box.right, at);
    pen.stroke();
    pen.fillText(`${number(tick, step < 1 ? 1 : 0)} %`, box.left - 6, at);
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  const each = Math.max(1, Math.round(tickStep(last, 8)));
  for (let epoch = 0; epoch <= last; epoch += each) pen.fillText(String(epoch), x(epoch), box.bottom + 5);
  pen.textAlign = "right";
  pen.fillText("epoch", box.right, box.bottom + 17);
}

function drawLine(pen, frame, { points, colour }) {
  const { x, y } = frame;
  pen.fillStyle = colour;
  pen.globalAlpha = 0.16;
  pen.beginPath();
  points.forEach((point, at) => pen[at ? "lineTo" : "moveTo"](x(point.epoch), y(point.high)));
  [...points].reverse().forEach((point) => pen.lineTo(x(point.epoch), y(point.low)));
  pen.fill();
  pen.globalAlpha = 1;
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.beginPath();
  points.forEach((point, at) => pen[at ? "lineTo" : "moveTo"](x(point.epoch), y(point.value)));
  pen.stroke();
  for (const point of points.length < 60 ? points : points.slice(-1)) {
    pen.beginPath();
    pen.arc(x(point.epoch), y(point.value), 2.5, 0, 2 * Math.PI);
    pen.fill();
  }
}

// The lines to draw: the shown jobs that have points; epoch 0 is before the training.
function linesOf(model) {
  const curves = model.get("curves");
  const jobs = Object.fromEntries(model.get("jobs").map((job) => [job.id, job]));
  return model.get("shown").filter((id) => curves[id] && jobs[id]).map((id) => {
    const points = curves[id].points.map(([epoch, value, low, high, loss]) => ({ epoch, value, low, high, loss }));
    return { id, points, colour: seriesOf(id), title: jobs[id].title };
  });
}

function nearestPoint(lines, frame, left, top) {
  let best = null;
  for (const line of lines) {
    for (const point of line.points) {
      const far = Math.hypot(frame.x(point.epoch) - left, frame.y(point.value) - top);
      if (far < 40 && (!best || far < best.far)) best = { far, line, point };
    }
  }
  return best;
}
