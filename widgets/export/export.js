// The files of the present recipe, each with its size and a download that shows how far it is.

const TITLES = { packed: "Packed file", onnx: "ONNX", recipe: "Recipe" };
const ticketOf = () => 1 + Math.floor(Math.random() * 2 ** 40);

// Fetches one file from the kernel, piece by piece, and hands it to the browser.
function downloadOf(model, wanted, { progress, done, fail }) {
  const ticket = wanted.ticket;
  const parts = [];
  let [name, total, received] = ["", 0, 0];
  const end = () => model.off("msg:custom", hear);
  function hear(message, buffers) {
    if (message.download !== ticket) return;
    if (message.problem) { end(); fail(message.problem); return; }
    if (message.name) [name, total] = [message.name, message.bytes];
    for (const buffer of buffers ?? []) {
      const bytesOf = buffer instanceof ArrayBuffer ? new Uint8Array(buffer) : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
      parts.push(bytesOf.slice());
      received += bytesOf.length;
      model.send({ do: "answer", ticket, pieces: parts.length });
    }
    progress(received, total);
    if (!message.name && received >= total) { end(); saveFile(name, parts); done(name, received); }
  }
  model.on("msg:custom", hear);
  model.send(wanted);
  return () => { end(); model.send({ do: "cancel", ticket }); };
}

// The button that fetches a file, the one that stops it, and what is said of it meanwhile and after.
function downloadPart(text, label, doing) {
  const start = button(text, { "aria-label": label });
  const bar = element("progress", { max: 1, "aria-label": doing });
  const stop = button("Cancel");
  const said = element("span", { class: "wb-muted", role: "status" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  let cancel = null;
  // The focus goes back to the button only from the one that is hidden: the person may be elsewhere by now.
  function idle(words = "", trouble = "") {
    const had = document.activeElement === stop;
    cancel = null;
    bar.hidden = stop.hidden = true;
    start.hidden = false;
    setText(said, words);
    problem.textContent = trouble;
    if (had) start.focus();
  }
  stop.addEventListener("click", () => { cancel?.(); idle("Cancelled"); });
  idle();
  return {
    start, problem,
    root: element("div", { class: "wb-file-act" }, said, bar, stop, start),
    runs: () => cancel !== null,
    say: (words) => setText(said, words),
    forget: () => idle(),
    // Asks the kernel for what is `wanted`; `ended` is called however it ends.
    run(model, wanted, words = "", ended = () => {}) {
      setText(said, words);
      problem.textContent = "";
      start.hidden = true;
      bar.hidden = stop.hidden = false;
      bar.removeAttribute("value");
      stop.focus();
      const drop = downloadOf(model, wanted, {
        progress: (now, total) => { if (total) bar.value = now / total; },
        done: (_, total) => { ended(); idle(`${count(total)} bytes downloaded`); },
        fail: (sentence) => { ended(); idle("", sentence); },
      });
      cancel = () => { ended(); drop(); };
    },
    end: () => cancel?.(),
  };
}

function fileRow(model, kind) {
  const size = element("strong", { class: "wb-file-size" });
  const note = element("span", { class: "wb-muted" });
  const name = element("code", { class: "wb-file-name" });
  const about = element("p", { class: "wb-muted" });
  const part = downloadPart("Download", `Download the ${kind === "onnx" ? "ONNX file" : TITLES[kind].toLowerCase()}`, `${TITLES[kind]} download`);
  const root = element("section", { class: "wb-file", "data-file": kind, "aria-label": TITLES[kind] },
    element("div", { class: "wb-file-head" }, element("h3", {}, TITLES[kind]), size, note),
    part.root, element("div", { class: "wb-file-body" }, about, name), part.problem);
  part.start.addEventListener("click", () => part.run(model, { do: "download", kind, ticket: ticketOf() }));

  let shown = "";
  function draw(file) {
    root.hidden = !file;
    if (!file) return;
    const known = file.bytes != null;
    root.dataset.bytes = known ? String(file.bytes) : "";
    root.dataset.exact = String(file.exact);
    setText(size, known ? `${file.exact ? "" : "about "}${count(file.bytes)} bytes` : "–");
    setText(note, known && file.bytes >= 1000 ? bytes(file.bytes) : "");
    setText(name, file.name);
    setText(about, file.about);
    part.start.disabled = !known;
    if (shown && shown !== file.name && !part.runs()) part.say("");
    shown = file.name;
  }
  return { root, draw, end: part.end };
}

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("export");
  const rows = Object.keys(TITLES).map((kind) => ({ kind, ...fileRow(model, kind) }));
  const runtime = runtimeRow(model);
  const parts = element("dl", { class: "wb-parts" });
  const table = element("tbody");
  const layers = element("details", {}, element("summary", {}, "How each layer is stored"),
    element("div", { class: "wb-stored", tabindex: 0, role: "region", "aria-label": "How each layer is stored" }, element("table", {}, element("thead", {}, element("tr", {},
      element("th", { scope: "col" }, "Layer"), element("th", { scope: "col" }, "Stored as"), element("th", { scope: "col" }, "Bytes"), element("th", { scope: "col" }, "Bits a parameter"))), table)));
  const problem = element("p", { class: "wb-problem", role: "alert" });

  const kind = element("select", { id: `${id}-kind` }, ...Object.entries(TITLES).map(([value, text]) => element("option", { value }, text)));
  const path = element("input", { type: "text", id: `${id}-path`, spellcheck: "false", autocomplete: "off", placeholder: "models/small.wbz, or a folder" });
  const save = element("button", { type: "submit", class: "wb-button" }, "Save");
  const saved = element("p", { class: "wb-muted", role: "status" });
  const unsaved = element("p", { class: "wb-problem", role: "alert" });
  const form = element("form", { class: "wb-save" },
    element("label", { for: kind.id }, "Save on the kernel's machine"), kind,
    element("label", { for: path.id, class: "wb-hidden" }, "Path to save to"), path, save, saved, unsaved);
  let ticket = 0;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ticket = ticketOf();
    setText(saved, "Saving");
    unsaved.textContent = "";
    model.send({ do: "save", kind: kind.value, path: path.value, ticket });
  });
  const hear = (message) => {
    if (!ticket || message.saved !== ticket) return;
    setText(saved, message.problem ? "" : `${count(message.bytes)} bytes in ${message.path}`);
    unsaved.textContent = message.problem;
  };

  el.replaceChildren(element("div", { class: "wb-exports wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Export"), element("span", { class: "wb-muted" }, "Files of the recipe shown now; the name carries its hash.")),
    problem, ...rows.map(({ root }) => root), runtime.root,
    element("h3", { class: "wb-inside" }, "Inside the packed file"), parts, layers, form));

  function draw() {
    const files = Object.fromEntries(model.get("files").map((file) => [file.kind, file]));
    for (const row of rows) row.draw(files[row.kind]);
    runtime.draw();
    setText(problem, model.get("problem"));
    form.hidden = !model.get("can_save") || Boolean(window.workbenchPage);
    parts.replaceChildren(...model.get("parts").flatMap(({ label, tensors, bytes: size }) => [
      element("dt", {}, label, tensors ? element("span", { class: "wb-muted" }, ` ${plural(tensors, "tensor")}`) : ""),
      element("dd", {}, `${count(size)} bytes`)]));
  }
  function drawLayers() {
    if (!layers.open) return;
    table.replaceChildren(...model.get("layers").map(([name, label, size, params]) => element("tr", {},
      element("th", { scope: "row" }, name), element("td", {}, label), element("td", {}, count(size)), element("td", {}, params ? number((8 * size) / params, 2) : ""))));
  }
  layers.addEventListener("toggle", drawLayers);
  const drawing = onTraits(model, ["files", "formats", "parts", "problem", "can_save"], draw);
  const listing = onTraits(model, ["layers"], drawLayers);
  model.on("msg:custom", hear);
  draw();
  const unseen = reportVisibility(model, el);
  return () => {
    for (const row of rows) row.end();
    runtime.end();
    drawing.end();
    listing.end();
    model.off("msg:custom", hear);
    unseen();
  };
}

export default { render };
