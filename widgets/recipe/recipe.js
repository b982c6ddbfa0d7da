// The recipe as text. The editor follows the sliders until someone types; from then on the text is theirs until
// it is applied or discarded. Tab leaves the editor as it leaves any field; Ctrl+Enter applies.

const TYPING = 300;
const MAX_FILE = 200_000;
const HINT = "- prune: {ratio: 0.6}\n- quantize: {bits: 4}\n- recalibrate: {}";

function referenceOf({ name, summary, source, settings, examples }) {
  const rows = settings.flatMap(({ name: setting, help: says, default: value, allowed }) => [
    element("dt", {}, element("code", {}, setting)),
    element("dd", {}, says, " ", element("span", { class: "wb-muted" }, `${allowed}; default ${value === null ? "null" : value}`)),
  ]);
  return element("section", {},
    element("h3", {}, element("code", {}, name), " ", element("span", {}, summary)),
    element("dl", {}, ...rows),
    element("p", { class: "wb-muted" }, `After ${source}.`),
    element("pre", { tabindex: 0, "aria-label": `Examples of ${name}` }, examples.join("\n\n")));
}

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("recipe");
  const forms = [["yaml", "YAML"], ["python", "Python"]].map(([value, text]) => {
    const input = element("input", { type: "radio", name: `${id}-form`, value });
    return { input, root: element("label", {}, input, element("span", {}, text)) };
  });
  const text = element("textarea", {
    id: `${id}-text`, "aria-label": "Recipe in YAML", "aria-describedby": `${id}-problem ${id}-state`, spellcheck: "false",
    autocapitalize: "off", autocomplete: "off", wrap: "off", rows: 8, placeholder: HINT,
  });
  const python = element("pre", { class: "wb-python", tabindex: 0, "aria-label": "The same in Python" });
  const file = element("input", { type: "file", hidden: true, accept: ".yaml,.yml,.json,.txt", "aria-label": "Recipe file" });
  const open = button("Open file…");
  const save = button("Download");
  const copy = copyButton("Copy", "Copy this text", () => (shown() === "python" ? model.get("python") : text.value));
  const problem = element("p", { class: "wb-problem", role: "alert", id: `${id}-problem` });
  const state = element("span", { class: "wb-state wb-muted", id: `${id}-state` });
  const apply = button("Apply", { class: "wb-button wb-apply", title: "Ctrl+Enter" });
  const discard = button("Discard");
  const reference = element("details", { class: "wb-reference" }, element("summary", {}, "Techniques and their settings"));
  el.replaceChildren(element("div", { class: "wb-recipes wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Recipe"),
      element("fieldset", { class: "wb-forms", role: "radiogroup", "aria-label": "Form" }, ...forms.map(({ root }) => root)),
      element("span", { class: "wb-space" }), copy, open, save, file),
    element("div", { class: "wb-editor" }, text, python),
    element("div", { class: "wb-foot" }, state, problem, discard, apply),
    reference));

  const shown = () => forms.find(({ input }) => input.checked)?.input.value ?? "yaml";
  let draft = { ...model.get("draft") };
  let timer = 0;

  function fit() {
    const lines = text.value.split("\n").length;
    text.rows = Math.max(8, Math.min(40, lines + 1));
  }
  function setEditor(value) {
    if (text.value === value) return;
    text.value = value;
    fit();
  }
  function show() {
    const { edited } = draft;
    if (!edited) setEditor(model.get("yaml"));
    const { seq, problem: said } = model.get("checked");
    const current = seq === draft.seq;
    const sentence = edited ? (current ? said : problem.textContent) : model.get("failure");
    setText(problem, sentence);
    text.setAttribute("aria-invalid", String(Boolean(sentence)));
    setText(state, sentence ? "" : edited ? "Not applied yet." : model.get("yaml") ? "This is what is measured; it follows the controls." : "Nothing yet: the dense model. Type steps, or move a slider.");
    discard.hidden = apply.hidden = !edited;
    apply.disabled = edited && current && Boolean(said);
    const form = shown();
    text.hidden = form !== "yaml";
    python.hidden = form !== "python";
    setText(python, model.get("python"));
  }
  function sendDraft() {
    clearTimeout(timer);
    timer = 0;
    model.set("draft", { ...draft });
    model.save_changes();
  }
  // What is typed may become the recipe again by undoing the typing: then it follows once more.
  function edit() {
    draft = { text: text.value, edited: text.value !== model.get("yaml"), seq: draft.seq + 1 };
    clearTimeout(timer);
    timer = setTimeout(sendDraft, TYPING);
    fit();
    show();
  }
  function applyNow() {
    clearTimeout(timer);
    draft = { text: text.value, edited: true, seq: draft.seq + 1 };
    model.send({ do: "apply", text: draft.text, seq: draft.seq });
  }
  function replaceText(value) {
    text.focus();
    text.select();
    // so that the browser's own undo brings the old text back
    if (!document.execCommand("insertText", false, value) || text.value !== value) text.value = value;
    edit();
  }
  function fail(sentence) {
    draft = { text: text.value, edited: text.value !== model.get("yaml"), seq: draft.seq + 1 };
    setText(problem, sentence);
    setText(state, "");
  }

  text.addEventListener("input", edit);
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    event.stopPropagation();
    applyNow();
  });
  apply.addEventListener("click", applyNow);
  discard.addEventListener("click", () => {
    draft = { text: "", edited: false, seq: draft.seq + 1 };
    sendDraft();
    show();
    text.focus();
  });
  open.addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    if (chosen.size > MAX_FILE) { fail(`${chosen.name} has ${bytes(chosen.size)}; a recipe has ${bytes(MAX_FILE)} at most.`); return; }
    let read;
    try { read = new TextDecoder("utf-8", { fatal: true }).decode(await chosen.arrayBuffer()); } catch { fail(`${chosen.name} cannot be read as text.`); return; }
    forms[0].input.checked = true;
    show();
    replaceText(read);
    applyNow();
  });
  save.addEventListener("click", () => {
    const stem = (model.get("name") || "recipe").replace(/\.\w+$/, "").replace(/[^\w.-]+/g, "-");
    if (shown() === "python") saveFile(`${stem}.py`, [model.get("python")], "text/x-python");
    else saveFile(`${stem}-recipe.yaml`, [text.value || "[]\n"], "application/yaml");
  });
  for (const { input } of forms) input.addEventListener("change", show);
  forms[0].input.checked = true;

  const listTechniques = () => {
    reference.replaceChildren(reference.firstChild, element("div", { class: "wb-techniques" }, ...model.get("techniques").map(referenceOf)));
  };
  // The kernel wrote a draft itself: a recipe that came with a link and could not be applied, or one just applied.
  const takeDraft = () => {
    const given = model.get("draft");
    if (given.seq < draft.seq) return;
    draft = { ...given };
    if (draft.edited) { forms[0].input.checked = true; setEditor(draft.text); }
    show();
  };
  if (draft.edited) setEditor(draft.text);
  const drawing = onTraits(model, ["yaml", "python", "checked", "failure", "applied"], show);
  model.on("change:draft", takeDraft);
  model.on("change:techniques", listTechniques);
  listTechniques();
  show();
  fit();
  const unseen = reportVisibility(model, el);
  return () => {
    if (timer) sendDraft();
    drawing.end();
    model.off("change:draft", takeDraft);
    model.off("change:techniques", listTechniques);
    unseen();
  };
}

export default { render };
