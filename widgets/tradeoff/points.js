// The settings as the page holds them: unpacking, the store that takes additions, the figures one can look
// at, and the Pareto front (workbench/measure/pareto.py is its twin).

// Figures of a setting, in the order in which view.py packs them.
const COLUMNS = 20;
const SAMPLED = 1, EXACT = 2;

function unpack(view, words = []) {
  const values = typed(view, Float32Array);
  const points = [];
  for (let at = 0, row = 0; at < values.length; at += COLUMNS, row += 1) {
    const line = words[row] ?? "", tab = line.indexOf("\t"); // a name comes first
    const name = tab < 0 ? "" : line.slice(0, tab), recipe = line.slice(tab + 1);
    // written out, since ten thousand of them are opened at once
    points.push({
      name, recipe, words: name || recipe,
      place: values[at], score: values[at + 1], low: values[at + 2], high: values[at + 3], n: values[at + 4],
      kind: values[at + 5], bytes: values[at + 6], ms: values[at + 7], msLow: values[at + 8], msHigh: values[at + 9],
      measured: values[at + 10], minutes: values[at + 11], mine: values[at + 12], parent: values[at + 13],
      runtime: values[at + 14], agreement: values[at + 15], loss: values[at + 16], kept: values[at + 17],
      starred: values[at + 18], deleted: values[at + 19],
    });
  }
  return points;
}
const linesOf = (view) => (view && view.byteLength ? new TextDecoder().decode(view).split("\n") : []);

// Keeps every setting at its place. `read` takes what the model holds; false means that something is missing.
function pointStore(model) {
  let edition = null, applied = 0;
  const points = [];
  const put = (more) => { for (const point of more) points[point.place] = point; };
  function read() {
    if (model.get("edition") !== edition) { edition = model.get("edition"); applied = 0; points.length = 0; }
    if (model.get("upto") > applied || (!applied && model.get("points")?.byteLength)) {
      put(unpack(model.get("points"), linesOf(model.get("words"))));
      applied = Math.max(applied, model.get("upto"));
    }
    if (model.get("added_upto") <= applied) return true;
    if (model.get("added_from") > applied) return false;
    put(unpack(model.get("added"), linesOf(model.get("added_words"))));
    applied = model.get("added_upto");
    return true;
  }
  return { points, read, version: () => `${edition}:${applied}:${points.length}` };
}

const METRICS = {
  accuracy: {
    title: "Accuracy", higher: true, value: (p) => p.score, low: (p) => p.low, high: (p) => p.high,
    show: (value, p) => (Number.isFinite(value) ? percent(value, p && p.kind === EXACT ? 2 : 1) : "–"), tick: (value, step) => percent(value, step < 0.00999 ? 1 : 0),
  },
  size: {
    title: "Size", unit: "packed file", higher: false, scaled: true, value: (p) => p.bytes, low: () => NaN, high: () => NaN,
    show: (value) => (Number.isFinite(value) ? bytes(Math.round(value)) : "–"), tick: (value) => tickOf(value, value < 1e6 ? 1e3 : 1e6, value < 1e6 ? "kB" : "MB"),
  },
  latency: {
    title: "Latency", unit: "predicted", higher: false, scaled: true, value: (p) => p.ms, low: (p) => p.msLow, high: (p) => p.msHigh,
    show: (value) => (Number.isFinite(value) ? milliseconds(value) : "–"), tick: (value) => tickOf(value, 1, "ms"),
  },
  runtime: {
    title: "Runtime file", unit: "ONNX", higher: false, scaled: true, value: (p) => p.runtime, low: () => NaN, high: () => NaN,
    show: (value) => (Number.isFinite(value) ? bytes(Math.round(value)) : "–"), tick: (value) => tickOf(value, value < 1e6 ? 1e3 : 1e6, value < 1e6 ? "kB" : "MB"),
  },
  agreement: {
    title: "Same answers", unit: "as dense", higher: true, value: (p) => p.agreement, low: () => NaN, high: () => NaN,
    show: (value) => (Number.isFinite(value) ? percent(value, 1) : "–"), tick: (value, step) => percent(value, step < 0.00999 ? 1 : 0),
  },
  loss: {
    title: "Loss", unit: "cross-entropy", higher: false, value: (p) => p.loss, low: () => NaN, high: () => NaN,
    show: (value) => (Number.isFinite(value) ? number(value, 3) : "–"), tick: (value) => String(Number(value.toPrecision(3))),
  },
};
const tickOf = (value, unit, name) => `${Number((value / unit).toPrecision(3))} ${name}`;

// Points that no other beats in both figures, by rising x. Equal ones count once; unknown figures never do.
function paretoFront(points, x, y) {
  const costX = x.higher ? (p) => -x.value(p) : x.value;
  const costY = y.higher ? (p) => -y.value(p) : y.value;
  const known = points.filter((p) => Number.isFinite(costX(p)) && Number.isFinite(costY(p)));
  known.sort((a, b) => costX(a) - costX(b) || costY(a) - costY(b) || a.place - b.place);
  let best = Infinity;
  const front = known.filter((p) => { const better = costY(p) < best; if (better) best = costY(p); return better; });
  return front.sort((a, b) => x.value(a) - x.value(b));
}
