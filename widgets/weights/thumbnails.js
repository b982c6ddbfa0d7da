// All layers small, as a list box of many columns: two outlines each, drawn as SVG so that the theme's colours
// apply by themselves. Only those in sight are drawn.

const SVG = "http://www.w3.org/2000/svg";
const vector = (name, attributes) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

// Returns the path of a row of bars, `heights` between 0 and 1, in a box of `heights.length` × 1.
function outline(heights) {
  let path = "M0 1";
  for (let index = 0; index < heights.length; index += 1) path += `V${(1 - heights[index]).toFixed(3)}H${index + 1}`;
  return `${path}V1Z`;
}

function thumbnails(choose) {
  const list = element("div", { class: "wb-thumbs", role: "listbox", "aria-label": "All layers", tabindex: "-1" });
  let items = [];
  let shown = null;
  let chosen = null;
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.item.inSight = isIntersecting;
      if (isIntersecting) draw(target.item);
    }
  }, { root: list, rootMargin: "60px" });

  function build(layers) {
    seen.disconnect();
    chosen = null;
    items = layers.map(({ name, type, params }, place) => {
      const before = vector("path", { class: "wb-thumb-before" });
      const after = vector("path", { class: "wb-thumb-after" });
      const cut = vector("path", { class: "wb-thumb-threshold" });
      const picture = vector("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
      picture.append(before, after, cut);
      const fact = element("small");
      const node = element("div", { role: "option", class: "wb-thumb", tabindex: "-1", title: `${name} · ${type} · ${plural(params, "weight")}` },
        picture, element("span", {}, name), fact);
      const item = { name, place, node, picture, before, after, cut, fact, inSight: false, drawn: null };
      node.item = item;
      node.addEventListener("click", () => choose(name));
      return item;
    });
    list.replaceChildren(...items.map(({ node }) => node));
    for (const { node } of items) seen.observe(node);
  }

  function draw(item) {
    if (!shown || !item.inSight || item.drawn === shown) return;
    item.drawn = shown;
    const { before, after, facts, ceilings, log } = shown;
    const bins = before.length / items.length;
    const total = items.length;
    const depth = Math.log1p(ceilings[item.place]);
    // The levels are logarithmic; counts come back from them for the linear scale.
    const height = (level) => (log ? level / 255 : Math.expm1((level / 255) * depth) / Math.expm1(depth));
    const heights = (levels) => Array.from(levels.subarray(item.place * bins, (item.place + 1) * bins), height);
    item.picture.setAttribute("viewBox", `0 0 ${bins} 1`);
    item.before.setAttribute("d", outline(heights(before)));
    item.after.setAttribute("d", outline(heights(after)));
    const threshold = facts[2 * total + item.place];
    const reach = (threshold / 1e4) * (bins / 2);
    item.cut.setAttribute("d", threshold ? `M${bins / 2 - reach} 0V1M${bins / 2 + reach} 0V1` : "");
  }

  function select(name) {
    for (const item of items) {
      const on = item.name === name;
      item.node.setAttribute("aria-selected", String(on));
      item.node.tabIndex = on ? 0 : -1;
      if (on && chosen !== item) bringIntoSight((chosen = item).node);
    }
    if (items.length && !items.some((item) => item.name === name)) items[0].node.tabIndex = 0;
  }
  // By hand: scrollIntoView would scroll the page too.
  function bringIntoSight(node) {
    if (!list.clientHeight) return;
    const [top, bottom] = [node.offsetTop, node.offsetTop + node.offsetHeight];
    if (top < list.scrollTop) list.scrollTop = top - 4;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight + 4;
  }

  list.addEventListener("keydown", (event) => {
    const at = items.findIndex(({ node }) => node === document.activeElement);
    const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: items.length - 1 }[event.key];
    if (at < 0 || to == null) return;
    event.preventDefault();
    const next = items[Math.max(0, Math.min(items.length - 1, to))];
    next.node.focus({ preventScroll: true });
    bringIntoSight(next.node);
    choose(next.name);
  });

  function show(data) {
    shown = data.before.length && data.after.length === data.before.length ? data : null;
    for (const item of items) {
      if (shown) setText(item.fact, `${Math.round(shown.facts[item.place] / 100)} % · ${shown.facts[items.length + item.place]} bit`);
      draw(item);
    }
  }
  const sizes = new ResizeObserver(() => { if (chosen) bringIntoSight(chosen.node); });
  sizes.observe(list);
  return { list, build, show, select, end: () => { seen.disconnect(); sizes.disconnect(); } };
}
