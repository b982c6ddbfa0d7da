// Images whose answer changed. As a strip: one slim row. In full: a grid with filters, each image at a closer
// look, and an image of one's own.

const TRAITS = ["flips", "about", "classes", "pool"];

function renderStrip(model, el) {
  const title = element("h2", {}, "Just flipped");
  const summary = element("p", { class: "wb-muted" });
  const row = element("div", { class: "wb-strip-row", role: "list", "aria-label": "Test images whose answer changed" });
  el.replaceChildren(element("div", { class: "wb-strip wb-card" }, element("div", { class: "wb-strip-head" }, title, summary), row));
  const cards = [];
  let told = 0;
  // Only what scrolls (on a phone) needs a stop of the tab key.
  const stop = () => { row.tabIndex = row.scrollWidth > row.clientWidth + 1 ? 0 : -1; };

  function draw() {
    const flips = flipsOf(model);
    const [classes, pool] = [model.get("classes"), model.get("pool")];
    while (cards.length < flips.length) {
      const card = flipCard("div");
      card.root.setAttribute("role", "listitem");
      cards.push(card);
      row.append(card.root);
    }
    cards.forEach((card, place) => {
      card.root.hidden = place >= flips.length;
      if (flips[place]) card.show(flips[place], classes);
    });
    cards.forEach((card, place) => { if (flips[place]) card.picture(flips[place], pool); });
    if (told !== flips.length) { told = flips.length; stop(); }
    setText(summary, summaryOf(model.get("about"), flips.length));
    wantPictures(model, flips.map((flip) => flip.image));
  }
  const sizes = new ResizeObserver(stop);
  sizes.observe(row);
  return { draw, names: TRAITS, end: () => sizes.disconnect() };
}

function renderWhole(model, el) {
  const id = uniqueId("examples");
  const select = (name, label) => {
    const node = element("select", { id: `${id}-${name}` });
    return { node, root: element("span", { class: "wb-choice" }, element("label", { for: node.id }, label), node) };
  };
  const kind = select("kind", "Show");
  kind.node.append(element("option", { value: "" }, "all"), ...Object.entries({ lost: "lost", won: "won back", other: "wrong both times" }).map(([value, text]) => element("option", { value }, text)));
  const label = select("class", "Truly");
  const order = select("order", "Order");
  order.node.append(element("option", { value: "" }, "as they came"), element("option", { value: "sure" }, "surest first"));
  order.root.title = "Surest first: by both models' confidence in the answers that differ.";
  const summary = element("p", { class: "wb-muted wb-summary" });
  const grid = element("div", { class: "wb-flips", tabindex: -1 });
  const none = element("p", { class: "wb-muted wb-none" });
  const closer = closerLook(model, { closed: () => closeDetail(), step: (by) => step(by) });
  const scroller = element("div", { class: "wb-scroll" }, none, grid);
  const list = element("div", { class: "wb-list" }, scroller, closer.root);
  const own = ownImage(model);
  el.replaceChildren(element("div", { class: "wb-examples wb-card" },
    element("div", { class: "wb-seen-images" },
      element("div", { class: "wb-head" }, element("h2", {}, "Changed answers"), kind.root, label.root, order.root), summary, list),
    own.root));

  const cards = new Map();
  let flips = [], shown = [], labels = null, pool = model.get("pool");

  function cardOf(image) {
    if (!cards.has(image)) {
      const card = flipCard("button");
      card.root.addEventListener("click", () => openDetail(image));
      cards.set(image, card);
    }
    return cards.get(image);
  }
  function draw() {
    const classes = model.get("classes");
    const about = model.get("about");
    if (model.get("pool") !== pool) { pool = model.get("pool"); cards.clear(); closer.close(); scroller.style.visibility = ""; own.restart(); }
    flips = flipsOf(model);
    const present = [...new Set(flips.map((flip) => flip.label))].sort((a, b) => a - b);
    const wanted = label.node.value;
    if (labels !== present.join()) {
      labels = present.join();
      label.node.replaceChildren(element("option", { value: "" }, "any class"), ...present.map((index) => element("option", { value: index }, classes[index] ?? "no label")));
      label.node.value = present.includes(Number(wanted)) && wanted ? wanted : "";
    }
    shown = flips.filter((flip) => (!kind.node.value || flip.kind === kind.node.value) && (!label.node.value || flip.label === Number(label.node.value)));
    if (order.node.value) shown.sort((a, b) => b.sureBefore + b.sureAfter - a.sureBefore - a.sureAfter || a.image - b.image);
    const focused = el.contains(document.activeElement) ? document.activeElement : null;
    const roots = shown.map((flip) => { const card = cardOf(flip.image); card.show(flip, classes); return card.root; });
    for (const flip of shown) cardOf(flip.image).picture(flip, pool);
    if (roots.length !== grid.children.length || roots.some((root, place) => grid.children[place] !== root)) grid.replaceChildren(...roots);
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus();
    const all = about.counts ? about.counts.reduce((a, b) => a + b) : 0;
    const some = flips.length && all > flips.length ? ` Here are ${count(flips.length)}.` : "";
    setText(summary, summaryOf(about, flips.length) + some);
    setText(none, shown.length ? "" : flips.length ? "None of these is of that kind." : about.settled ? "Both models give every image the same answer." : "");
    wantPictures(model, shown.map((flip) => flip.image));
  }
  let opened = null;
  function openDetail(image) {
    opened = image;
    model.send({ do: "look", image });
    closer.open(image);
    scroller.style.visibility = "hidden"; // keeps its place, and nothing under the image takes a click or the focus
  }
  function closeDetail() {
    scroller.style.visibility = "";
    model.send({ do: "look", image: null });
    const card = cards.get(opened);
    if (card?.root.isConnected) card.root.focus(); else grid.focus();
    opened = null;
  }
  const step = (by) => {
    const place = shown.findIndex((flip) => flip.image === opened);
    const next = shown[place + by];
    if (place >= 0 && next) openDetail(next.image);
  };
  kind.node.addEventListener("change", draw);
  label.node.addEventListener("change", draw);
  order.node.addEventListener("change", draw);
  const events = ["own", "own_serial", "invert", "problem", "classes", "shape"];
  const other = onTraits(model, events, own.show);
  const details = onTraits(model, ["detail", "detail_pixels"], closer.show);
  own.show();
  return { draw, names: TRAITS, end: () => { other.end(); details.end(); own.end(); } };
}

// One image enlarged, over the grid, with both models' best answers.
function closerLook(model, { closed, step }) {
  const picture = element("canvas", { class: "wb-enlarged", role: "img" });
  const heading = element("h3");
  const back = button("Back to all");
  const [previous, next] = [button("‹", { "aria-label": "Previous image" }), button("›", { "aria-label": "Next image" })];
  const answers = answerPair();
  const root = element("div", { class: "wb-closer", role: "group", "aria-label": "One image", tabindex: -1 },
    element("div", { class: "wb-head" }, back, previous, next, heading), element("div", { class: "wb-closer-body" }, picture, answers.root));
  root.hidden = true;
  let wanted = null;
  function show() {
    const detail = model.get("detail");
    if (root.hidden || detail.image !== wanted) return;
    const name = model.get("classes")[detail.label] ?? "no label";
    setText(heading, `Test image ${count(detail.image)}, ${detail.label < 0 ? name : `truly ${name}`}`);
    picture.setAttribute("aria-label", `Test image ${count(detail.image)}: ${name}`);
    drawPixels(picture, model.get("detail_pixels"), detail.size);
    answers.show(detail, model.get("classes"), detail.label);
  }
  function close() { if (!root.hidden) { root.hidden = true; wanted = null; } }
  const leave = () => { close(); closed(); };
  back.addEventListener("click", leave);
  previous.addEventListener("click", () => step(-1));
  next.addEventListener("click", () => step(1));
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); leave(); }
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else return;
    event.preventDefault();
  });
  return {
    root, show, close,
    open(image) { const fresh = root.hidden; wanted = image; root.hidden = false; show(); if (fresh) back.focus(); },
  };
}

function render({ model, el }) {
  el.classList.add("wb");
  const view = (model.get("strip") ? renderStrip : renderWhole)(model, el);
  const update = onTraits(model, view.names, view.draw, { frame: true });
  const arrived = (content, buffers) => { if (content.do === "images") keepPictures(content, buffers); };
  model.on("msg:custom", arrived);
  PICTURES.told.add(view.draw);
  const unseen = reportVisibility(model, el);
  view.draw();
  return () => {
    update.end();
    model.off("msg:custom", arrived);
    PICTURES.told.delete(view.draw);
    unseen();
    view.end();
  };
}

export default { render };
