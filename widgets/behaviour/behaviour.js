// What the model does differently: one question at a time, of the present setting against another one.

const QUESTIONS = {
  classes: "Which classes pay? Hurt: lost more than chance explains and more than the others, at 5 % over all classes.",
  confusion: "Which class is taken for which, and what moved between the two settings?",
  calibration: "Is the model as sure as it is right? Compression often leaves accuracy and takes calibration.",
  teacher: "How much of its teacher is in the student? Without a distillation the dense model is its teacher.",
  drift: "Where inside the model does it go wrong? The same images run through both, and each layer's outputs are compared.",
  attribution: "What does the answer stand on? The same question is asked of both models, by Captum.",
  corruptions: "Does it still stand imperfect images? Both see the same noise, blur, contrast and JPEG.",
};

const svg = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

function segments(label, options, chosen, onChange) {
  const name = uniqueId("segments");
  const root = element("div", { class: "wb-segments", role: "radiogroup", "aria-label": label });
  const inputs = {};
  for (const [value, text] of Object.entries(options)) {
    const input = inputs[value] = element("input", { type: "radio", name, value, class: "wb-hidden", "aria-label": text });
    input.checked = value === chosen;
    input.addEventListener("change", () => onChange(value));
    root.append(element("label", {}, input, element("span", {}, text)));
  }
  return { root, value: () => Object.keys(inputs).find((key) => inputs[key].checked), show: (value) => { if (inputs[value]) inputs[value].checked = true; } };
}

function render({ model, el }) {
  el.classList.add("wb");
  const set = (name, value) => { model.set(name, value); model.save_changes(); update(); };
  const picker = segments("What is compared", model.get("parts"), model.get("part"), (name) => set("part", name));
  const againstId = uniqueId("against");
  const against = element("select", { id: againstId });
  const question = element("p", { class: "wb-muted wb-question" });
  const caption = element("p", { class: "wb-caption" });
  const course = element("span", { class: "wb-muted" });
  const start = button("Run");
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const parts = { classes: classesPart(), confusion: confusionPart(model), calibration: reliabilityPart(), teacher: teacherPart(), drift: driftPart(model), attribution: attributionPart(model), corruptions: corruptionsPart() };
  const empty = element("p", { class: "wb-empty wb-muted" });
  const stage = element("div", { class: "wb-stage" }, empty, ...Object.values(parts).map((part) => part.root));
  el.replaceChildren(element("div", { class: "wb-behaviour wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Behaviour"), picker.root, element("span", { class: "wb-pick wb-against-pick" }, element("label", { for: againstId }, "Compare with"), against)),
    element("div", { class: "wb-state" }, question, course, start, caption), problem, stage));
  start.addEventListener("click", () => model.send({ do: model.get("course").state === "running" ? "stop" : "start" }));
  against.addEventListener("change", () => set("against", against.value));
  let drawn = null;

  function offer() {
    const offers = model.get("offers");
    const text = JSON.stringify(offers);
    if (against.dataset.offers !== text) {
      against.dataset.offers = text;
      against.replaceChildren(...offers.map((one) => element("option", { value: one.hash }, one.text)));
    }
    against.value = model.get("against");
  }
  function update() {
    const part = model.get("part");
    const [wanted, shown, found, state] = [model.get("wanted"), model.get("shown"), model.get("found"), model.get("course")];
    picker.show(part);
    offer();
    setText(question, QUESTIONS[part]);
    const here = shown.part === part && Object.keys(found).length > 0;
    const fresh = here && shown.recipe === wanted.recipe && shown.against === wanted.against;
    for (const [name, one] of Object.entries(parts)) one.root.hidden = name !== part || !(here || (name === "attribution" && model.get("picks").length));
    stage.classList.toggle("wb-stale", here && !fresh);
    stage.dataset.part = fresh ? part : "";
    if (here && drawn !== found) { drawn = found; parts[part].show(found); }
    else if (part === "attribution") parts.attribution.waiting();
    setText(caption, here ? `${shown.after}, against ${shown.before}${fresh ? "" : " (the setting before)"}` : "");
    const running = state.state === "running";
    const left = running && state.left != null && state.share > 0 ? `, about ${duration(state.left)} left` : "";
    setText(course, running ? (state.share > 0 ? `${number(100 * state.share, 0)} %${left}` : "Working") : !wanted.settled ? "Waits until every image was run" : "");
    start.hidden = !running && !(state.state === "ask" && part === "corruptions") && state.state !== "failed";
    setText(start, running ? "Stop" : state.state === "failed" ? "Try again" : "Run the corruptions");
    start.classList.toggle("wb-primary", !running);
    setText(empty, here ? "" : wanted.same ? "Both settings are the same: change the recipe, or compare with another setting." : part === "corruptions" && state.state === "ask" ? "13 × 1,000 images through both models; takes some seconds." : "");
    setText(problem, model.get("problem"));
  }
  const traits = onTraits(model, ["part", "picks", "offers", "against", "wanted", "shown", "found", "maps", "pixels", "course", "problem", "classes", "target", "method"], update, { frame: true });
  const arrived = (content, buffers) => { if (content.do === "images") keepPictures(content, buffers); };
  model.on("msg:custom", arrived);
  PICTURES.told.add(parts.attribution.pictures);
  const looks = onLooks(stage, () => parts.attribution.redraw());
  const unseen = reportVisibility(model, el);
  update();
  return () => {
    traits.end();
    looks();
    unseen();
    model.off("msg:custom", arrived);
    PICTURES.told.delete(parts.attribution.pictures);
  };
}

export default { render };
