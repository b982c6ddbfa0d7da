// The model's layers and their links: left to right by the longest way from the input, links that skip layers as
// arcs. It scrolls and zooms; a click or Enter selects a layer in every view.

const STEP = 30, BOX = 22, LANE = 34, LINE = 16;
const svg = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// Places of one column stand below one another, the one on the longest way first.
function layoutOf({ places, links }) {
  const taken = new Map();
  const spots = places.map(({ column }) => {
    const row = taken.get(column) ?? 0;
    taken.set(column, row + 1);
    return { x: 20 + column * STEP, row };
  });
  const longest = Math.max(1, ...links.map(([from, to]) => places[to].column - places[from].column));
  const head = 16 + Math.min(90, 14 * Math.log2(1 + longest) * 1.6);
  const rows = Math.max(1, ...taken.values());
  spots.forEach((spot, number) => {
    spot.y = head + spot.row * LANE;
    // Names are below all of a column, those of two side by side from the upper one on; of more the first and their number.
    const count = taken.get(places[number].column);
    const name = spot.row === 1 && count > 2 ? `+${count - 1} more` : places[number].label;
    spot.name = spot.row < 2 ? { text: name, x: spot.x + 3 + (count > 1 ? (spot.row - 0.5) * LINE : 0), y: head + (count - 1) * LANE + BOX / 2 + 10 } : null;
  });
  return { spots, width: 40 + Math.max(...spots.map(({ x }) => x)), height: head + rows * LANE + 74 };
}

function modelGraph(onSelect) {
  const drawing = svg("svg", { role: "presentation" });
  const scroller = element("div", { class: "wb-graph-scroll", tabindex: 0, role: "listbox", "aria-label": "Layers of the model", "aria-orientation": "horizontal" }, drawing);
  const [closer, wider, fit] = [button("+", { "aria-label": "Zoom in" }), button("−", { "aria-label": "Zoom out" }), button("Fit")];
  const tools = element("span", { class: "wb-graph-tools" }, wider, closer, fit);
  let size = { width: 1, height: 1 }, zoom = 1, boxes = new Map(), built = null;

  function scale(next) {
    zoom = Math.max(0.25, Math.min(3, next));
    drawing.setAttribute("width", size.width * zoom);
    drawing.setAttribute("height", size.height * zoom);
  }
  // Wide enough to be read; what is then out of sight is scrolled to.
  const whole = () => scale(Math.max(0.85, Math.min(1.6, (scroller.clientWidth - 4) / size.width || 1)));
  closer.addEventListener("click", () => scale(zoom * 1.25));
  wider.addEventListener("click", () => scale(zoom / 1.25));
  fit.addEventListener("click", whole);
  scroller.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls
    event.preventDefault();
    scale(zoom * (event.deltaY < 0 ? 1.1 : 1 / 1.1));
  }, { passive: false });

  // Brings a box in sight within the graph; the page stays where it is.
  function reveal(box) {
    const [inner, outer] = [box.getBoundingClientRect(), scroller.getBoundingClientRect()];
    const by = (low, high, from, to) => (low < from ? low - from : high > to ? high - to : 0);
    scroller.scrollLeft += by(inner.left - STEP, inner.right + STEP, outer.left, outer.right);
    scroller.scrollTop += by(inner.top - BOX, inner.bottom + BOX, outer.top, outer.bottom);
  }
  let selected = null;

  function build(graph, layers) {
    built = graph;
    selected = null;
    boxes = new Map();
    const { spots, width, height } = layoutOf(graph);
    size = { width, height };
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const lines = graph.links.map(([from, to]) => {
      const [a, b] = [spots[from], spots[to]];
      const skips = graph.places[to].column - graph.places[from].column;
      const rise = skips > 1 && a.row === b.row ? 14 * Math.log2(1 + skips) * 1.6 : 0;
      const shape = rise ? `M${a.x} ${a.y - 8} C${a.x + 8} ${a.y - rise} ${b.x - 8} ${b.y - rise} ${b.x} ${b.y - 8}` : `M${a.x} ${a.y} L${b.x} ${b.y}`;
      return svg("path", { d: shape, class: rise ? "wb-skip" : "wb-link-line" });
    });
    const nodes = graph.places.map(({ label, kind }, number) => {
      const { x, y, name } = spots[number];
      if (kind === "join") return svg("g", { class: "wb-join" }, svg("circle", { cx: x, cy: y, r: 8 }), svg("text", { x, y: y + 4, "text-anchor": "middle" }, label));
      if (kind === "input") return svg("g", { class: "wb-join" }, svg("circle", { cx: x, cy: y, r: 5 }));
      const place = layers.indexOf(label);
      const box = svg("g", { class: "wb-node", role: "option", "data-layer": label, "aria-selected": "false" },
        svg("title", {}, label), svg("rect", { x: x - BOX / 2, y: y - BOX / 2, width: BOX, height: BOX, rx: 5 }),
        ...(name ? [svg("text", { x: name.x, y: name.y, transform: `rotate(58 ${name.x} ${name.y})` }, name.text.length > 16 ? `…${name.text.slice(-15)}` : name.text)] : []));
      box.addEventListener("click", () => onSelect(place));
      boxes.set(place, box);
      return box;
    });
    drawing.replaceChildren(...lines, ...nodes);
    requestAnimationFrame(() => { whole(); if (selected) reveal(selected); });
  }
  scroller.addEventListener("keydown", (event) => {
    const order = [...boxes.keys()];
    const at = order.findIndex((place) => boxes.get(place).getAttribute("aria-selected") === "true");
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (to == null || !order.length) return;
    event.preventDefault();
    onSelect(order[Math.max(0, Math.min(order.length - 1, to))]);
  });
  return {
    root: scroller, tools,
    show(graph, layers) { if (graph.places && graph !== built) build(graph, layers); },
    paint(values, text, most) {
      for (const [place, box] of boxes) {
        const value = values[place];
        const known = Number.isFinite(value);
        box.style.setProperty("--wb-share", known ? `${Math.round(100 * Math.min(1, value / (most || 1)))}%` : "0%");
        box.classList.toggle("wb-unknown", !known);
        box.querySelector("title").textContent = `${box.dataset.layer}: ${known ? text(value) : "not known"}`;
      }
    },
    select(places) {
      for (const [place, box] of boxes) box.setAttribute("aria-selected", String(places.includes(place)));
      const last = boxes.get(places[places.length - 1]);
      if (!last) return;
      last.id ||= uniqueId("node");
      scroller.setAttribute("aria-activedescendant", last.id);
      if (last !== selected) reveal(last);
      selected = last;
    },
  };
}
