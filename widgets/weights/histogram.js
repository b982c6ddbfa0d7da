// One layer's weights on a canvas: grey before, accent after, with the pruning threshold and the values the
// quantizer can take. One pass, from typed arrays.

const short = (value) => (Math.abs(value) < 1e-12 ? "0" : String(Number(value.toPrecision(2))).replace("-", "−"));

function axisSteps(low, high, wanted, whole = false) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const found = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const step = whole ? Math.max(1, Math.round(found)) : found;
  const steps = [];
  for (let at = Math.ceil(low / step - 1e-6); at * step <= high + step * 1e-6; at += 1) steps.push(at * step || 0); // never −0
  return steps;
}

function countSteps(top, log, wanted) {
  if (!log) return axisSteps(0, top, wanted, true);
  const steps = [];
  const decades = Math.max(1, Math.ceil(Math.log10(top + 1) / wanted));
  for (let value = 1; value <= top; value *= 10 ** decades) steps.push(value);
  return steps;
}
const shortCount = (value) => (value >= 1e6 ? `${value / 1e6}M` : value >= 1e4 ? `${value / 1e3}k` : count(value));

// Where things go on the canvas: less margin where there is less room.
function frameOf(width, height, grid) {
  const small = height < 190;
  const left = small ? 38 : 46;
  const top = 8;
  const floor = height - (small ? 18 : 22) - (grid ? 10 : 0);
  return { left, top, floor, right: width - 10, width: Math.max(1, width - 10 - left), height: Math.max(1, floor - top), small };
}

function levelLines(pen, frame, colour, steps, y, text) {
  pen.fillStyle = colour("muted");
  pen.strokeStyle = colour("line");
  pen.lineWidth = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const step of steps) {
    const at = Math.round(y(step)) + 0.5;
    pen.globalAlpha = 0.6;
    pen.beginPath();
    pen.moveTo(frame.left, at);
    pen.lineTo(frame.right, at);
    pen.stroke();
    pen.globalAlpha = 1;
    pen.fillText(text(step), frame.left - 7, at);
  }
}

function ground(pen, frame, colour) {
  pen.strokeStyle = colour("control");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(frame.left, frame.floor + 0.5);
  pen.lineTo(frame.right, frame.floor + 0.5);
  pen.stroke();
}

function dashed(pen, colour, lines) {
  pen.strokeStyle = colour("text");
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 4]);
  for (const [fromX, fromY, toX, toY] of lines) {
    pen.beginPath();
    pen.moveTo(fromX, fromY);
    pen.lineTo(toX, toY);
    pen.stroke();
  }
  pen.setLineDash([]);
}

// The values a weight can take, as ticks at their places. Few of them are also led up through the bars, since a
// codebook's are unevenly spaced and each takes what is nearest to it. Many grow thinner and paler, so that a dense
// stretch is a darker one, never a black bar.
function drawLevels(pen, frame, colour, levels, low, high) {
  const x = (value) => frame.left + ((value - low) / (high - low)) * frame.width;
  const room = frame.width / Math.max(1, levels.length);
  pen.strokeStyle = colour("text");
  for (const value of levels) {
    if (value < low || value > high) continue;
    const at = x(value);
    const line = (top, bottom, alpha, wide) => {
      pen.globalAlpha = alpha;
      pen.lineWidth = wide;
      pen.beginPath();
      pen.moveTo(at, top);
      pen.lineTo(at, bottom);
      pen.stroke();
    };
    line(frame.floor + 3, frame.floor + 9, room < 2 ? 0.4 : room < 5 ? 0.55 : 0.9, room < 2 ? 0.5 : room < 5 ? 0.75 : 1.25);
    if (room >= 12) line(frame.top, frame.floor, 0.16, 1);
  }
  pen.globalAlpha = 1;
}

// How many values, and how far apart: evenly on a quantizer's grid, unevenly in a codebook.
function levelWords(levels) {
  if (levels.length < 2) return "";
  let [least, most] = [Infinity, 0];
  for (let index = 1; index < levels.length; index += 1) {
    const gap = levels[index] - levels[index - 1];
    [least, most] = [Math.min(least, gap), Math.max(most, gap)];
  }
  const apart = most - least <= 0.02 * most ? short(most) : `${short(least)} to ${short(most)}`;
  return `${count(levels.length)} values, ${apart} apart`;
}

// Returns what is at a horizontal place: the bin's number, and its words.
function drawHistogram(pen, { width, height }, colour, { edges, before, after, grid, threshold, log, hover }) {
  const frame = frameOf(width, height, grid.length > 0);
  const [low, high] = [edges[0], edges[edges.length - 1]];
  let [top, most] = [1, 0];
  for (const value of before) top = Math.max(top, value);
  for (const value of after) most = Math.max(most, value);
  // Values on a coarse grid stand in few bins. In linear counts they would flatten what was before: they are
  // cut, and the highest says so.
  top = log ? Math.max(top, most) : Math.min(Math.max(top, most), top * 4);
  const x = (value) => frame.left + ((value - low) / (high - low)) * frame.width;
  const level = (n) => (log ? (n > 0 ? (Math.log10(n) + 0.3) / (Math.log10(top) + 0.3) : 0) : Math.min(n, top) / top);
  const y = (n) => frame.floor - level(n) * (frame.height - 4);

  levelLines(pen, frame, colour, countSteps(top, log, Math.max(2, Math.floor(frame.height / (log ? 26 : 45)))), y, shortCount);
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const step of axisSteps(low, high, Math.max(3, Math.floor(frame.width / 90)))) {
    pen.fillText(short(step), Math.min(x(step), width - 14), frame.floor + (grid.length ? 13 : 6));
  }
  if (threshold != null) {
    pen.fillStyle = colour("sunken");
    pen.globalAlpha = 0.8;
    const left = Math.max(x(-threshold), frame.left);
    pen.fillRect(left, frame.top, Math.min(x(threshold), frame.right) - left, frame.height);
    pen.globalAlpha = 1;
  }
  const bars = (bins, gap) => {
    for (let index = 0; index < bins.length; index += 1) {
      if (!bins[index]) continue;
      const left = x(edges[index]);
      pen.fillRect(left + gap, y(bins[index]), Math.max(1, x(edges[index + 1]) - left - 2 * gap), frame.floor - y(bins[index]));
    }
  };
  pen.fillStyle = colour("base");
  pen.globalAlpha = 0.45;
  bars(before, 0);
  pen.globalAlpha = 0.9;
  pen.fillStyle = colour("accent");
  bars(after, (frame.width / Math.max(1, after.length)) * 0.2);
  pen.globalAlpha = 1;
  if (most > top) {
    const tallest = after.indexOf(most);
    pen.fillStyle = colour("text");
    pen.textAlign = x(edges[tallest]) > width - 90 ? "right" : "left";
    pen.fillText(`${count(most)} ↑`, x(edges[tallest + 1]) + (pen.textAlign === "left" ? 4 : -14), frame.top);
  }
  if (threshold != null) {
    const inside = [-threshold, threshold].filter((at) => at >= low && at <= high);
    dashed(pen, colour, inside.map((at) => [x(at), frame.top, x(at), frame.floor]));
  }
  drawLevels(pen, frame, colour, grid, low, high);
  ground(pen, frame, colour);
  const bin = hover == null ? -1 : Math.floor(((hover - frame.left) / frame.width) * before.length);
  if (!(bin >= 0 && bin < before.length)) return { at: -1, words: "", of: before.length, place: () => null };
  pen.strokeStyle = colour("text");
  pen.globalAlpha = 0.5;
  pen.strokeRect(x(edges[bin]) + 0.5, frame.top + 0.5, x(edges[bin + 1]) - x(edges[bin]) - 1, frame.height - 1);
  pen.globalAlpha = 1;
  return {
    at: bin, of: before.length,
    words: `${short(edges[bin])} to ${short(edges[bin + 1])}: ${count(before[bin])} before, ${count(after[bin] ?? 0)} after`,
  };
}
