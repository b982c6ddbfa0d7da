// The controls above the drawing: which layer, what to look at, and how.

// What to look at: a list where there is little room, else buttons side by side. Some are not offered now.
function modePicker(modes, few, choose) {
  if (few) {
    const list = element("select", { class: "wb-mode", "aria-label": "Weights shown as" }, ...modes.map(([value, title]) => element("option", { value }, title)));
    list.addEventListener("change", () => choose(list.value));
    const show = (mode, without) => {
      for (const option of list.options) option.hidden = without.includes(option.value);
      list.value = mode;
    };
    return { root: list, show };
  }
  const group = uniqueId("mode");
  const inputs = modes.map(([value, title]) => {
    const input = element("input", { type: "radio", name: group, value });
    input.addEventListener("change", () => { if (input.checked) choose(value); });
    return { input, root: element("label", {}, input, element("span", {}, title)) };
  });
  const root = element("fieldset", { class: "wb-modes", role: "radiogroup", "aria-label": "Weights shown as" }, ...inputs.map((item) => item.root));
  const show = (mode, without) => {
    for (const { input, root: label } of inputs) {
      input.checked = input.value === mode;
      label.hidden = without.includes(input.value);
    }
  };
  return { root, show };
}

// A checkbox with a short text and a full name.
function toggle(text, name, change) {
  const box = element("input", { type: "checkbox", "aria-label": name });
  box.addEventListener("change", () => change(box.checked));
  const root = element("label", { class: "wb-toggle", title: name }, box, text);
  return {
    root,
    show(on, hidden, now = name) {
      box.checked = on;
      root.hidden = hidden;
      box.setAttribute("aria-label", now);
      root.title = now;
    },
  };
}

// A small button with a sign on it.
function stepButton(sign, name, press) {
  const node = button(sign, { class: "wb-button wb-step", "aria-label": name, title: name });
  node.addEventListener("click", press);
  return node;
}

// What the colours and lines mean; each entry belongs to some modes and can be missing from a drawing.
function legendOf() {
  const entries = {};
  const key = (name, modes, brief, long = brief) => {
    const root = element("span", {}, element("i", { class: `wb-${name}` }), element("span", { class: "wb-brief" }, brief), element("span", { class: "wb-long" }, long));
    entries[name] = { root, modes };
    return root;
  };
  const all = ["histogram", "channels", "spectrum"];
  const root = element("div", { class: "wb-legend" }, key("before", all, "before"), key("after", all, "after"),
    key("threshold", ["histogram", "channels"], "threshold", "pruning threshold"),
    key("cut", ["spectrum"], "rank", "rank of the weight after"),
    key("kept", ["posterior"], "kept"), key("dropped", ["posterior"], "zero after"),
    key("grid", ["histogram"], "levels", "values a weight can take"),
    key("scale", ["filters"], ""), key("zero", ["filters"], "zero"), key("removed", ["filters"], "removed"));
  const say = (name, brief, long = brief) => { setText(entries[name].root.children[1], brief); setText(entries[name].root.children[2], long); };
  return {
    root, say,
    show(mode, missing) {
      for (const [name, entry] of Object.entries(entries)) {
        entry.root.hidden = !entry.modes.includes(mode);
        entry.root.classList.toggle("wb-absent", missing.includes(name));
      }
    },
  };
}
