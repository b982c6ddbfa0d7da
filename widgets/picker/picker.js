// Model and data set, what was loaded, and undo/redo. Names go into the page as text, never as HTML.

function field(model, kind, name) {
  const id = uniqueId(`picker-${kind}`);
  const select = element("select", { id });
  const facts = element("p");
  const opener = openerOf(model, kind);
  const open = button("Open…", { "aria-label": kind === "model" ? "Open a model" : "Open data", "aria-haspopup": "dialog" });
  open.addEventListener("click", () => opener.open());
  select.addEventListener("change", () => model.send({ do: "choose", kind, name: select.value }));
  const label = element("label", { for: id }, name);
  const row = element("div", {}, label, select, open);
  return { select, facts, opener, open, row, root: element("div", { class: "wb-field" }, row, facts, opener.dialog) };
}

function render({ model, el }) {
  el.classList.add("wb");
  const network = field(model, "model", "Model");
  const data = field(model, "data", "Data");
  const designer = designerOf(model);
  network.row.append(designer.open);
  network.root.append(designer.dialog);
  const status = element("span", { class: "wb-status", role: "log", "aria-live": "polite", "aria-label": "Loading" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const dismiss = button("Dismiss");
  const trouble = element("div", { class: "wb-trouble" }, problem, dismiss);
  const waiting = element("p", { role: "status" });
  const partner = button("");
  const discard = button("Discard");
  const transfer = button("");
  const stop = button("Stop");
  const going = element("p", { class: "wb-transfer", role: "status" });
  const pending = element("div", { class: "wb-pending" }, waiting, transfer, partner, discard, going, stop);
  const undo = button("Undo", { title: "Ctrl+Z" });
  const redo = button("Redo", { title: "Ctrl+Shift+Z" });
  const tools = element("div", { class: "wb-tools" }, status, undo, redo);
  const address = keepAddress(model);
  if (window.workbenchPage) {
    tools.append(copyButton("Link", "Copy a link to this recipe", () => { address.flush(); return window.location.href; }));
  }
  if (window.workbenchTheme) {
    const theme = button("");
    const label = () => { theme.textContent = window.workbenchTheme.dark() ? "Light" : "Dark"; };
    theme.addEventListener("click", () => { window.workbenchTheme.toggle(); label(); });
    theme.setAttribute("aria-label", "Switch between light and dark");
    label();
    tools.append(theme);
  }
  el.replaceChildren(element("div", { class: "wb-picker" },
    element("h1", {}, "Compression Workbench"), network.root, data.root, tools, pending, trouble));

  const fill = (select, names, chosen) => {
    const all = names.includes(chosen) || !chosen ? names : [...names, chosen];
    const listed = [...select.options].map((option) => option.value);
    if (listed.join("\n") !== all.join("\n")) select.replaceChildren(...all.map((name) => element("option", { value: name }, titleOf(name))));
    select.value = chosen;
  };
  const tell = (node, text) => { setText(node, text); node.title = text; };

  function draw() {
    const chosen = model.get("chosen");
    fill(network.select, model.get("models"), chosen.model);
    fill(data.select, model.get("datasets"), chosen.data);
    tell(network.facts, model.get("model_facts"));
    tell(data.facts, model.get("data_facts"));
    setText(status, model.get("status"));
    setText(problem, model.get("error"));
    trouble.hidden = !model.get("error");
    undo.disabled = !model.get("can").undo;
    redo.disabled = !model.get("can").redo;
    const { kind, name, why } = model.get("pending");
    pending.hidden = !kind && model.get("making").share == null;
    for (const part of [waiting, partner, discard]) part.hidden = !kind;
    setText(waiting, kind ? `${titleOf(name)} is loaded and waits for ${kind === "model" ? "data" : "a model"} that fits. ${why}` : "");
    setText(partner, kind === "model" ? "Open data…" : "Open a model…");
    const { model: taught, data: on, classes, images } = model.get("pending").transfers || {};
    const { title, share, left, best } = model.get("making");
    const running = share != null;
    transfer.hidden = !taught || running;
    partner.hidden = running || !kind;
    designer.draw();
    for (const part of [going, stop]) part.hidden = !running;
    setText(transfer, taught ? `Fine-tune ${titleOf(taught)} on it` : "");
    transfer.title = taught ? `${titleOf(taught)} gets a new last layer for the ${classes} classes of ${on} and is trained on its ${count(images)} training images; that is the baseline then.` : "";
    setText(going, running ? `${title}: ${number(100 * share, 0)} %${left == null ? "" : `, about ${duration(left)} left`}${best == null ? "" : ` · best ${percent(best, 1)} of the validation images`}` : "");
  }

  partner.addEventListener("click", () => (model.get("pending").kind === "model" ? data : network).opener.open());
  dismiss.addEventListener("click", () => model.send({ do: "dismiss" }));
  transfer.addEventListener("click", () => model.send({ do: "transfer" }));
  stop.addEventListener("click", () => model.send({ do: "stop" }));
  discard.addEventListener("click", () => model.send({ do: "discard" }));
  undo.addEventListener("click", () => model.send({ do: "undo" }));
  redo.addEventListener("click", () => model.send({ do: "redo" }));
  const keys = undoKeys(model);
  // The keys work anywhere in this Workbench, and nowhere else in a notebook.
  const scope = () => el.closest(".wb-page") || el;
  let listening = null;
  const listen = requestAnimationFrame(() => { listening = scope(); listening.addEventListener("keydown", keys); });

  const drawing = onTraits(model, ["models", "datasets", "chosen", "model_facts", "data_facts", "pending", "making", "design", "designs", "status", "error", "can"], draw);
  draw();
  return () => {
    cancelAnimationFrame(listen);
    listening?.removeEventListener("keydown", keys);
    drawing.end();
    address.end();
    network.opener.end();
    data.opener.end();
    designer.end();
  };
}

export default { render };
