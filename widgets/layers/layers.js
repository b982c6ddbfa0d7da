// The layers as a grid: figures that follow the recipe, and each layer's own ratio and bits.
//
// What a hand asked for is shown at once (`asked`) and kept until the kernel's figures include it (`done`).
// What was typed (`drafts`) stands in its field until it is in force, is refused, or is given up.

const KINDS = {
  sparsity: Float32Array, bits: Uint8Array, bytes: Uint32Array, params: Uint32Array, macs: Float64Array, times: Float32Array,
  ratios: Float32Array, widths: Uint8Array, own: Uint8Array, sensitivity: Float32Array,
};
const AROUND = 24; // rows kept ready above and below those in sight
const REST = 600; // ms without new figures after which a sorted table is put in order again

function readFigures(model) {
  const data = Object.fromEntries(Object.entries(KINDS).map(([name, Kind]) => [name, typed(model.get(name), Kind)]));
  const most = (values) => values.reduce((top, value) => (value > top ? value : top), 0);
  return {
    ...data, ratio: data.ratios, width: data.widths, time: data.times, size: data.bytes,
    total: model.get("total"), shapes: model.get("shapes"),
    most: { bytes: most(data.bytes), times: most(data.times), sensitivity: Math.max(1, most(data.sensitivity)) },
  };
}

function render({ model, el }) {
  const editors = editorsOf(model.get("positions"));
  const KEYS = Object.keys(editors);
  let layers = [];
  let rows = []; // by layer
  let shown = []; // layers in the order of the page
  let columns = [];
  let data = readFigures(model);
  let sort = { key: "", down: false };
  let selected = new Set();
  let locked = new Set();
  let anchor = 0; // where a range of rows began
  let current = 0; // the row that Tab enters
  const asked = { ratio: new Map(), width: new Map() }; // layer → { seq, value }
  const drafts = new Map(); // "column layer" → { text, sent, taken, sentence }

  const search = element("input", { type: "search", class: "wb-search", placeholder: "Search", "aria-label": "Search layers by name or type" });
  const found = element("span", { class: "wb-muted", "aria-live": "polite" });
  const picked = element("span", { class: "wb-muted" });
  const lockAll = button("Lock", { title: "Keep the selected layers as they are, whatever the sliders do" });
  const clearAll = button("Clear own values", { title: "Let the selected layers follow the controls again" });
  const chooser = columnChooser(choose);
  const header = element("div", { role: "row", class: "wb-row wb-headrow", "aria-rowindex": 1 });
  const all = element("input", { type: "checkbox", "aria-label": "Select all layers shown" });
  const body = element("div", { role: "rowgroup" });
  // JupyterLab's own keys (A, arrows, Enter) are not meant for a notebook while they are pressed in here.
  const grid = element("div", { role: "grid", "aria-label": "Layers", "aria-multiselectable": "true", "data-lm-suppress-shortcuts": "true" }, element("div", { role: "rowgroup", class: "wb-headgroup" }, header), body);
  const bubble = element("p", { class: "wb-problem wb-bubble", role: "alert", id: uniqueId("layers-problem") });
  const nothing = element("p", { class: "wb-muted wb-nothing" }, "No layer has such a name or type.");
  const scroller = element("div", { class: "wb-scroller" }, grid, nothing, bubble);
  const root = element("div", { class: "wb-layers wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Layers"), search, found, element("span", { class: "wb-selection" }, picked, lockAll, clearAll), chooser.root),
    scroller);
  el.classList.add("wb");
  el.replaceChildren(root);

  // What stands still: columns, header, one shell a layer

  function build() {
    const width = el.clientWidth || 1040;
    const narrow = width < NARROW;
    columns = columnsFor(width, model.get("columns"));
    chooser.show(columns);
    root.classList.toggle("wb-narrow", narrow);
    root.style.setProperty("--wb-tracks", tracksOf(columns, narrow));
    if (layers !== model.get("layers")) { // of another model: what was typed or asked of the one before is not for it
      for (const kept of [drafts, ...Object.values(asked)]) kept.clear();
      layers = model.get("layers");
    }
    rows = layers.map(shellOf);
    grid.setAttribute("aria-colcount", columns.length + 2);
    buildHeader();
    data = readFigures(model);
    arrange();
    showSelected();
  }
  function buildHeader() {
    const head = (key, ...children) => element("span", { role: "columnheader", class: `wb-cell wb-col-${key}`, "data-column": key }, ...children);
    const sorter = (key) => head(key, element("button", { type: "button", class: "wb-sort", title: `${COLUMN[key].about}. Click to sort` }, COLUMN[key].title));
    header.replaceChildren(head("pick", all), ...columns.filter((key) => !editors[key]).map(sorter),
      element("span", { class: "wb-editors", role: "presentation" }, ...KEYS.map(sorter)), head("lock", element("span", { class: "wb-hidden" }, "Lock")));
    showSort();
  }
  function choose(keys) {
    model.set("columns", keys);
    model.save_changes();
  }
  function rowOf(index) {
    if (!rows[index].cells) {
      fillRow(rows[index], layers[index], columns, editors);
      if (index === current) enter(index);
    }
    return rows[index];
  }

  // Order and search

  function valueOf(key, index) {
    if (TEXTUAL.includes(key)) return layers[index][key];
    if (key === "shape") return layers[index].shape.reduce((product, length) => product * length, 1);
    const value = editors[key] ? present(key, index) : data[key][index] ?? layers[index][key];
    return Number.isNaN(value) ? undefined : value;
  }
  function arrange() {
    const matches = matcher(search.value);
    shown = [...layers.keys()].filter((index) => matches(`${layers[index].name} ${layers[index].type}`.toLowerCase()));
    if (sort.key) {
      const sign = sort.down ? -1 : 1;
      const order = (a, b) => (a === b ? 0 : a === undefined ? 1 : b === undefined ? -1 : a < b ? -sign : sign);
      const values = new Map(shown.map((index) => [index, valueOf(sort.key, index)]));
      shown.sort((a, b) => order(values.get(a), values.get(b)) || a - b);
    }
    const placed = shown.map((index) => rows[index].row);
    if (placed.length !== body.children.length || placed.some((row, at) => row !== body.children[at])) body.replaceChildren(...placed);
    placed.forEach((row, at) => row.setAttribute("aria-rowindex", at + 2));
    grid.setAttribute("aria-rowcount", shown.length + 1);
    nothing.hidden = shown.length > 0;
    setText(found, shown.length < layers.length ? `${shown.length} of ${plural(layers.length, "layer")}` : plural(layers.length, "layer"));
    enter(shown.includes(current) ? current : shown.find((index) => selected.has(index)) ?? shown[0] ?? 0);
    drawInSight();
    showBubble();
  }
  function sortBy(key) {
    const first = !TEXTUAL.includes(key); // numbers begin with the largest
    if (sort.key !== key) sort = { key, down: first };
    else if (sort.down === first) sort = { key, down: !first };
    else sort = { key: "", down: false };
    showSort();
    scroller.scrollTop = 0;
    arrange();
  }
  function showSort() {
    for (const head of header.querySelectorAll("[data-column]")) {
      if (head.dataset.column === sort.key) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }
  // Figures that move never move rows under a hand: order is restored once they rest.
  let resting = 0;
  function restSoon() {
    clearTimeout(resting);
    if (sort.key && !TEXTUAL.includes(sort.key)) resting = setTimeout(() => { if (!body.matches(":focus-within, :hover")) arrange(); }, REST);
  }

  // Figures

  const present = (key, index) => asked[key].get(index)?.value ?? data[key][index];
  const isOwn = (key, index) => asked[key].has(index) || Boolean((data.own[index] ?? 0) & editors[key].own);
  function redrawEditor(key, index) {
    const value = present(key, index);
    if (rows[index].cells && value !== undefined) drawEditor(rows[index], key, editors[key], value, isOwn(key, index), drafts.get(`${key} ${index}`), bubble.id);
  }
  function drawRow(index) {
    drawFigures(rowOf(index), layers[index], index, data);
    for (const key of KEYS) redrawEditor(key, index);
    drawMarks(rows[index], selected.has(index), locked.has(index));
  }
  // All rows are of one height, so what is in sight follows from where the grid is scrolled to. Asking for it lays the
  // page out anew, so new figures are written where it was last seen: scrolling and resizing look again.
  let sight = null;
  function drawInSight() {
    sight = null;
    drawSeen();
  }
  function drawSeen() {
    sight ??= lookUp();
    if (sight) for (const index of shown.slice(...sight)) drawRow(index);
  }
  function lookUp() {
    const height = rows[shown[0]]?.row.offsetHeight;
    if (!height) return null;
    const { scrollTop, clientHeight } = scroller;
    return [Math.max(0, Math.floor(scrollTop / height) - AROUND), Math.ceil((scrollTop + clientHeight) / height) + AROUND];
  }
  function draw() {
    data = readFigures(model);
    const done = model.get("done");
    for (const wishes of Object.values(asked)) for (const [index, { seq }] of wishes) if (seq <= done) wishes.delete(index);
    for (const [place, { taken }] of drafts) if (taken <= done) drafts.delete(place);
    drawSeen();
    restSoon();
  }

  // Selection and locks

  const allLocked = () => selected.size > 0 && [...selected].every((index) => locked.has(index));
  function showSelected() {
    rows.forEach((one, index) => {
      const on = String(selected.has(index));
      if (one.seen.selected !== on) one.row.setAttribute("aria-selected", (one.seen.selected = on));
      if (one.cells) drawMarks(one, selected.has(index), locked.has(index));
    });
    const among = shown.filter((index) => selected.has(index)).length;
    all.checked = among > 0 && among === shown.length;
    all.indeterminate = among > 0 && among < shown.length;
    setText(picked, selected.size > 1 ? `${selected.size} selected: a change goes to all` : "");
    setText(lockAll, allLocked() ? "Unlock" : "Lock");
    lockAll.disabled = clearAll.disabled = !selected.size;
    root.classList.toggle("wb-several", selected.size > 1);
  }
  function select(indices) {
    selected = new Set(indices);
    showSelected();
    mail.ask("select", { do: "select", layers: [...selected] });
  }
  function selectOnly(index) {
    anchor = index;
    select([index]);
  }
  function selectTo(index) {
    const [from, to] = [shown.indexOf(anchor), shown.indexOf(index)];
    const range = from < 0 ? [] : shown.slice(Math.min(from, to), Math.max(from, to) + 1);
    select([...range.filter((one) => one !== index), index]);
  }
  function toggle(index) {
    anchor = index;
    select(selected.has(index) ? [...selected].filter((one) => one !== index) : [...selected, index]);
  }
  function enter(index, focus = false) {
    for (const one of new Set([current, index])) {
      for (const node of rows[one] ? [rows[one].row, ...rows[one].controls] : []) node.tabIndex = one === index ? 0 : -1;
    }
    current = index;
    if (!focus || !rows[index]) return;
    rows[index].row.focus({ preventScroll: true });
    rows[index].row.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  // Scrolls the grid, and never the page, to a layer that was selected in another view.
  function reveal(index) {
    const { offsetTop: top, offsetHeight: height } = rows[index].row;
    const above = top - header.offsetHeight - scroller.scrollTop;
    const below = top + height - scroller.clientHeight - scroller.scrollTop;
    if (above < 0) scroller.scrollTop += above;
    else if (below > 0) scroller.scrollTop += below;
  }
  function follow() {
    if (!mail.quiet()) return;
    const before = [...selected].pop();
    selected = new Set(model.get("selected"));
    locked = new Set(model.get("locked"));
    showSelected();
    const last = [...selected].pop();
    if (before !== undefined && last !== undefined && last !== before) reveal(last);
  }
  const setLock = (indices, on) => mail.ask(`lock ${indices}`, { do: on ? "lock" : "unlock", layers: indices });

  // Changes

  const affected = (index) => (selected.has(index) && selected.size > 1 ? [...selected] : [index]);
  const fieldOf = (key, index) => rowOf(index).cells[key].children[1];
  const rowAt = (node) => Number(node.closest?.("[data-index]")?.dataset.index ?? -1);

  function slideTo(key, index, place) {
    const targets = affected(index).filter((one) => !locked.has(one));
    const value = editors[key].of(place);
    const seq = mail.ask(`${key} ${targets}`, { do: "set", column: key, layers: targets, value, at: index });
    for (const one of targets) {
      asked[key].set(one, { seq, value });
      forget(key, one);
    }
  }
  // Sends what was typed, unless it is on its way or was refused; an emptied field follows the controls again.
  function commit(key, index) {
    const draft = drafts.get(`${key} ${index}`);
    if (!draft || draft.sent || draft.sentence) return;
    if (!draft.text.trim()) { clear(key, index); return; }
    draft.sent = true;
    mail.ask(`${key} ${index} typed`, { do: "set", column: key, layers: affected(index), value: draft.text, at: index });
  }
  function clear(key, index) {
    forget(key, index);
    mail.ask(`clear ${key} ${index}`, { do: "clear", column: key, layers: affected(index) });
  }
  // Puts a field back to the present value and forgets what was wrong with it.
  function forget(key, index) {
    if (drafts.delete(`${key} ${index}`)) showBubble();
    redrawEditor(key, index);
  }
  function answered({ column, at, layers: targets, value, seq }, problem) {
    const place = `${column} ${at}`;
    const draft = drafts.get(place);
    if (problem) {
      for (const one of targets) if (asked[column].get(one)?.seq === seq) asked[column].delete(one);
      const text = typeof value === "string" ? value : editors[column].text(value);
      if (!draft || draft.text === text) drafts.set(place, { text, sentence: problem });
    } else if (draft?.sent) draft.taken = seq;
    showBubble();
  }
  // The sentence stands under the field it is about: the one in use, or else the last refused.
  function showBubble() {
    const active = document.activeElement;
    const here = body.contains(active) ? `${active.dataset.column} ${rowAt(active)}` : "";
    const wrong = [...drafts].filter(([place, { sentence }]) => sentence && shown.includes(Number(place.split(" ")[1]))).map(([place]) => place);
    const place = wrong.includes(here) ? here : wrong.pop();
    setText(bubble, place ? drafts.get(place).sentence : "");
    if (!place) return;
    const [key, index] = place.split(" ");
    const box = fieldOf(key, Number(index)).getBoundingClientRect();
    const frame = scroller.getBoundingClientRect();
    const [above, below] = [box.top - bubble.offsetHeight - 4, box.bottom + 4];
    const fits = below + bubble.offsetHeight < frame.bottom || above < frame.top + header.offsetHeight;
    bubble.style.top = `${(fits ? below : above) - frame.top + scroller.scrollTop}px`;
    bubble.style.left = `${Math.max(8, Math.min(box.left - frame.left, frame.width - 324)) + scroller.scrollLeft}px`;
  }
  const mail = courier(model, (content, problem) => {
    if (content.do === "set") answered(content, problem);
    follow();
    draw();
  });

  // Hands

  body.addEventListener("click", (event) => {
    const index = rowAt(event.target);
    const control = event.target.closest("input, button");
    if (index < 0) return;
    if (control === rows[index].pick) toggle(index);
    else if (control === rows[index].lock) setLock(affected(index), !locked.has(index));
    else if (control?.classList.contains("wb-clear")) {
      clear(control.dataset.column, index);
      fieldOf(control.dataset.column, index).focus();
    } else if (!control) {
      enter(index, true);
      if (event.shiftKey) selectTo(index);
      else if (event.ctrlKey || event.metaKey) toggle(index);
      else selectOnly(index);
    }
  });
  body.addEventListener("mousedown", (event) => { if (event.shiftKey && !event.target.closest("input")) event.preventDefault(); }); // marks no text
  body.addEventListener("focusin", ({ target }) => {
    const index = rowAt(target);
    if (index !== current) enter(index);
    if (!target.dataset.column) return;
    if (target.type === "text") target.select();
    if (!selected.has(index)) selectOnly(index);
    showBubble();
  });
  body.addEventListener("focusout", ({ target }) => { if (target.type === "text") commit(target.dataset.column, rowAt(target)); });
  body.addEventListener("input", ({ target }) => {
    const { column } = target.dataset;
    if (target.type === "range") slideTo(column, rowAt(target), target.valueAsNumber);
    else if (target.type === "text") {
      drafts.set(`${column} ${rowAt(target)}`, { text: target.value });
      redrawEditor(column, rowAt(target));
      showBubble();
    }
  });
  body.addEventListener("keydown", (event) => {
    const { key, target, shiftKey } = event;
    const index = rowAt(target);
    const { column } = target.dataset;
    const onRow = target === rows[index]?.row;
    const onField = target.type === "text";
    const at = shown.indexOf(index);
    const page = Math.max(1, Math.floor(scroller.clientHeight / target.closest(".wb-row").offsetHeight) - 2);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: shown.length - 1 }[key];
    if (key === "Escape" && !onRow) {
      if (column) forget(column, index);
      rows[index].row.focus();
    } else if (key === "Enter" && onField) {
      commit(column, index);
      target.select();
    } else if (key === "Enter" && onRow) fieldOf(KEYS[0], index).focus();
    else if (key === " " && onRow) toggle(index);
    else if (key === "a" && (event.ctrlKey || event.metaKey) && onRow) select(shown);
    else if (to !== undefined && (onRow || (onField && key.startsWith("Arrow")))) go(shown[Math.max(0, Math.min(shown.length - 1, to))]);
    else return;
    event.preventDefault();

    function go(next) {
      if (onField) { fieldOf(column, next).focus(); return; }
      if (shiftKey && !selected.has(index)) anchor = index;
      enter(next, true);
      if (shiftKey) selectTo(next);
    }
  });
  header.addEventListener("click", ({ target }) => { if (target.classList.contains("wb-sort")) sortBy(target.parentNode.dataset.column); });
  all.addEventListener("change", () => select(all.checked ? shown : []));
  search.addEventListener("input", () => { arrange(); showSelected(); });
  lockAll.addEventListener("click", () => setLock([...selected], !allLocked()));
  clearAll.addEventListener("click", () => {
    for (const index of selected) for (const key of KEYS) forget(key, index);
    mail.ask(`clear ${[...selected]}`, { do: "clear", layers: [...selected] });
  });
  scroller.addEventListener("scroll", drawInSight, { passive: true });

  const watches = [
    onTraits(model, [...Object.keys(KINDS), "shapes", "total", "done"], draw, { frame: true }),
    onTraits(model, ["selected", "locked"], follow),
    onTraits(model, ["layers", "columns"], build),
  ];
  const sizes = new ResizeObserver(() => {
    const width = el.clientWidth;
    if (!width) return;
    const fits = columnsFor(width, model.get("columns")).join() === columns.join() && width < NARROW === root.classList.contains("wb-narrow");
    if (!fits) build();
    drawInSight();
    showBubble();
  });
  sizes.observe(el);
  const unseen = reportVisibility(model, el);
  build();
  follow();
  return () => {
    clearTimeout(resting);
    sizes.disconnect();
    chooser.end();
    for (const watch of watches) watch.end();
    mail.end();
    unseen();
  };
}

export default { render };
