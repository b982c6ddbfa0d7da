// The dialog that opens a model or data: a file, a folder of images, or a path on the kernel's machine.
// Files go up in pieces of half a megabyte, a few ahead of the kernel's answers, so that any size travels in
// little memory and can be cancelled. What goes wrong is said in the dialog, and the present Session stays.

const PIECE = 512 * 1024;
const AHEAD = 4;
const PATIENCE = 30_000;
const IMAGES = /\.(png|jpe?g|jfif|bmp|gif|webp|tiff?|ppm|pgm|pnm)$/i;
const TABLES = /\.(npz|parquet)$/i;

const OPENERS = {
  model: {
    title: "Open a model",
    help: "Weights of a zoo architecture (.safetensors, .pt, .pth), an ONNX file, or a packed file (.wbz). Pickled code is never run.",
  },
  data: {
    title: "Open data",
    help: "A folder of images with a subfolder for each class (or train, val and test folders of such), or an .npz or .parquet file.",
  },
};

// Cuts files into messages: large files into pieces, small ones many to a message.
async function* piecesOf(files) {
  let parts = [];
  let blobs = [];
  let size = 0;
  for (const { path, file } of files) {
    let offset = 0;
    do {
      const part = Math.min(PIECE - size, file.size - offset);
      parts.push({ path, offset, size: part });
      blobs.push(file.slice(offset, offset + part));
      offset += part;
      size += part;
      if (size >= PIECE || parts.length >= 200) {
        yield { parts, data: await new Blob(blobs).arrayBuffer() };
        [parts, blobs, size] = [[], [], 0];
      }
    } while (offset < file.size);
  }
  if (parts.length) yield { parts, data: await new Blob(blobs).arrayBuffer() };
}

// Sends files; resolves when all have arrived. Throws an Error whose message is a sentence.
async function sendFiles(model, ticket, name, files, { progress, cancelled }) {
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  let received = -1;
  let problem = "";
  let wake = () => {};
  const hear = (message) => {
    if (message.received === ticket) received = message.bytes;
    else if (message.opened === ticket && message.problem) problem = message.problem;
    else return;
    progress(Math.max(0, received), total);
    wake();
  };
  const until = async (holds) => {
    while (!holds()) {
      if (cancelled()) throw new Error("");
      if (problem) throw new Error(problem);
      await new Promise((resolve) => {
        const timer = setTimeout(() => { problem ||= "The kernel does not answer; nothing was opened."; resolve(); }, PATIENCE);
        wake = () => { clearTimeout(timer); resolve(); };
      });
    }
    if (problem) throw new Error(problem);
  };
  model.on("msg:custom", hear);
  const stop = setInterval(() => { if (cancelled()) wake(); }, 100);
  try {
    model.send({ do: "upload", ticket, name, files: files.length, bytes: total });
    await until(() => received >= 0);
    let sent = 0;
    const pieces = piecesOf(files);
    while (true) {
      let next;
      try {
        next = await pieces.next();
      } catch {
        throw new Error(`'${name}' cannot be read any more: was it moved or changed?`);
      }
      if (next.done) break;
      const { parts, data } = next.value;
      await until(() => sent - received < AHEAD * PIECE);
      model.send({ do: "piece", ticket, parts }, undefined, [data]);
      sent += data.byteLength;
    }
    await until(() => received >= total);
  } catch (error) {
    model.send({ do: "cancel", ticket });
    throw error;
  } finally {
    clearInterval(stop);
    model.off("msg:custom", hear);
  }
}

function openerOf(model, kind) {
  const id = uniqueId(`open-${kind}`);
  const { title, help } = OPENERS[kind];
  const suffixes = model.get("opens").suffixes[kind];
  const paths = model.get("opens").paths;
  const fileInput = element("input", { type: "file", hidden: true, accept: suffixes.join(","), "aria-label": `${title}: file` });
  const folderInput = element("input", { type: "file", hidden: true, webkitdirectory: true, multiple: true, "aria-label": `${title}: folder` });
  const chooseFile = button("Choose a file…");
  const chooseFolder = button("Choose a folder…");
  const path = element("input", { type: "text", id: `${id}-path`, spellcheck: "false", autocomplete: "off", placeholder: kind === "data" ? "/data/flowers" : "/data/mynet.onnx" });
  const openPath = element("button", { type: "submit", class: "wb-button" }, "Open");
  const where = paths === "any" ? "Or a path on the machine of the kernel" : `Or a path below ${paths}`;
  const form = element("form", { class: "wb-open-path", method: "dialog" }, element("label", { for: path.id }, where), element("div", {}, path, openPath));
  const bar = element("progress", { max: 1, "aria-label": "Uploaded" });
  const said = element("span", { role: "status" });
  const cancel = button("Cancel");
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const close = button("Close");
  const going = element("div", { class: "wb-open-going" }, bar, said, cancel, close);
  const dialog = element("dialog", { class: "wb-open", "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title), element("p", { class: "wb-muted" }, help),
    element("div", { class: "wb-open-choose" }, chooseFile, ...(kind === "data" ? [chooseFolder] : []), fileInput, folderInput),
    ...(paths === "none" ? [] : [form]), problem, going);

  let ticket = 0;
  let cancelled = false;
  function show(state, text = "") {
    going.classList.toggle("wb-idle", state === "idle");
    for (const part of [chooseFile, chooseFolder, path, openPath]) part.disabled = state !== "idle";
    cancel.hidden = state !== "upload";
    if (state !== "upload") bar.removeAttribute("value");
    setText(said, text);
  }
  function fail(text) { ticket = 0; show("idle"); problem.textContent = text; }
  function start() { problem.textContent = ""; cancelled = false; ticket = 1 + Math.floor(Math.random() * 2 ** 40); }

  async function upload(name, files, left = 0) {
    start();
    const mine = ticket;
    bar.value = 0;
    show("upload", `Uploading ${name}`);
    const extra = left ? ` (${count(left)} other files left out)` : "";
    const progress = (done, total) => { bar.value = total ? done / total : 0; setText(said, `${bytes(done)} of ${bytes(total)}${extra}`); };
    try {
      await sendFiles(model, mine, name, files, { progress, cancelled: () => cancelled || ticket !== mine });
    } catch (error) {
      if (ticket === mine) fail(error.message);
      return;
    }
    show("load", "Loading");
    model.send({ do: "uploaded", ticket: mine, kind });
  }

  chooseFile.addEventListener("click", () => fileInput.click());
  chooseFolder.addEventListener("click", () => folderInput.click());
  fileInput.addEventListener("change", () => {
    const [file] = fileInput.files;
    if (!file) return;
    const chosen = { path: file.name, file };
    fileInput.value = "";
    if (!suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix))) fail(`${file.name} is of another kind: choose ${suffixes.join(", ")}.`);
    else upload(file.name, [chosen]);
  });
  folderInput.addEventListener("change", () => {
    const all = [...folderInput.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
    folderInput.value = "";
    if (!all.length) return;
    const name = all[0].path.split("/")[0];
    const seen = all.filter(({ path: place }) => !place.split("/").slice(1).some((part) => part.startsWith(".") || part === "__MACOSX"));
    const wanted = seen.filter(({ path: place }) => IMAGES.test(place) || TABLES.test(place));
    if (!wanted.length) fail(`Folder '${name}' has no images; it needs a subfolder of images for each class.`);
    else upload(name, wanted, seen.length - wanted.length);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!path.value.trim()) { path.focus(); return; }
    start();
    show("load", "Loading");
    model.send({ do: "path", kind, ticket, path: path.value.trim() });
  });
  cancel.addEventListener("click", () => { cancelled = true; });
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("cancel", (event) => { if (!cancel.hidden) { event.preventDefault(); cancelled = true; } });
  dialog.addEventListener("close", () => { cancelled = true; });

  const hear = (message) => {
    if (!ticket || message.opened !== ticket) return;
    if (message.problem) {
      fail(message.problem);
      if (!dialog.open) dialog.showModal();
    } else {
      ticket = 0;
      show("idle");
      dialog.close();
    }
  };
  model.on("msg:custom", hear);
  show("idle");
  return {
    dialog,
    open() { problem.textContent = ""; show("idle"); dialog.showModal(); },
    end() { cancelled = true; model.off("msg:custom", hear); },
  };
}
