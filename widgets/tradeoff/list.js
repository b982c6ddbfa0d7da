// The settings as a list: the front, the latest, or what came from what; chosen ones are compared, named, deleted.

const LISTS = { front: "Pareto front", latest: "Latest first", tree: "What came from what" };
const LISTED = 250;

// Each setting below the one it came from, the oldest first; settings whose origin is not shown are roots.
function provenance(shown) {
  const here = new Set(shown.map((p) => p.place));
  const children = new Map();
  const roots = [];
  for (const p of shown) {
    if (p.parent >= 0 && here.has(p.parent) && p.parent !== p.place) children.set(p.parent, [...(children.get(p.parent) ?? []), p]);
    else roots.push(p);
  }
  const rows = [];
  const seen = new Set();
  const stack = roots.reverse().map((p) => [p, 0]);
  while (stack.length && rows.length < LISTED) {
    const [p, depth] = stack.pop();
    if (seen.has(p.place)) continue; // a ring cannot be drawn as a tree
    seen.add(p.place);
    rows.push([p, depth]);
    for (const child of [...(children.get(p.place) ?? [])].reverse()) stack.push([child, Math.min(depth + 1, 12)]);
  }
  return rows;
}

// What a setting has that the one it came from has not, and the other way round where that is all.
function stepFrom(parent, p) {
  if (!parent || p.name || parent.name) return p.words;
  const [before, after] = [parent.words.split(" · "), p.words.split(" · ")];
  const more = after.filter((part) => !before.includes(part));
  const less = before.filter((part) => !after.includes(part) && part !== "dense");
  return more.length ? `+ ${more.join(" · ")}` : less.length ? `− ${less.join(" · ")}` : p.words;
}

function settingList({ send, goTo, point, deleted, csv }) {
  const mode = element("select", { "aria-label": "Settings listed" }, ...Object.entries(LISTS).map(([value, text]) => element("option", { value }, text)));
  const counted = element("span");
  const columns = [element("th", { scope: "col" }), element("th", { scope: "col" })];
  const rows = element("tbody");
  const region = element("div", { class: "wb-front", tabindex: 0, role: "region", "aria-label": "Pareto front" },
    element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Setting"), ...columns)), rows));
  const [compare, remove, restore, table] = [button("Compare"), button("Delete"), button("Undo delete"), button("CSV")];
  table.title = "The chosen settings as CSV, or all that are shown";
  const name = element("input", { type: "text", placeholder: "Name it", "aria-label": "Name of the chosen setting", maxlength: 80 });
  const plot = element("select", { "aria-label": "Save the plot" }, element("option", { value: "" }, "Save plot"), ...["png", "svg", "pdf"].map((value) => element("option", { value }, value.toUpperCase())));
  const root = element("div", { class: "wb-best" }, element("div", { class: "wb-best-head" }, mode, counted), region,
    element("div", { class: "wb-acts" }, compare, name, remove, restore, table, plot));
  const picked = new Set();
  const kept = new Map();
  let state = null;

  function rowOf(place) {
    const link = element("button", { type: "button", class: "wb-link" });
    const box = element("input", { type: "checkbox" });
    const star = element("button", { type: "button", class: "wb-star", "aria-pressed": "false" }, "★");
    const cells = [element("td"), element("td")];
    const label = element("span", {}, box, star, link);
    const row = { link, box, star, cells, label, root: element("tr", {}, element("th", { scope: "row" }, label), ...cells) };
    const here = () => state.points[place];
    link.addEventListener("click", () => goTo(here()));
    box.addEventListener("change", () => { if (box.checked) picked.add(place); else picked.delete(place); act(); });
    star.addEventListener("click", () => send({ do: "star", places: [place], starred: star.getAttribute("aria-pressed") !== "true" }));
    row.root.addEventListener("pointerenter", () => point(here()));
    link.addEventListener("focus", () => point(here()));
    row.root.addEventListener("pointerleave", () => point(null));
    return row;
  }
  function listed() {
    const { shown, front } = state;
    if (mode.value === "tree") return provenance(shown);
    if (mode.value === "front") return [...front].reverse().map((p) => [p, 0]);
    const latest = [...shown].sort((a, b) => (b.minutes || 0) - (a.minutes || 0) || b.place - a.place);
    return latest.slice(0, LISTED).map((p) => [p, 0]);
  }
  function draw() {
    if (!state) return;
    const { shown, front, x, y } = state;
    const here = new Set(shown.map((p) => p.place));
    for (const place of picked) if (!here.has(place)) picked.delete(place);
    [y, x].forEach((which, index) => setText(columns[index], which.title));
    const wanted = listed();
    const roots = wanted.map(([p, depth]) => {
      if (!kept.has(p.place)) kept.set(p.place, rowOf(p.place));
      const row = kept.get(p.place);
      setText(row.link, depth ? stepFrom(state.points[p.parent], p) : p.words);
      row.link.title = p.name ? `${p.name}: ${p.recipe}` : p.words;
      row.label.style.setProperty("--wb-depth", depth);
      row.box.checked = picked.has(p.place);
      row.box.setAttribute("aria-label", `Choose ${p.words}`);
      row.star.setAttribute("aria-pressed", String(Boolean(p.starred)));
      row.star.setAttribute("aria-label", `Star ${p.words}`);
      row.star.disabled = !p.kept;
      setText(row.cells[0], y.show(y.value(p), p));
      setText(row.cells[1], x.show(x.value(p), p));
      return row.root;
    });
    const had = root.contains(document.activeElement) ? document.activeElement : null;
    if (roots.length !== rows.children.length || roots.some((one, place) => rows.children[place] !== one)) rows.replaceChildren(...roots);
    if (had && had !== document.activeElement && had.isConnected) had.focus();
    region.setAttribute("aria-label", LISTS[mode.value]);
    setText(counted, !shown.length ? "No settings yet" : mode.value === "front" ? `${count(front.length)} of ${count(shown.length)}` : roots.length < shown.length ? `${count(roots.length)} of ${count(shown.length)}: filter to see others` : count(shown.length));
    act();
  }
  function act() {
    const one = picked.size === 1 ? state.points[[...picked][0]] : null;
    compare.disabled = picked.size < 2;
    setText(compare, picked.size > 1 ? `Compare ${picked.size}` : "Compare");
    remove.disabled = !picked.size;
    name.disabled = !one?.kept;
    if (document.activeElement !== name) name.value = one?.name ?? "";
  }
  mode.addEventListener("change", draw);
  compare.addEventListener("click", () => send({ do: "compare", places: [...picked] }));
  remove.addEventListener("click", () => send({ do: "delete", places: [...picked] }));
  restore.addEventListener("click", () => send({ do: "restore" }));
  table.addEventListener("click", () => send({ do: "csv", places: csv() }));
  onChosen(plot, (format) => send({ do: "plot", format }));
  name.addEventListener("change", () => { if (picked.size === 1) send({ do: "name", places: [...picked], name: name.value }); });
  return {
    root,
    show(next) { state = next; draw(); },
    chosen: () => [...picked],
    undo() { restore.hidden = !deleted().length; setText(restore, `Undo delete (${count(deleted().length)})`); },
  };
}
