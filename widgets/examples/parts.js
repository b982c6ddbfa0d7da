// A flipped image as a card, and two models' best answers side by side.

const KINDS = {
  lost: { glyph: "✕", text: "lost", title: "lost: only the dense model is right" },
  won: { glyph: "✓", text: "won back", title: "won back: only the compressed model is right" },
  other: { glyph: "≠", text: "both wrong", title: "wrong both times: the answer changed, and neither is right" },
  bare: { glyph: "≠", text: "changed", title: "the answer changed; which is right is not known, for want of a label" },
};
const COLUMNS = 7;

function flipsOf(model) {
  const values = typed(model.get("flips"), Float32Array);
  const flips = [];
  for (let at = 0; at < values.length; at += COLUMNS) {
    const [image, label, before, sureBefore, after, sureAfter, isNew] = values.subarray(at, at + COLUMNS);
    const kind = label < 0 ? "bare" : before === label ? "lost" : after === label ? "won" : "other";
    flips.push({ image, label, before, sureBefore, after, sureAfter, isNew: Boolean(isNew), kind });
  }
  return flips;
}

function flipCard(tag) {
  const picture = element("canvas", { width: 1, height: 1, "aria-hidden": "true" });
  const glyph = element("i", { "aria-hidden": "true" });
  const truth = element("b");
  const kind = element("span", { class: "wb-kind-text" });
  const fresh = element("span", { class: "wb-new" }, "new");
  const before = element("span", { class: "wb-answer" });
  const after = element("span", { class: "wb-answer" });
  const root = element(tag, tag === "button" ? { type: "button", class: "wb-flip" } : { class: "wb-flip" }, picture,
    element("span", { class: "wb-flip-text" }, element("span", { class: "wb-flip-head" }, glyph, truth, " ", kind), " ", before, " ", after), " ", fresh);
  // Words of all cards come before the pictures: a canvas that is drawn on has the page laid out first.
  function show(flip, classes) {
    const { glyph: sign, text, title } = KINDS[flip.kind];
    root.dataset.kind = flip.kind;
    root.dataset.image = flip.image;
    setText(glyph, sign);
    setText(truth, classes[flip.label] ?? "");
    setText(kind, text);
    fresh.hidden = !flip.isNew;
    setText(before, `${classes[flip.before]} ${percent(flip.sureBefore, 0)}`);
    setText(after, `→ ${classes[flip.after]} ${percent(flip.sureAfter, 0)}`);
    const truly = flip.label < 0 ? "" : `, truly ${classes[flip.label]}`;
    const hint = `Test image ${count(flip.image)}${truly}; ${title}.${flip.isNew ? " It was not flipped under the setting before." : ""}`;
    if (root.title !== hint) root.title = hint;
  }
  return { root, show, picture: (flip, pool) => drawPicture(picture, pool, flip.image) };
}

// What is told of all flips, beside the pictures of some.
function summaryOf(about, told) {
  if (!about.recipe) return "Measuring the dense model.";
  const { n, total, changed, counts, settled } = about;
  if (counts) {
    const all = counts[0] + counts[1] + counts[2];
    if (all && about.labelled === false) return `${count(all)} of ${count(total)} answers changed; which are right is not known, for want of labels.`;
    return all ? `${count(all)} of ${count(total)} answers changed: ${count(counts[0])} lost, ${count(counts[1])} won back, ${count(counts[2])} wrong both times.` : `No answer of ${count(total)} changed.`;
  }
  if (settled) return told ? `${percent(changed ?? 0)} of ${count(total)} answers changed.` : `No answer of ${count(total)} changed.`;
  return changed == null ? "Running the first images." : `About ${percent(changed)} of the answers change, by ${count(n)} of ${count(total)} images.`;
}

// Both models' best answers with bars; `truth` is the label where there is one.
function answerPair() {
  const side = (title, name) => {
    const rows = [0, 1, 2].map(() => {
      const label = element("span", { class: "wb-label" });
      const share = element("span", { class: "wb-share" });
      const bar = element("i", { "aria-hidden": "true" });
      return { label, share, bar, root: element("li", {}, label, " ", share, element("span", { class: "wb-bar", "aria-hidden": "true" }, bar)) };
    });
    const list = element("ol", { "aria-label": `Best answers, ${title.toLowerCase()}` }, ...rows.map((row) => row.root));
    return { rows, list, root: element("div", { class: `wb-side wb-side-${name}` }, element("h4", {}, title), list) };
  };
  const sides = { dense: side("Dense", "dense"), compressed: side("Compressed", "compressed") };
  const verdict = element("p", { class: "wb-verdict wb-muted" });
  const root = element("div", { class: "wb-pair" }, sides.dense.root, sides.compressed.root, verdict);
  function show(answers, classes, truth) {
    for (const [name, { rows }] of Object.entries(sides)) {
      const found = answers[name] ?? [];
      rows.forEach((row, place) => {
        const [index, share] = found[place] ?? [];
        const known = share != null;
        setText(row.label, known ? `${classes[index]}${truth === index ? " ✓" : ""}` : "–");
        setText(row.share, known ? percent(share, share > 0.995 || share < 0.005 ? 1 : 0) : "");
        row.bar.style.width = known ? `${Math.max(share * 100, 0.5)}%` : "0";
        row.root.classList.toggle("wb-true", known && truth === index);
      });
    }
    const [dense, compressed] = [answers.dense?.[0]?.[0], answers.compressed?.[0]?.[0]];
    setText(verdict, dense == null ? "" : `${dense === compressed ? "Same answer" : "Another answer"} under ${answers.recipe}.`);
  }
  return { root, show };
}
