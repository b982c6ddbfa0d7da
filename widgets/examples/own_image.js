// An image of one's own: drawn with mouse, pen or finger, chosen, dropped or pasted. What is drawn is
// averaged down to the model's input here; files go to the kernel piece by piece, which reads them.

const PIECE = 1 << 20;
const MOST_BYTES = 20e6;
const PAD_PIXELS = 224;
const WHILE_DRAWING_MS = 140;

function ownImage(model) {
  const pad = element("canvas", { class: "wb-pad", role: "img", "aria-label": "Drawing pad; to use a file instead, choose Upload." });
  const seen = element("canvas", { class: "wb-seen", role: "img", "aria-label": "The image as the model sees it" });
  const seenText = element("span", { class: "wb-muted" });
  const hint = element("span", { class: "wb-pad-hint", "aria-hidden": "true" }, "Draw here, or drop or paste an image.");
  const clear = button("Clear");
  const file = element("input", { type: "file", accept: "image/*", class: "wb-hidden", "aria-label": "Upload an image" });
  const upload = element("label", { class: "wb-button wb-upload" }, "Upload", file);
  const invert = element("input", { type: "checkbox" });
  const answers = answerPair();
  const state = element("p", { class: "wb-hidden", "aria-live": "polite" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const root = element("section", { class: "wb-own", "aria-label": "An image of your own" },
    element("h3", {}, "An image of your own"), problem,
    element("div", { class: "wb-desk" }, element("div", { class: "wb-pad-box" }, pad, hint),
      element("div", { class: "wb-tools" }, seen, seenText, upload, clear,
        element("label", { class: "wb-tick", title: "Swap black and white, for a dark thing on a light ground." }, invert, " Invert"))),
    answers.root, state);

  let size = [0, 0, 0], zoom = 1, drawing = false, last = null, sent = 0, timer = 0, serial = model.get("own_serial"), local = "", used = false;
  const brush = pad.getContext("2d", { willReadFrequently: true });

  function fit() {
    const [channels, height, width] = model.get("shape").length === 3 ? model.get("shape") : [1, 28, 28];
    if (size.join() === [channels, height, width].join()) return;
    size = [channels, height, width];
    zoom = Math.max(1, Math.round(PAD_PIXELS / Math.max(height, width)));
    pad.width = width * zoom;
    pad.height = height * zoom;
    pad.style.aspectRatio = `${width} / ${height}`;
    wipe();
    setText(seenText, `as the model sees it, ${width}×${height}`);
  }
  function wipe() {
    brush.globalCompositeOperation = "source-over";
    brush.fillStyle = "#000";
    brush.fillRect(0, 0, pad.width, pad.height);
    used = false;
    hint.hidden = false;
    see();
  }
  // The mean of each zoom × zoom square: what the model gets.
  function averaged() {
    const [channels, height, width] = size;
    const kept = channels === 3 ? 3 : 1;
    const { data } = brush.getImageData(0, 0, pad.width, pad.height);
    const values = new Uint8Array(height * width * kept);
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1) {
        for (let channel = 0; channel < kept; channel += 1) {
          let sum = 0;
          for (let y = 0; y < zoom; y += 1) {
            for (let x = 0; x < zoom; x += 1) sum += data[4 * ((row * zoom + y) * pad.width + column * zoom + x) + channel];
          }
          values[(row * width + column) * kept + channel] = Math.round(sum / (zoom * zoom));
        }
      }
    }
    return values;
  }
  function see(values = averaged()) {
    const [channels, height, width] = size;
    drawPixels(seen, new DataView(values.buffer), [height, width, channels === 3 ? 3 : 1]);
  }
  function send() {
    clearTimeout(timer);
    timer = 0;
    sent = performance.now();
    const values = averaged();
    see(values);
    model.send({ do: "draw" }, undefined, [values.buffer]);
  }
  const small = () => size[0] * size[1] * size[2] <= 4096;
  function sendSoon() {
    if (timer || !small()) return;
    timer = setTimeout(send, Math.max(0, sent + WHILE_DRAWING_MS - performance.now()));
  }

  const at = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * pad.width, ((event.clientY - box.top) / box.height) * pad.height];
  };
  function stroke(to) {
    brush.strokeStyle = "#fff";
    brush.lineCap = brush.lineJoin = "round";
    brush.lineWidth = Math.max(2, Math.max(pad.width, pad.height) / 13);
    brush.beginPath();
    brush.moveTo(...(last ?? to));
    brush.lineTo(to[0] + (last ? 0 : 0.01), to[1]); // a line of no length would leave no dot
    brush.stroke();
    last = to;
    used = true;
    hint.hidden = true;
  }
  pad.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    drawing = true;
    pad.setPointerCapture(event.pointerId);
    last = null;
    stroke(at(event));
    sendSoon();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) stroke(at(step));
    stroke(at(event));
    sendSoon();
  });
  const lift = () => { if (drawing) { drawing = false; last = null; send(); } };
  pad.addEventListener("pointerup", lift);
  pad.addEventListener("pointercancel", lift);
  clear.addEventListener("click", () => { wipe(); say(""); send(); });
  invert.addEventListener("change", () => { model.set("invert", invert.checked); model.save_changes(); show(); });

  function say(text) { local = text; show(); }
  async function take(chosen) {
    if (!chosen) return;
    if (!chosen.size) { say(`'${chosen.name}' is empty.`); return; }
    if (chosen.size > MOST_BYTES) { say(`'${chosen.name}' has ${number(chosen.size / 1e6, 0)} MB; an image may have ${MOST_BYTES / 1e6} MB.`); return; }
    say("");
    try {
      for (let start = 0; start < chosen.size; start += PIECE) {
        const piece = await chosen.slice(start, start + PIECE).arrayBuffer();
        model.send({ do: "upload", name: chosen.name || "pasted image", size: chosen.size, at: start }, undefined, [piece]);
      }
    } catch { say(`'${chosen.name}' could not be read; choose it again.`); }
  }
  const imageIn = (transfer) => [...(transfer?.files ?? [])][0];
  file.addEventListener("change", () => { take(file.files[0]); file.value = ""; });
  root.addEventListener("dragover", (event) => { if ([...event.dataTransfer.types].includes("Files")) { event.preventDefault(); root.classList.add("wb-dropping"); } });
  root.addEventListener("dragleave", () => root.classList.remove("wb-dropping"));
  root.addEventListener("drop", (event) => {
    root.classList.remove("wb-dropping");
    const dropped = imageIn(event.dataTransfer);
    if (!dropped) return;
    event.preventDefault();
    take(dropped);
  });
  const paste = (event) => {
    const pasted = imageIn(event.clipboardData);
    const elsewhere = document.activeElement && document.activeElement !== document.body && !root.contains(document.activeElement);
    if (!pasted || elsewhere || !root.getClientRects().length) return;
    event.preventDefault();
    take(pasted);
  };
  document.addEventListener("paste", paste);

  function show() {
    fit();
    const own = model.get("own");
    if (model.get("own_serial") !== serial) {
      serial = model.get("own_serial");
      const [channels, height, width] = size;
      const plain = element("canvas");
      if (drawPixels(plain, model.get("own_pixels"), [height, width, channels === 3 ? 3 : 1])) {
        brush.imageSmoothingEnabled = false;
        brush.drawImage(plain, 0, 0, pad.width, pad.height);
        used = true;
        hint.hidden = true;
        see();
      }
    }
    invert.checked = model.get("invert");
    root.classList.toggle("wb-inverted", model.get("invert"));
    setText(problem, local || model.get("problem"));
    answers.show(own, model.get("classes"));
    if (!drawing) setText(state, own.dense ? `Dense ${model.get("classes")[own.dense[0][0]]}, compressed ${model.get("classes")[own.compressed[0][0]]}` : "");
  }
  function restart() { size = [0, 0, 0]; local = ""; show(); }
  return { root, show, restart, end: () => { clearTimeout(timer); document.removeEventListener("paste", paste); } };
}
