// The controls. The page holds their state and sends it whole, with the names of the controls touched since
// it last followed the kernel; ipywidgets keeps one message in flight and merges later ones, so the newest
// state wins. `seq` makes each state different from the last sent: without it, going back to a state the
// kernel has since left would count as no change.

function slider(id, name, min, max) {
  const input = element("input", { type: "range", id, min, max, step: 1 });
  const output = element("output", { for: id, "aria-live": "off" });
  const track = element("div", { class: "wb-track" }, input);
  const root = element("div", { class: "wb-slider" }, element("label", { for: id }, name), output, track);
  return { root, input, output, track };
}

function switchOf(label, text) {
  const input = element("input", { type: "checkbox", role: "switch", "aria-label": label });
  const small = element("small", {}, text);
  return { input, small, root: element("label", { class: "wb-switch" }, input, element("span", {}, label, small)) };
}

const WORDS = { weight: "weights", filter: "channels", quantize: "grid", share: "codebook" };

// A few exclusive choices side by side; what doesn't fit is in a list at their end.
function segments(name, label, values, chosen, most = 2) {
  const shown = values.slice(0, most).map((value) => {
    const input = element("input", { type: "radio", name, value });
    input.addEventListener("change", () => input.checked && chosen(value));
    return { input, root: element("label", {}, input, element("span", {}, WORDS[value] || value)) };
  });
  const others = values.slice(most);
  const list = element("select", { class: "wb-other", "aria-label": `${label}: others` },
    element("option", { value: "" }, "other"), ...others.map((value) => element("option", { value }, WORDS[value] || value)));
  list.addEventListener("change", () => list.value && chosen(list.value));
  const root = element("fieldset", { class: "wb-segments", role: "radiogroup", "aria-label": label }, ...shown.map((item) => item.root), ...(others.length ? [list] : []));
  const show = (value) => {
    for (const { input } of shown) input.checked = input.value === value;
    setValue(list, others.includes(value) ? value : "");
    list.classList.toggle("wb-chosen", others.includes(value));
  };
  return { root, show };
}

function render({ model, el }) {
  const id = uniqueId("controls");
  const { bits: positions, off } = model.get("positions");
  const [sentLast, followedLast] = [model.get("state"), model.get("follow")];
  let state = (sentLast.seq || 0) > (followedLast.seq || 0) ? { ...followedLast, ...sentLast } : { ...sentLast, ...followedLast };
  let touched = new Set();
  const ratio = slider(`${id}-ratio`, "Pruning ratio", 0, 95);
  const bits = slider(`${id}-bits`, "Bit-width", 1, positions.length);
  bits.track.append(element("div", { class: "wb-ticks", "aria-hidden": "true" }, ...positions.map((b) => element("span", {}, b === off ? "off" : String(b)))));
  const { granularities, methods } = model.get("positions");
  const kinds = segments(`${id}-kind`, "What is pruned", granularities, (value) => change({ granularity: value }));
  const method = segments(`${id}-method`, "How weights are stored", methods, (value) => change({ method: value, ...(value === "share" && state.bits > 8 && state.bits !== off ? { bits: 8 } : {}) }));
  method.root.hidden = methods.length < 2;
  const criterion = element("div", { class: "wb-advanced wb-criterion" });
  const more = element("section", { "aria-label": "More techniques", class: "wb-more" });
  const add = element("select", { "aria-label": "Add a technique" });
  const activations = switchOf("8-bit activations", "Calibrated on training images.");
  const recalibrate = switchOf("Recalibrate BatchNorm", "");
  activations.small.classList.add("wb-hidden");
  activations.root.title = "Calibrated on training images.";
  recalibrate.root.title = "Takes BatchNorm's statistics anew on training images: wins back much of what pruning lost.";
  const presets = element("div", { class: "wb-presets", role: "group", "aria-label": "Start from" });
  const reset = button("Reset", { class: "wb-button wb-reset", title: "Back to the dense model. Locked layers keep their settings." });
  const note = element("p", { class: "wb-note" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const remarks = element("ul", { class: "wb-remarks", "aria-label": "Remarks on the steps" });
  const advanced = element("div", { class: "wb-advanced" });
  const start = element("section", { "aria-label": "Start", class: "wb-start" }, presets);
  const head = element("div", { class: "wb-head" },
    element("h2", {}, "Prune ", help("pruning", "Weights: the smallest are set to zero; the file shrinks, the speed stays. Channels: whole filters are removed; the model really gets smaller and faster, and loses more accuracy.")),
    kinds.root);
  let fields = [];

  el.classList.add("wb");
  el.replaceChildren(element("div", { class: "wb-controls wb-card" },
    start,
    element("section", { "aria-label": "Prune" }, head, ratio.root, criterion, note),
    element("section", { "aria-label": "Quantize" },
      element("div", { class: "wb-head" }, element("h2", {}, "Quantize ", help("quantization", "Each weight is stored in so many bits instead of 32. Down to about 5 bits most networks hardly notice. With 8-bit activations too, runtimes use integer kernels and run faster. Grid: levels at equal distances. Codebook: levels where the weights are; they are shared, as in Deep Compression.")), method.root),
      bits.root, activations.root, recalibrate.root),
    more,
    remarks,
    element("details", {}, element("summary", {}, "Advanced"), advanced)));

  const ahead = foresight(model, (known) => setAttribute(el.firstElementChild, "data-ahead", String(known)));
  const fill = (input) => input.style.setProperty("--wb-fill", `calc(8px + (100% - 16px) * ${(input.value - input.min) / (input.max - input.min)})`);
  const showBits = (value) => (value === off ? "off" : value === 16 ? "fp16" : `${value} bit`);
  const valueOf = (technique, field) => state.advanced?.[technique]?.[field.name] ?? field.default;

  // What a setting of a technique is now, be it a control's of its own or an advanced one.
  function present(technique, name) {
    if (technique === "prune" && name === "granularity") return state.granularity;
    if (name === "bits" && technique === state.method) return state.bits;
    if (name === "activations" && technique === "quantize") return state.activations ? "on" : null;
    return state.advanced?.[technique]?.[name] ?? fields.find((item) => item.technique === technique && item.field.name === name)?.field.default;
  }

  // The size of a codebook that is given as such, and not in bits.
  function bookSize() {
    const [entries, buckets] = [present("share", "entries"), present("share", "buckets")];
    return entries != null ? `${entries} values` : buckets != null ? `${+(100 * buckets).toFixed(1)} % of values` : "";
  }

  function show() {
    setValue(ratio.input, String(state.ratio));
    const shown = `${Number(state.ratio.toFixed(1))}`;
    const pattern = state.granularity === "n:m" ? `${present("prune", "n")}:${present("prune", "m")}` : "";
    // the control moved last counts: a threshold or a share of the MACs takes the place of the ratio
    const instead = pattern || (present("prune", "threshold") != null ? "by threshold" : present("prune", "macs") != null ? "by MACs" : "");
    setText(ratio.output, state.ratio ? instead || `${shown} %` : "off");
    setAttribute(ratio.input, "aria-valuetext", state.ratio ? instead || `${shown} percent` : "off");
    ratio.input.toggleAttribute("data-off", !state.ratio);
    setValue(bits.input, String(positions.indexOf(state.bits) + 1));
    const counted = state.method === "share" && state.bits !== off ? bookSize() : "";
    setText(bits.output, counted || showBits(state.bits));
    setAttribute(bits.input, "aria-valuetext", counted || (state.bits === off ? "off, 32-bit floating point" : showBits(state.bits)));
    bits.input.toggleAttribute("data-off", state.bits === off);
    fill(ratio.input);
    fill(bits.input);
    kinds.show(state.granularity);
    method.show(state.method);
    activations.input.checked = state.activations;
    recalibrate.input.checked = state.recalibrate;
    for (const { technique, field, show: put, allow, apply } of fields) {
      const said = (name) => present(technique, name);
      const options = field.choices && field.choices.options[String(said(field.choices.by))];
      allow(options);
      const [head, inner] = field.name.split(".");
      apply((!inner || said(head) != null) && matters(field, said));
      const value = valueOf(technique, field);
      // what the others rule out is put back by the kernel, and shown so at once
      put(!options || options.includes(value) ? value : options.includes(field.default) ? field.default : options[0]);
    }
  }

  // What was refused is said below the control that asked for it: `blamed` names it as `touched` does.
  function placeProblem() {
    const blamed = model.get("blamed");
    const own = { ratio: ratio.root, granularity: head, bits: bits.root, method: bits.root, activations: activations.root, recalibrate: recalibrate.root };
    const field = fields.find((item) => `advanced.${item.technique}.${item.field.name}` === blamed && !item.nodes[0].hidden);
    const card = [...more.querySelectorAll(".wb-step")].find((step) => blamed === `step.${step.dataset.technique}`);
    const beside = field ? field.nodes.at(-1) : own[blamed] || card?.firstElementChild || (blamed.startsWith("step.") && add.parentNode ? add : presets);
    if (beside.nextElementSibling !== problem) beside.after(problem);
    setText(problem, model.get("error"));
  }

  function showModel() {
    const has = model.get("batchnorm");
    recalibrate.input.disabled = !has;
    setText(recalibrate.small, has ? "Wins back much of what pruning lost." : "This model has no BatchNorm.");
    recalibrate.small.classList.toggle("wb-hidden", has);
    setText(note, model.get("note") || "Drag to remove the smallest weights.");
    placeProblem();
    const said = model.get("remarks").map(spaced);
    if ([...remarks.children].map((item) => item.textContent).join("\n") !== said.join("\n")) remarks.replaceChildren(...said.map((text) => element("li", {}, text)));
    remarks.hidden = !said.length;
  }

  function build() {
    presets.replaceChildren(...model.get("presets").map(({ name, help: about }) => {
      const chip = button(name, { class: "wb-chip", title: about });
      chip.addEventListener("click", () => begin(name));
      return chip;
    }), reset);
    fields = [];
    const all = model.get("advanced");
    const made = ({ technique, fields: own }, among = () => true, compact = false) => own.filter(among).flatMap((field) => {
      const control = advancedField(uniqueId(`advanced-${technique}`), field, (value) => {
        change({ advanced: { ...state.advanced, [technique]: { ...state.advanced?.[technique], [field.name]: value } } }, `advanced.${technique}.${field.name}`);
      }, compact);
      fields.push({ technique, field, ...control });
      return control.nodes;
    });
    const source = ({ source: name, url }) => (url ? element("a", { href: url, target: "_blank", rel: "noreferrer" }, name) : name);
    const folded = (nodes) => (nodes.length ? [element("details", {}, element("summary", {}, "More settings"), element("div", { class: "wb-advanced" }, ...nodes))] : []);
    const beside = (field) => ["criterion", "n", "m", "block_rows", "block_columns"].includes(field.name);
    const prune = all.find((entry) => entry.technique === "prune");
    criterion.replaceChildren(...(prune ? made(prune, beside, true) : []));
    const steps = model.get("steps");
    const open = all.filter((entry) => entry.main || entry.technique === state.method);
    advanced.replaceChildren(...open.flatMap((entry) => [
      element("h3", {}, titled(entry.technique), " ", element("small", {}, source(entry))),
      ...made(entry, (field) => entry.technique !== "prune" || !beside(field)),
    ]));
    const cards = all.filter((entry) => steps.includes(entry.technique)).map((entry) => {
      const remove = button("×", { class: "wb-remove", "aria-label": `Take ${titled(entry.technique)} away` });
      remove.addEventListener("click", () => model.send({ do: "remove", technique: entry.technique }));
      return element("div", { class: "wb-step", role: "group", "aria-label": titled(entry.technique), "data-technique": entry.technique },
        element("div", { class: "wb-head" }, element("h2", {}, titled(entry.technique)), remove),
        element("p", { class: "wb-muted" }, `${entry.summary} `, source(entry)),
        element("div", { class: "wb-advanced" }, ...made(entry, ({ first }) => first)),
        ...folded(made(entry, ({ first }) => !first)));
    });
    const free = all.filter((entry) => entry.offered && !entry.main && !methods.includes(entry.technique) && !steps.includes(entry.technique));
    add.replaceChildren(element("option", { value: "" }, "Add a technique …"), ...free.map((entry) => element("option", { value: entry.technique, title: entry.summary }, `${titled(entry.technique)}: ${entry.summary}`)));
    const had = document.activeElement === add;
    const unfolded = new Set([...more.querySelectorAll("[data-technique]:has(> details[open])")].map((card) => card.dataset.technique));
    more.replaceChildren(...cards, ...(free.length ? [add] : []));
    for (const card of cards) if (unfolded.has(card.dataset.technique)) card.querySelector("details").open = true;
    if (had) add.focus();
    more.hidden = !cards.length && !free.length;
    show();
    placeProblem();
  }

  function change(changes, ...names) {
    state = { ...state, ...changes };
    // in the order in which they were touched last: of two that rule each other out the later one counts
    for (const name of names.length ? names : Object.keys(changes)) { touched.delete(name); touched.add(name); }
    const { generation, ...sent } = state;
    model.set("state", { ...sent, touched: [...touched], seq: (model.get("state").seq || 0) + 1 });
    model.save_changes(); // before anything is drawn: the kernel works meanwhile
    ahead.tell(state, positions.indexOf(state.bits));
    show();
  }

  function begin(preset) {
    for (const { forget } of fields) forget();
    show();
    model.send({ do: "start", preset });
  }

  function follow() {
    const before = state.method;
    const shown = model.get("follow");
    // what was touched since the kernel said this is on its way there, and stays
    const late = (shown.seq || 0) < (model.get("state").seq || 0) ? [...touched] : [];
    const kept = late.map((name) => name.split(".")[0]).map((key) => [key, state[key]]);
    state = { ...state, ...shown, ...Object.fromEntries(kept) };
    touched = new Set(late);
    if (state.method === before) show();
    else build();
  }

  ratio.input.addEventListener("input", () => change({ ratio: ratio.input.valueAsNumber }));
  // Activations are quantized together with the weights, so the switch and "off" exclude each other.
  bits.input.addEventListener("input", () => {
    const chosen = positions[bits.input.valueAsNumber - 1];
    change(chosen === off ? { bits: off, activations: false } : { bits: chosen });
  });
  onChosen(add, (technique) => model.send({ do: "add", technique }));
  activations.input.addEventListener("change", () => {
    const on = activations.input.checked;
    change(on && state.bits === off ? { bits: 8, activations: on } : { activations: on });
  });
  recalibrate.input.addEventListener("change", () => change({ recalibrate: recalibrate.input.checked }));
  reset.addEventListener("click", () => begin(""));

  const followed = onTraits(model, ["follow"], follow);
  const modelled = onTraits(model, ["note", "error", "blamed", "batchnorm", "remarks"], showModel);
  const built = onTraits(model, ["presets", "advanced", "steps"], build);
  // What was sent while the connection went dead may be lost (the served page says when it is back).
  const sendAgain = () => { if (touched.size) change({}, ...touched); };
  window.addEventListener("workbench-reconnected", sendAgain);
  build();
  showModel();
  return () => { followed.end(); modelled.end(); built.end(); ahead.end(); window.removeEventListener("workbench-reconnected", sendAgain); };
}

export default { render };
