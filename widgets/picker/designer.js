// The dialog that designs a student: a zoo architecture, how wide and how deep, what it would need beside its
// teacher, and the button that has it taught. Sizes follow the sliders at once; the measured time comes after.

function designerOf(model) {
  const id = uniqueId("design");
  const open = button("Design…", { "aria-haspopup": "dialog", "aria-label": "Design a student", title: "A narrower or shallower network, taught by this model" });
  const base = element("select", { id: `${id}-base` });
  const slider = (name, value, min, max) => {
    const input = element("input", { type: "range", id: `${id}-${name}`, min, max, step: "0.05", value });
    return { input, said: element("output", { for: input.id }), label: element("label", { for: input.id }, name === "width" ? "Width" : "Depth") };
  };
  const width = slider("width", "0.5", "0.1", "1.5");
  const depth = slider("depth", "1", "0.3", "2");
  const epochs = element("input", { type: "number", id: `${id}-epochs`, min: "1", max: "1000", step: "1", value: "12" });
  const names = element("tr");
  const rows = [
    ["Parameters", (one) => one.parameters, compact], ["Size, fp32", (one) => one.bytes, bytes],
    ["Multiplications", (one) => one.macs, compact], ["Latency", (one) => one.latency?.ms, milliseconds],
  ].map(([label, of, say]) => {
    const cells = [element("td"), element("td"), element("td")];
    return { of, say, cells, root: element("tr", {}, element("th", { scope: "row" }, label), ...cells) };
  });
  const table = element("table", { class: "wb-needs", "aria-label": "What the student needs" }, element("thead", {}, names), element("tbody", {}, ...rows.map((row) => row.root)));
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const teach = button("");
  const close = button("Close");
  const content = [
    element("h2", { id: `${id}-title` }, "Design a student"),
    element("p", { class: "wb-muted" }, "It starts from weights of chance and learns from the answers of the model that is open now. What comes out opens here. Latency is measured on this machine."),
    element("div", { class: "wb-design" }, element("label", { for: base.id }, "Architecture"), base,
      width.label, width.input, width.said, depth.label, depth.input, depth.said, element("label", { for: epochs.id }, "Epochs"), epochs),
    table, problem, element("div", { class: "wb-open-going wb-design-going" }, teach, close),
  ];
  // Empty while closed: whoever looks for the page's sliders should not come upon these.
  const dialog = element("dialog", { class: "wb-open", "aria-labelledby": `${id}-title` });
  dialog.addEventListener("close", () => dialog.replaceChildren());

  let number_ = 0;
  let timer = 0;
  const wish = () => ({ base: base.value, width: Number(width.input.value), depth: depth.input.disabled ? 1 : Number(depth.input.value) });
  function show() {
    const found = model.get("designs").find((one) => one.name === base.value);
    depth.input.disabled = !found?.deep;
    setText(width.said, `× ${number(Number(width.input.value), 2)}`);
    setText(depth.said, found?.deep ? `× ${number(Number(depth.input.value), 2)}` : "fixed");
  }
  function ask() {
    show();
    clearTimeout(timer);
    timer = setTimeout(() => { number_ += 1; model.send({ do: "figures", number: number_, ...wish() }); }, 60);
  }
  for (const input of [base, width.input, depth.input]) input.addEventListener("input", ask);
  open.addEventListener("click", () => {
    const { model: present } = model.get("chosen");
    if ([...base.options].some(({ value }) => value === present)) base.value = present;
    dialog.replaceChildren(...content);
    dialog.showModal();
    ask();
  });
  close.addEventListener("click", () => dialog.close());
  teach.addEventListener("click", () => { model.send({ do: "teach", ...wish(), epochs: Number(epochs.value) || 1 }); dialog.close(); });

  function draw() {
    const all = model.get("designs");
    open.disabled = !all.length;
    if (base.options.length !== all.length) {
      const kept = base.value || model.get("chosen").model;
      base.replaceChildren(...all.map(({ name }) => element("option", { value: name }, titleOf(name))));
      base.value = all.some(({ name }) => name === kept) ? kept : all[0]?.name || "";
    }
    const teacher = titleOf(model.get("chosen").model);
    names.replaceChildren(...["", "student", teacher, ""].map((text) => (text ? element("th", { scope: "col" }, text) : element("td"))));
    setText(teach, `Have ${teacher} teach it`);
    teach.disabled = model.get("making").share != null;
    const told = model.get("design");
    if (told.number !== number_) return;
    setText(problem, told.problem);
    for (const { of, say, cells } of rows) {
      const [ours, theirs] = [of(told.student), of(told.teacher)];
      setText(cells[0], ours == null ? "…" : say(ours));
      setText(cells[1], theirs == null ? "…" : say(theirs));
      setText(cells[2], ours && theirs ? ours <= theirs ? `${number(theirs / ours, 1)}× less` : `${number(ours / theirs, 1)}× more` : "");
    }
  }
  return { open, dialog, draw, end() { clearTimeout(timer); } };
}
