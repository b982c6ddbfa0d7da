// The controls. The page holds their state and sends it whole; ipywidgets keeps one message in flight
// and merges later ones, so the newest state wins. `seq` makes each state different from the last sent:
// without it, going back to a state the kernel has since left would count as no change.

const ADVANCED = [
  ["scope", "Prune", [["global", "smallest in the whole network"], ["layer", "same ratio in each layer"]]],
  ["multiple", "Channels kept in multiples of", [[1, "1"], [2, "2"], [4, "4"], [8, "8"], [16, "16"]]],
  ["scheme", "Quantize", [["affine", "affine"], ["symmetric", "symmetric"]]],
  ["per", "One scale for each", [["channel", "channel"], ["tensor", "tensor"]]],
];

function slider(id, name, min, max) {
  const input = element("input", { type: "range", id, min, max, step: 1 });
  const output = element("output", { for: id, "aria-live": "off" });
  const track = element("div", { class: "wb-track" }, input);
  const root = element("div", { class: "wb-slider" }, element("label", { for: id }, name), output, track);
  return { root, input, output, track };
}

function switchOf(label, help) {
  const input = element("input", { type: "checkbox", role: "switch", "aria-label": label });
  const root = element("label", { class: "wb-switch" }, input, element("span", {}, label, element("small", {}, help)));
  return { root, input };
}

function render({ model, el }) {
  const id = uniqueId("controls");
  const { bits: positions, off } = model.get("positions");
  let state = { ...model.get("state"), ...model.get("follow") };

  const ratio = slider(`${id}-ratio`, "Pruning ratio", 0, 95);
  const bits = slider(`${id}-bits`, "Bit-width", 1, positions.length);
  bits.track.append(element("div", { class: "wb-ticks", "aria-hidden": "true" }, ...positions.map((b) => element("span", {}, b === off ? "off" : String(b)))));
  const kinds = [["weight", "weights"], ["filter", "channels"]].map(([value, text]) => {
    const input = element("input", { type: "radio", name: `${id}-kind`, value });
    return { input, root: element("label", {}, input, element("span", {}, text)) };
  });
  const activations = switchOf("8-bit activations", "Ranges are calibrated on training images.");
  const recalibrate = switchOf("Recalibrate BatchNorm", "");
  const recalibrateHelp = recalibrate.root.querySelector("small");
  const reset = element("button", { type: "button", class: "wb-button wb-reset" }, "Reset");
  const note = element("p", { class: "wb-note" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const recipe = element("pre", { tabindex: 0, "aria-label": "Recipe" });
  const selects = ADVANCED.map(([key, label, options]) => {
    const select = element("select", { id: `${id}-${key}` }, ...options.map(([value, text]) => element("option", { value }, text)));
    return { key, select, label: element("label", { for: select.id }, label) };
  });

  el.classList.add("wb");
  const root = element("div", { class: "wb-controls wb-card" },
    element("section", { "aria-label": "Prune" },
      element("div", { class: "wb-head" }, element("h2", {}, "Prune"),
        element("fieldset", { class: "wb-segments", role: "radiogroup", "aria-label": "What is pruned" }, ...kinds.map((kind) => kind.root))),
      ratio.root, note),
    element("section", { "aria-label": "Quantize" }, element("h2", {}, "Quantize"), bits.root, activations.root),
    element("section", { "aria-label": "Repair" }, recalibrate.root),
    element("details", {}, element("summary", {}, "Advanced"),
      element("div", { class: "wb-advanced" }, ...selects.flatMap(({ label, select }) => [label, select]))),
    problem, reset,
    element("section", { class: "wb-recipe", "aria-label": "The recipe as text" }, element("h2", {}, "Recipe"), recipe));
  el.replaceChildren(root);

  const fill = (input) => input.style.setProperty("--wb-fill", `calc(8px + (100% - 16px) * ${(input.value - input.min) / (input.max - input.min)})`);
  const showBits = (value) => (value === off ? "off" : value === 16 ? "fp16" : `${value} bit`);

  function show() {
    ratio.input.value = state.ratio;
    ratio.output.textContent = state.ratio ? `${state.ratio} %` : "off";
    ratio.input.setAttribute("aria-valuetext", state.ratio ? `${state.ratio} percent` : "off");
    ratio.input.toggleAttribute("data-off", !state.ratio);
    bits.input.value = positions.indexOf(state.bits) + 1;
    bits.output.textContent = showBits(state.bits);
    bits.input.setAttribute("aria-valuetext", state.bits === off ? "off, 32-bit floating point" : showBits(state.bits));
    bits.input.toggleAttribute("data-off", state.bits === off);
    fill(ratio.input);
    fill(bits.input);
    for (const { input } of kinds) input.checked = input.value === state.granularity;
    activations.input.checked = state.activations;
    recalibrate.input.checked = state.recalibrate;
    for (const { key, select } of selects) select.value = String(state[key]);
  }

  function showModel() {
    const has = model.get("batchnorm");
    recalibrate.input.disabled = !has;
    recalibrateHelp.textContent = has ? "Often wins back most of what pruning lost." : "This model has no BatchNorm.";
    note.textContent = state.custom ? "This recipe was set elsewhere; moving a control replaces it." : (model.get("note") || "Drag to remove the smallest weights.");
    recipe.textContent = model.get("recipe") || "Nothing yet: the dense model.";
    problem.textContent = model.get("error");
  }

  function change(changes) {
    state = { ...state, ...changes, custom: false };
    show();
    const { custom, generation, ...sent } = state;
    model.set("state", { ...sent, seq: (model.get("state").seq || 0) + 1 });
    model.save_changes();
  }

  function follow() {
    state = { ...state, ...model.get("follow") };
    show();
    showModel();
  }

  ratio.input.addEventListener("input", () => change({ ratio: ratio.input.valueAsNumber }));
  // Activations are quantized together with the weights, so the switch and "off" exclude each other.
  bits.input.addEventListener("input", () => {
    const chosen = positions[bits.input.valueAsNumber - 1];
    change(chosen === off ? { bits: off, activations: false } : { bits: chosen });
  });
  for (const { input } of kinds) input.addEventListener("change", () => input.checked && change({ granularity: input.value }));
  activations.input.addEventListener("change", () => {
    const on = activations.input.checked;
    change(on && state.bits === off ? { bits: 8, activations: on } : { activations: on });
  });
  recalibrate.input.addEventListener("change", () => change({ recalibrate: recalibrate.input.checked }));
  for (const { key, select } of selects) {
    select.addEventListener("change", () => change({ [key]: key === "multiple" ? Number(select.value) : select.value }));
  }
  reset.addEventListener("click", () => change(model.get("untouched")));

  model.on("change:follow", follow);
  model.on("change:note change:error change:batchnorm change:recipe", showModel);
  show();
  showModel();
  return () => {
    model.off("change:follow", follow);
    model.off("change:note change:error change:batchnorm change:recipe", showModel);
  };
}

export default { render };
