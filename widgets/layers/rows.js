// The rows of the table of layers. A row is a name until it comes near the sight; then it gets its cells.
// Drawing writes only what differs from what was `seen` there last.

const ICONS = {
  open: '<svg viewBox="0 0 16 16" aria-hidden="true"><rect x="3" y="7" width="10" height="7" rx="1.5"/><path d="M5.5 7V4.8a2.5 2.5 0 0 1 4.8-1"/></svg>',
  shut: '<svg viewBox="0 0 16 16" aria-hidden="true"><rect x="3" y="7" width="10" height="7" rx="1.5" class="wb-fill"/><path d="M5.5 7V4.8a2.5 2.5 0 0 1 5 0V7"/></svg>',
};
const cellOf = (key, ...children) => element("span", { role: "gridcell", class: `wb-cell wb-col-${key}` }, ...children);
const barCell = (key) => cellOf(key, element("i", { class: "wb-bar" }), element("span"));

function editorCell(key, name, { name: what, unit, max }) {
  const common = { tabindex: -1, "data-column": key };
  return cellOf(key,
    element("input", { type: "range", ...common, min: 0, max, step: 1, "aria-label": `${what} of ${name}` }),
    element("input", { type: "text", ...common, "aria-label": `${what} of ${name}${unit || ", typed"}`, autocomplete: "off", spellcheck: "false" }),
    element("button", { type: "button", ...common, class: "wb-clear", "aria-label": `Clear own ${what.toLowerCase()} of ${name}`, title: "Follow the controls again" }, "×"));
}

// A row with its name alone. The end of a long name is what tells it from the others, so the start is cut.
function shellOf({ name, type, shape }, index) {
  const cut = name.lastIndexOf(".", name.lastIndexOf(".") - 1) + 1;
  const head = element("span", { role: "rowheader", class: "wb-cell wb-col-name", "aria-label": name, title: `${name} · ${type} · ${shape.join("×")}` },
    element("span", {}, name.slice(0, cut)), element("b", {}, name.slice(cut)));
  const row = element("div", { role: "row", class: "wb-row wb-empty", "aria-selected": "false", tabindex: -1, "data-index": index }, head);
  return { row, head, seen: {}, cells: null, controls: [] };
}

function fillRow(found, { name, type }, columns, editors) {
  const make = (key) => {
    if (key === "name") return found.head;
    if (editors[key]) return editorCell(key, name, editors[key]);
    return ["size", "time", "sensitivity"].includes(key) ? barCell(key) : cellOf(key, key === "type" ? type : "");
  };
  const cells = Object.fromEntries(columns.map((key) => [key, make(key)]));
  const { ratio, width, ...plain } = cells;
  const pick = element("input", { type: "checkbox", tabindex: -1, "aria-label": `Select ${name}` });
  const lock = element("button", { type: "button", tabindex: -1, class: "wb-lock", "aria-label": `Lock ${name}` });
  found.row.replaceChildren(cellOf("pick", pick), ...Object.values(plain), element("span", { class: "wb-editors", role: "presentation" }, ratio, width), cellOf("lock", lock));
  found.row.classList.remove("wb-empty");
  Object.assign(found, { cells, pick, lock, controls: [pick, ...ratio.children, ...width.children, lock] });
}

// Writes a cell's text, its title, and the length of its bar (a share of the cell), if they are new.
function write({ cells, seen }, key, text, { title, length } = {}) {
  const node = cells[key];
  if (!node) return;
  if (seen[key] !== text) {
    seen[key] = text;
    setText(length === undefined ? node : node.lastChild, text);
    if (title) node.title = title;
  }
  if (length === undefined) return;
  const bar = length.toFixed(3);
  if (seen[`${key} bar`] === bar) return;
  seen[`${key} bar`] = bar;
  node.firstChild.style.setProperty("--wb-length", bar);
}
const partOf = (value, most) => (value > 0 && most > 0 ? value / most : 0);

function drawFigures(row, layer, index, data) {
  const was = layer.shape.join("×");
  const shape = data.shapes[index]?.join("×") ?? was;
  write(row, "shape", shape, { title: shape === was ? was : `${was} before` });
  for (const key of ["params", "macs"]) {
    const present = data[key][index] ?? layer[key];
    if (row.seen[`${key} value`] === present) continue;
    row.seen[`${key} value`] = present;
    write(row, key, compact(present), { title: present === layer[key] ? count(present) : `${count(present)} of ${count(layer[key])}` });
  }
  if (data.bytes.length) {
    write(row, "size", shareText(data.total ? data.bytes[index] / data.total : 0), { length: partOf(data.bytes[index], data.most.bytes) });
    write(row, "sparsity", shareText(data.sparsity[index]));
    write(row, "bits", String(data.bits[index]));
    write(row, "bytes", sizeText(data.bytes[index]), { title: `${data.bytes[index]} bytes` });
  }
  const [time, lost] = [data.times[index] ?? NaN, data.sensitivity[index] ?? NaN];
  write(row, "time", shareText(time), { length: partOf(time, data.most.times) });
  write(row, "sensitivity", pointsText(lost), { length: partOf(lost, data.most.sensitivity) });
}

// `draft` is what stands typed in the field but is not in force, with the sentence that says why not.
function drawEditor({ cells, seen }, key, { text, at }, value, own, draft, describedBy) {
  const state = `${text(value)}|${own}|${draft?.text}|${draft?.sentence}`;
  if (seen[key] === state) return;
  seen[key] = state;
  const [slide, field, clear] = cells[key].children;
  const place = Number.isNaN(value) ? 0 : at(value);
  cells[key].classList.toggle("wb-own", own);
  clear.hidden = !own;
  if (slide.valueAsNumber !== place) slide.value = place;
  slide.style.setProperty("--wb-fill", (Math.max(0, place) / slide.max).toFixed(3));
  slide.setAttribute("aria-valuetext", `${text(value)}${own ? ", its own" : ""}`);
  const shown = draft ? draft.text : text(value);
  if (field.value !== shown) field.value = shown;
  field.setAttribute("aria-invalid", String(Boolean(draft?.sentence)));
  if (draft?.sentence) field.setAttribute("aria-describedby", describedBy);
  else field.removeAttribute("aria-describedby");
}

function drawMarks({ row, pick, lock, controls, seen }, selected, locked) {
  pick.checked = selected;
  if (seen.locked === locked) return;
  seen.locked = locked;
  lock.innerHTML = locked ? ICONS.shut : ICONS.open;
  lock.setAttribute("aria-pressed", String(locked));
  lock.title = locked ? "Locked: nothing changes this layer. Click to unlock" : "Lock: keep this layer as it is, whatever the sliders do";
  row.classList.toggle("wb-locked", locked);
  for (const control of controls) if (control !== lock && control !== pick) control.disabled = locked;
}
