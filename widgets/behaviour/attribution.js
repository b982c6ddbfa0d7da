// Which pixels an answer stands on, before and after, on one scale: orange speaks for the class, blue against it.

const FOR = [217, 95, 2];
const AGAINST = [33, 102, 172];

function drawMap(canvas, values, [height, width], scale, dark) {
  const image = new ImageData(width, height);
  const ground = dark ? [24, 28, 34] : [255, 255, 255];
  values.forEach((value, at) => {
    const share = Math.min(1, Math.sqrt(Math.abs(value) / (scale || 1))); // the root: small parts stay visible
    const ink = value > 0 ? FOR : AGAINST;
    for (let channel = 0; channel < 3; channel += 1) image.data[4 * at + channel] = ground[channel] + (ink[channel] - ground[channel]) * share;
    image.data[4 * at + 3] = 255;
  });
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function attributionPart(model) {
  const method = element("select", { id: uniqueId("method") }, ...Object.entries(model.get("methods")).map(([value, text]) => element("option", { value }, text)));
  const target = element("select", { id: uniqueId("target") });
  const strip = element("div", { class: "wb-picks", role: "group", "aria-label": "Images whose answer changed" });
  const names = { pixels: "The image", before: "Before", after: "After" };
  const pictures = Object.fromEntries(Object.entries(names).map(([name, title]) => {
    const canvas = element("canvas", { role: "img", width: 1, height: 1 });
    const caption = element("figcaption");
    return [name, { canvas, caption, root: element("figure", { class: `wb-map wb-map-${name}` }, element("h3", {}, title), canvas, caption) }];
  }));
  const likeness = element("p", { class: "wb-likeness" });
  const pick = (label, node) => element("span", { class: "wb-pick" }, element("label", { for: node.id }, label), node);
  const root = element("div", { class: "wb-part wb-attribution" }, element("div", { class: "wb-part-head" }, pick("Method", method), pick("Asked about", target)), strip,
    element("div", { class: "wb-maps" }, ...Object.values(pictures).map((picture) => picture.root), likeness));
  const set = (name, value) => { model.set(name, value); model.save_changes(); };
  method.addEventListener("change", () => set("method", method.value));
  target.addEventListener("change", () => set("target", Number(target.value)));
  const cards = new Map();
  let found = null;

  function drawPicks() {
    const [picks, pool] = [model.get("picks"), model.get("pool")];
    const chosen = found?.image ?? picks[0];
    const shown = picks.map((image) => {
      if (!cards.has(image)) {
        const canvas = element("canvas", { width: 1, height: 1, "aria-hidden": "true" });
        const card = element("button", { type: "button", class: "wb-thumb", "aria-label": `Test image ${count(image)}` }, canvas);
        card.addEventListener("click", () => set("image", image));
        cards.set(image, { card, canvas });
      }
      const { card, canvas } = cards.get(image);
      card.setAttribute("aria-pressed", String(image === chosen));
      drawPicture(canvas, pool, image);
      return card;
    });
    // one put in again would lose the focus that it has
    if (shown.length !== strip.children.length || shown.some((card, at) => card !== strip.children[at])) strip.replaceChildren(...shown);
    wantPictures(model, picks);
  }
  function drawMaps() {
    if (!found) return;
    const values = typed(model.get("maps"), Float32Array);
    const size = found.size[0] * found.size[1];
    if (values.length !== 2 * size) return;
    const dark = getComputedStyle(root).colorScheme.includes("dark");
    drawPixels(pictures.pixels.canvas, model.get("pixels"), found.pixels);
    drawMap(pictures.before.canvas, values.subarray(0, size), found.size, found.scale, dark);
    drawMap(pictures.after.canvas, values.subarray(size), found.size, found.scale, dark);
  }
  function drawTarget() {
    const classes = model.get("classes");
    if (target.dataset.classes !== classes.join()) {
      target.dataset.classes = classes.join();
      target.replaceChildren(element("option", { value: -1 }, "the true class"), ...classes.map((name, index) => element("option", { value: index }, name)));
    }
    target.value = String(model.get("target"));
  }
  return {
    root,
    show(data) {
      found = data;
      const classes = model.get("classes");
      drawTarget();
      method.value = model.get("method");
      drawPicks();
      drawMaps();
      setText(pictures.pixels.caption, `image ${count(data.image)}, ${data.label < 0 ? "no label" : `truly ${classes[data.label]}`}`);
      setText(pictures.before.caption, `answer: ${classes[data.answers[0]]}`);
      setText(pictures.after.caption, `answer: ${classes[data.answers[1]]}`);
      const about = classes[data.target];
      pictures.before.canvas.setAttribute("aria-label", `Attribution before, about ${about}`);
      pictures.after.canvas.setAttribute("aria-label", `Attribution after, about ${about}`);
      pictures.pixels.canvas.setAttribute("aria-label", `Image ${count(data.image)}: ${classes[data.label] ?? "no label"}`);
      likeness.replaceChildren(element("b", {}, data.similarity == null ? "–" : number(data.similarity, 2)), "is the similarity of both maps (rank correlation: 1 is the same order of pixels, 0 none). On one scale, ", element("span", { class: "wb-for" }, "orange"), ` speaks for ${about}, `, element("span", { class: "wb-against" }, "blue"), " against it.");
    },
    waiting() { drawTarget(); method.value = model.get("method"); drawPicks(); },
    pictures: drawPicks,
    redraw: drawMaps,
  };
}
