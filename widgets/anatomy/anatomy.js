// The model as a graph above, the selected layer in depth below.

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("colour");
  const colour = element("select", { id }, ...Object.entries(model.get("figures")).map(([value, text]) => element("option", { value }, text)));
  const graph = modelGraph((place) => model.send({ do: "select", layer: place }));
  const depth = layerDepth();
  const note = element("p", { class: "wb-muted" });
  const profile = button("Profile", { "aria-pressed": "false", title: "Where the uncompressed model's time and memory go, and what would help" });
  const panel = profilePanel((content) => model.send(content));
  let open = false;
  const problem = element("p", { class: "wb-problem", role: "alert" });
  el.replaceChildren(element("div", { class: "wb-anatomy wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Architecture"), note, element("span", { class: "wb-pick" }, element("label", { for: id }, "Colour"), colour), graph.tools, profile),
    graph.root, problem, depth.root, panel.root));
  colour.addEventListener("change", () => { model.set("colour", colour.value); model.save_changes(); paint(); });

  profile.addEventListener("click", () => {
    open = !open;
    if (open && !model.get("profile").words) model.send({ do: "profile" });
    update();
  });

  function paint() {
    const names = Object.keys(model.get("figures"));
    const all = typed(model.get("values"), Float32Array);
    const layers = model.get("layers").length;
    const row = names.indexOf(model.get("colour"));
    const values = all.subarray(row * layers, (row + 1) * layers);
    const known = [...values].filter(Number.isFinite);
    const bits = names[row] === "bits";
    const most = bits ? 32 : names[row] === "sparsity" ? 1 : Math.max(0, ...known);
    graph.paint(values, (value) => (bits ? `${number(value, Number.isInteger(value) ? 0 : 1)} bit` : percent(value)), most);
    const shown = model.get("graph");
    setText(note, !shown.places ? "Tracing the model." : `${plural(layers, "layer")}${shown.traced ? "" : ", in call order: their links could not be traced"}. Strongest colour: ${bits ? "32 bit" : percent(most)}.`);
  }
  function update() {
    colour.value = model.get("colour");
    graph.show(model.get("graph"), model.get("layers"));
    paint();
    graph.select(model.get("selected"));
    const found = model.get("profile");
    profile.setAttribute("aria-pressed", String(open));
    profile.disabled = model.get("profiling");
    setText(profile, model.get("profiling") ? "Profiling" : open && found.words ? "Back to the model" : "Profile");
    depth.show(open && found.words ? {} : model.get("depth"));
    graph.root.hidden = open && Boolean(found.words);
    panel.show(found, open);
    setText(problem, model.get("problem"));
  }
  const traits = onTraits(model, ["graph", "layers", "values", "selected", "depth", "colour", "profile", "profiling", "problem"], update, { frame: true });
  const looks = onLooks(depth.root, depth.draw);
  const unseen = reportVisibility(model, el);
  update();
  return () => { traits.end(); looks(); unseen(); };
}

export default { render };
