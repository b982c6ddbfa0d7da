// Which columns the table of layers has, how wide they are, and how their figures read.

const COLUMNS = [
  { key: "name", title: "Layer", width: 108, about: "Name in the model" },
  { key: "type", title: "Type", width: 60, about: "Kind of layer" },
  { key: "shape", title: "Shape", width: 96, about: "Shape of the weight" },
  { key: "params", title: "Params", width: 58, about: "Parameters" },
  { key: "macs", title: "MACs", width: 56, about: "Multiply-accumulates for one image" },
  { key: "size", title: "Size", width: 66, about: "Share of the packed file" },
  { key: "time", title: "Time", width: 66, about: "Share of the predicted latency" },
  { key: "sparsity", title: "Sparsity", width: 62, about: "Share of the weights that are zero" },
  { key: "bits", title: "Stored", width: 52, about: "Bits a stored weight is written in" },
  { key: "bytes", title: "Bytes", width: 62, about: "Size in the packed file" },
  { key: "sensitivity", title: "Sensitivity", width: 76, about: "Points of accuracy lost when this layer alone is compressed; the Sensitivity view measures it" },
  { key: "ratio", title: "Ratio", width: 130, about: "Pruning ratio. Grey: as set for all layers; strong: this layer's own" },
  { key: "width", title: "Bits", width: 110, about: "Bit-width. Grey: as set for all layers; strong: this layer's own" },
];
const COLUMN = Object.fromEntries(COLUMNS.map((column) => [column.key, column]));
const ALWAYS = ["name", "ratio", "width"];
const TEXTUAL = ["name", "type"];
// What a place that is too narrow for all gives up last.
const WANTED = ["sparsity", "size", "time", "bytes", "params", "sensitivity", "macs", "shape", "type"];
// Below this width the two editors get a line of their own under the rest.
const NARROW = 560;
const FRAME = 26 + 32 + 12 + 18; // the boxes to tick, the locks, the margins, the scroll bar

// The keys of the columns to show in `width` pixels: those chosen or, where none is, as many as fit.
function columnsFor(width, chosen) {
  const narrow = width < NARROW;
  const keys = new Set([...ALWAYS, ...chosen]);
  let room = width - FRAME - ALWAYS.reduce((sum, key) => sum + (narrow && key !== "name" ? 0 : COLUMN[key].width), 0);
  for (const key of chosen.length ? [] : WANTED) {
    room -= COLUMN[key].width;
    if (room < 0) break;
    keys.add(key);
  }
  return COLUMNS.map(({ key }) => key).filter((key) => keys.has(key));
}
function tracksOf(keys, narrow) {
  const track = ({ key, width }) => (key === "name" ? `minmax(${width}px, 1fr)` : `${width}px`);
  const inLine = keys.filter((key) => !narrow || key === "name" || !ALWAYS.includes(key));
  return `26px ${inLine.map((key) => track(COLUMN[key])).join(" ")} 32px`;
}

// toLocaleString is too slow for thousands of cells a move.
const sizeText = (size) => (size < 1e3 ? `${size} B` : size < 1e6 ? `${(size / 1e3).toPrecision(3)} kB` : `${(size / 1e6).toPrecision(3)} MB`);
const shareText = (value) => (Number.isNaN(value) ? "–" : value > 0 && value < 0.0005 ? "< 0.1 %" : `${(100 * value).toFixed(1)} %`);
const pointsText = (value) => (Number.isNaN(value) ? "–" : value.toFixed(Math.abs(value) < 9.95 ? 1 : 0));

// The two settings a layer can have for itself: where a value lies on the slider, and how it reads.
const editorsOf = ({ bits, off }) => ({
  ratio: {
    name: "Pruning ratio", unit: " in per cent", own: 1, max: 99,
    at: (value) => 100 * value, of: (place) => place / 100,
    text: (value) => (Number.isNaN(value) ? "–" : `${Number((100 * value).toFixed(2))} %`),
  },
  width: {
    name: "Bit-width", unit: "", own: 2, max: bits.length - 1,
    at: (value) => bits.indexOf(value), of: (place) => bits[place],
    text: (value) => (value === off ? "off" : String(value)),
  },
});

// Whether a layer's name or type contains what was typed, which may have * and ?.
function matcher(typedText) {
  const text = typedText.trim().toLowerCase();
  if (!/[*?]/.test(text)) return (words) => words.includes(text);
  const pattern = new RegExp(text.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", "."));
  return (words) => pattern.test(words);
}

// A button with a list of boxes to tick under it.
function columnChooser(choose) {
  const id = uniqueId("columns");
  const opener = button("Columns", { "aria-expanded": "false", "aria-controls": id });
  const boxes = COLUMNS.filter(({ key }) => !ALWAYS.includes(key)).map(({ key, title, about }) => {
    const box = element("input", { type: "checkbox", value: key });
    return { box, label: element("label", { title: about }, box, title) };
  });
  const fit = button("As many as fit");
  const list = element("fieldset", { class: "wb-choices", id }, element("legend", { class: "wb-hidden" }, "Columns"), ...boxes.map(({ label }) => label), fit);
  const root = element("span", { class: "wb-chooser" }, opener, list);
  const open = (wanted) => { list.hidden = !wanted; opener.setAttribute("aria-expanded", String(wanted)); };
  const outside = (event) => { if (!event.composedPath().includes(root)) open(false); };
  open(false);
  opener.addEventListener("click", () => open(list.hidden));
  list.addEventListener("change", () => choose([...ALWAYS, ...boxes.filter(({ box }) => box.checked).map(({ box }) => box.value)]));
  fit.addEventListener("click", () => choose([]));
  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || list.hidden) return;
    event.stopPropagation();
    open(false);
    opener.focus();
  });
  document.addEventListener("pointerdown", outside);
  return {
    root,
    show: (keys) => { for (const { box } of boxes) box.checked = keys.includes(box.value); },
    end: () => document.removeEventListener("pointerdown", outside),
  };
}
