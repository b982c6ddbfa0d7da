// What the views share: building elements, numbers as text, drawing once a frame. Prepended to each view's
// own module. Names from outside go into the page as text, never as HTML.

const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
// What does not change is not set: the page would be laid out anew for it. What does is written into the text that is
// there: another one in its place would be a change of the page's tree, for which styles are looked up again.
function setText(node, text) {
  const only = node.firstChild;
  if (only?.nodeType === Node.TEXT_NODE && !only.nextSibling && text) {
    if (only.data !== text) only.data = text;
  } else if (node.textContent !== text) node.textContent = text;
}
const setValue = (control, value) => { if (control.value !== value) control.value = value; };
const setAttribute = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };
const button = (text, attributes = {}) => element("button", { type: "button", class: "wb-button", ...attributes }, text);

// The keys that undo and redo a recipe. In a field that is typed into they are the field's own.
const TYPED = "textarea, select, [contenteditable=true], .jp-Editor, input:not([type=range], [type=checkbox], [type=radio])";
function undoKeys(model) {
  return (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.closest(TYPED)) return;
    const key = event.key.toLowerCase();
    const what = key === "z" ? (event.shiftKey ? "redo" : "undo") : key === "y" ? "redo" : "";
    if (!what) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ do: what });
  };
}

// A list whose choice does something at once. An arrow key on a closed list changes the choice too: then Enter does it.
const WALKING = ["ArrowDown", "ArrowUp", "Home", "End", "PageDown", "PageUp"];
function onChosen(select, act) {
  let walking = false;
  const take = () => { if (select.value) act(select.value); select.value = ""; };
  select.addEventListener("keydown", (event) => {
    walking = WALKING.includes(event.key) || event.key.length === 1;
    setTimeout(() => { walking = false; }); // its change, if it makes one, comes at once; where it opens the list, later
    if (event.key === "Enter" && select.value) { event.preventDefault(); take(); }
  });
  select.addEventListener("change", () => { if (!walking) take(); });
  select.addEventListener("blur", () => { select.value = ""; });
}

let counted = 0;
const uniqueId = (name) => `wb-${name}-${(counted += 1)}-${Math.random().toString(36).slice(2, 8)}`;

const typed = (view, Kind) => (view && view.byteLength ? new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)) : new Kind(0));

// Formats are kept: making one takes longer than all else that a move writes.
const formats = new Map();
function formatOf(digits) {
  if (!formats.has(digits)) formats.set(digits, new Intl.NumberFormat("en", digits == null ? {} : { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  return formats.get(digits);
}
const number = (value, digits) => formatOf(digits).format(value);
const count = (value) => formatOf().format(value);
const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
const percent = (share, digits = 1) => `${number(share * 100, digits)} %`;
// A sentence of the engine's, which writes 5% as a terminal does, the way that the page does.
const spaced = (text) => (text || "").replace(/(\d)%/g, "$1\u00a0%");
function bytes(size) {
  if (size == null) return "–";
  if (size < 1e3) return `${size} B`;
  const [value, unit] = size < 1e6 ? [size / 1e3, "kB"] : [size / 1e6, "MB"];
  return `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
}
const milliseconds = (ms) => (ms == null ? "–" : `${number(ms, ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`);
function compact(value) {
  if (value < 1e4) return count(value);
  const [scaled, unit] = value < 1e6 ? [value / 1e3, "k"] : value < 1e9 ? [value / 1e6, "M"] : [value / 1e9, "G"];
  return `${number(scaled, scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${unit}`;
}
function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}

const NAMES = {
  lenet300: "LeNet-300-100", lenet5: "LeNet-5", resnet20: "ResNet-20", mobilenetv2: "MobileNetV2",
  shufflenetv2: "ShuffleNetV2", squeezenet: "SqueezeNet", vit: "ViT", lstm: "LSTM",
  fashion_mnist: "Fashion-MNIST", "fashion_mnist:full": "Fashion-MNIST, all of it", digits: "Digits",
  onnxruntime: "ONNX Runtime", torch: "PyTorch",
};
const MADE = { deepinversion: "DeepInversion", impressions: "Class impressions", gan: "GAN", class_gan: "GAN with classes", mixup: "Mixup" };
// A name in words; of a data set whose training images were made, what follows the plus tells from what.
function titleOf(name) {
  const [base, how] = (name || "").split("+");
  return NAMES[name] || (NAMES[base] && MADE[how] ? `${MADE[how]} for ${NAMES[base]}` : name) || "";
}

// Calls `draw` when any of the traits changed: once for those that arrive together, at most once a frame.
// Returns what ends that. A hidden page gets no frames, so there it is a microtask.
function onTraits(model, names, draw, { frame = false } = {}) {
  let queued = 0;
  const run = () => { queued = 0; draw(); };
  const later = () => {
    if (queued) return;
    if (frame && document.visibilityState === "visible") queued = requestAnimationFrame(run);
    else { queued = -1; queueMicrotask(run); }
  };
  const events = names.map((name) => `change:${name}`);
  for (const event of events) model.on(event, later);
  later.end = () => {
    if (queued > 0) cancelAnimationFrame(queued);
    for (const event of events) model.off(event, later);
  };
  return later;
}

// Tells the kernel whether anyone can see the view (a hidden tab cannot be seen): unseen views are not drawn.
function reportVisibility(model, el) {
  const report = () => {
    const visible = el.isConnected && el.getClientRects().length > 0;
    if (model.get("visible") === visible) return;
    model.set("visible", visible);
    model.save_changes();
  };
  const sizes = new ResizeObserver(report);
  sizes.observe(el);
  return () => sizes.disconnect();
}

// Calls `redraw` when the theme or the element's size changes: for what is drawn on a canvas.
function onLooks(el, redraw) {
  const sizes = new ResizeObserver(() => redraw());
  sizes.observe(el);
  const themes = new MutationObserver(() => redraw());
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class", "data-vscode-theme-kind"] });
  return () => { sizes.disconnect(); themes.disconnect(); };
}

// A canvas fitted to its element and the screen's density. Returns its pen and size, or null where it has none.
// Asking for its size lays the page out anew: who hears of every change of it (`onLooks`) gives the one `known`.
function fitCanvas(canvas, known) {
  const { width, height } = known ?? { width: canvas.clientWidth, height: canvas.clientHeight };
  if (!width || !height) return null;
  const scale = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}
const coloursOf = (el) => { const style = getComputedStyle(el); return (name) => style.getPropertyValue(`--wb-${name}`).trim(); };

// A "?" that opens a short explanation beside it, above everything else. Escape or a click elsewhere closes it.
function help(about, text) {
  const id = uniqueId("help");
  const bubble = element("span", { class: "wb-help-text", id, popover: "auto", role: "note" }, text);
  const mark = element("button", { type: "button", class: "wb-help", "aria-label": `Help: ${about}`, popovertarget: id, "aria-describedby": id }, "?");
  bubble.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const at = mark.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = bubble;
    bubble.style.left = `${Math.max(8, Math.min(at.left - 12, window.innerWidth - width - 8))}px`;
    bubble.style.top = `${at.bottom + 6 + height < window.innerHeight ? at.bottom + 6 : Math.max(8, at.top - height - 6)}px`;
  });
  return element("span", { class: "wb-help-box" }, mark, bubble);
}
