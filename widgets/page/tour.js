// The line that says what to try, and the tour: a small dialog that walks from part to part. It covers
// nothing but a corner, never traps the keyboard, and Escape or "Skip" ends it.

const STOPS = [
  [".wb-area-head", "A model and data", "ResNet-20, trained on Fashion-MNIST, is open already. Choose another model here, or open your own file or a folder of images. Undo and Redo walk through what you tried."],
  [".wb-scoreboard", "Three honest figures", "Accuracy is measured, first on 64 images and then on more, until all 10,000 are run; the bar is its 95 % interval. Size is that of the file you can download, to the byte. Latency is predicted for this machine, with the reason when nothing is gained."],
  [".wb-controls", "Two sliders", "Pruning removes the smallest weights or whole channels, Bit-width stores the rest in fewer bits. The figures follow while you drag. The chips above start you from a common setting."],
  [".wb-area-weights", "What happens to the weights", "Grey is before, blue is after. The dashed lines are the pruning threshold, the ticks below are the only values left to a quantized weight."],
  ["layers", "Layer by layer", "Every layer with its share of size and time. Give a layer its own ratio or bits, lock it, or select several at once. What you select here is shown everywhere."],
  ["sensitivity", "Which layer can take it", "A sweep compresses one layer at a time and shows what it costs. Click a cell to give that layer that setting."],
  ["tradeoff", "What you have tried", "Every setting you measured, and the front of the best. Click a point to go back to it."],
  [".wb-area-strip", "What changed in behaviour", "Test images that the compressed model answers otherwise. Under Examples you can draw one of your own."],
  ["deploy", "Take it with you", "Download the packed file or ONNX, as large as promised. The page's address holds the recipe: send it to someone."],
];

function render({ model, el }) {
  el.classList.add("wb");
  const put = "workbench-hint";
  const stored = (value) => { try { return value === undefined ? localStorage.getItem(put) : localStorage.setItem(put, value); } catch { return null; } };
  const text = element("span", { class: "wb-hint-text" });
  const start = button("Two-minute tour");
  const close = element("button", { type: "button", class: "wb-hint-close", "aria-label": "Hide the hint" }, "×");
  const line = element("div", { class: "wb-hint", role: "note", "aria-label": "What to try" }, element("span", { class: "wb-hint-mark", "aria-hidden": "true" }, "Try this"), text, start, close);
  el.replaceChildren(line);
  const showLine = () => { el.classList.toggle("wb-hint-away", stored() === "away"); };
  close.addEventListener("click", () => { stored("away"); showLine(); });
  showLine();

  const page = () => el.closest(".wb-page") || document;
  const title = element("h2", { id: uniqueId("tour") });
  const said = element("p", { id: uniqueId("tour-text") });
  const counter = element("span", { class: "wb-muted" });
  const back = button("Back");
  const next = button("Next", { class: "wb-button wb-primary" });
  const skip = button("Skip");
  const dialog = element("div", { class: "wb wb-tour wb-card", role: "dialog", "aria-labelledby": title.id, "aria-describedby": said.id, tabindex: -1 },
    title, said, element("div", { class: "wb-tour-foot" }, counter, skip, back, next));
  const ring = element("div", { class: "wb wb-tour-ring", "aria-hidden": "true" });
  let at = -1;
  let returnTo = null;

  function targetOf(place) {
    if (place.startsWith(".")) return page().querySelector(place);
    const tab = page().querySelector(`[role=tab][data-name="${place}"]`);
    if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
    return page().querySelector(`.wb-panel-${place}`) || tab;
  }
  function position() {
    const target = at >= 0 && targetOf(STOPS[at][0]);
    if (!target) return;
    const box = target.getBoundingClientRect();
    Object.assign(ring.style, { left: `${box.left - 4}px`, top: `${box.top - 4}px`, width: `${box.width + 8}px`, height: `${box.height + 8}px` });
    if (window.innerWidth < 700) { Object.assign(dialog.style, { left: "8px", right: "8px", bottom: "8px", top: "auto" }); return; }
    const { offsetWidth: width, offsetHeight: height } = dialog;
    const right = box.right + 14 + width < window.innerWidth;
    const left = right ? box.right + 14 : Math.max(12, Math.min(box.left + 16, window.innerWidth - width - 12));
    const below = right ? box.top : box.bottom + 14 + height < window.innerHeight ? box.bottom + 14 : Math.max(12, box.top + 14);
    Object.assign(dialog.style, { left: `${left}px`, top: `${Math.max(12, Math.min(below, window.innerHeight - height - 12))}px`, right: "auto", bottom: "auto" });
  }
  function go(to) {
    if (to >= STOPS.length) { end(); return; }
    at = to;
    const [place, heading, words] = STOPS[at];
    title.textContent = heading;
    said.textContent = words;
    counter.textContent = `${at + 1} of ${STOPS.length}`;
    back.disabled = at === 0;
    next.textContent = at === STOPS.length - 1 ? "Done" : "Next";
    targetOf(place)?.scrollIntoView({ block: "nearest", behavior: "auto" });
    requestAnimationFrame(position);
    dialog.focus({ preventScroll: true });
  }
  function begin() {
    returnTo = document.activeElement;
    document.body.append(ring, dialog);
    window.addEventListener("resize", position);
    window.addEventListener("scroll", position, true);
    go(0);
  }
  function end() {
    if (at < 0) return;
    at = -1;
    window.removeEventListener("resize", position);
    window.removeEventListener("scroll", position, true);
    ring.remove();
    dialog.remove();
    page().querySelector('[role=tab][data-name="layers"]')?.click();
    returnTo?.focus?.({ preventScroll: true });
  }
  start.addEventListener("click", begin);
  back.addEventListener("click", () => go(at - 1));
  next.addEventListener("click", () => go(at + 1));
  skip.addEventListener("click", end);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); end(); }
    if (event.key === "ArrowRight") go(at + 1);
    if (event.key === "ArrowLeft" && at > 0) go(at - 1);
  });

  const drawn = onTraits(model, ["hint"], () => setText(text, model.get("hint")));
  setText(text, model.get("hint"));
  const again = (event) => { if (event.key === "F1" && page().contains(event.target)) { event.preventDefault(); begin(); } };
  document.addEventListener("keydown", again);
  return () => { drawn.end(); end(); document.removeEventListener("keydown", again); };
}

export default { render };
