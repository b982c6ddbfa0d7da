// Model and data set, what was loaded, and undo/redo. Names go into the page as text, never as HTML.

function field(id, name) {
  const select = element("select", { id });
  const facts = element("p");
  return { select, facts, root: element("div", { class: "wb-field" }, element("label", { for: id }, name), select, facts) };
}

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("picker");
  const network = field(`${id}-model`, "Model");
  const data = field(`${id}-data`, "Data");
  const status = element("span", { class: "wb-status", role: "log", "aria-live": "polite", "aria-label": "Loading" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const undo = element("button", { type: "button", class: "wb-button", title: "Ctrl+Z" }, "Undo");
  const redo = element("button", { type: "button", class: "wb-button", title: "Ctrl+Shift+Z" }, "Redo");
  const tools = element("div", { class: "wb-tools" }, status, undo, redo);
  if (window.workbenchTheme) {
    const theme = element("button", { type: "button", class: "wb-button" });
    const label = () => { theme.textContent = window.workbenchTheme.dark() ? "Light" : "Dark"; };
    theme.addEventListener("click", () => { window.workbenchTheme.toggle(); label(); });
    theme.setAttribute("aria-label", "Switch between light and dark");
    label();
    tools.append(theme);
  }
  el.replaceChildren(element("div", { class: "wb-picker" }, element("h1", {}, "Compression Workbench"), network.root, data.root, tools, problem));

  const fill = (select, names, chosen) => {
    const all = names.includes(chosen) || !chosen ? names : [...names, chosen];
    select.replaceChildren(...all.map((name) => element("option", { value: name }, titleOf(name))));
    select.value = chosen;
  };

  function draw() {
    const chosen = model.get("chosen");
    fill(network.select, model.get("models"), chosen.model);
    fill(data.select, model.get("datasets"), chosen.data);
    network.facts.textContent = model.get("model_facts");
    data.facts.textContent = model.get("data_facts");
    status.textContent = model.get("status");
    problem.textContent = model.get("error");
    undo.disabled = !model.get("can").undo;
    redo.disabled = !model.get("can").redo;
  }

  const choose = () => model.send({ do: "choose", model: network.select.value, data: data.select.value });
  network.select.addEventListener("change", choose);
  data.select.addEventListener("change", choose);
  undo.addEventListener("click", () => model.send({ do: "undo" }));
  redo.addEventListener("click", () => model.send({ do: "redo" }));
  const keys = (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.closest("input[type=text], textarea, .jp-Editor")) return;
    const key = event.key.toLowerCase();
    const what = key === "z" ? (event.shiftKey ? "redo" : "undo") : key === "y" ? "redo" : "";
    if (!what) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ do: what });
  };
  // The keys work anywhere in this Workbench, and nowhere else in a notebook.
  const scope = () => el.closest(".wb-page") || el;
  let listening = null;
  const listen = requestAnimationFrame(() => { listening = scope(); listening.addEventListener("keydown", keys); });

  const events = ["models", "datasets", "chosen", "model_facts", "data_facts", "status", "error", "can"].map((name) => `change:${name}`);
  for (const event of events) model.on(event, draw);
  draw();
  return () => {
    cancelAnimationFrame(listen);
    listening?.removeEventListener("keydown", keys);
    for (const event of events) model.off(event, draw);
  };
}

export default { render };
