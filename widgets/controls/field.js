// One setting of a technique as a form field; for every view that shows settings.

const shownValue = (value) => (value == null ? "not set" : String(value));
const titled = (name) => `${name[0].toUpperCase()}${name.slice(1).replaceAll("_", " ")}`;

// Whether a setting matters beside what `said(name)` tells the others are: one of its conditions holds, if it has any.
function matters(field, said) {
  const holds = (condition) => Object.entries(condition).every(([name, values]) => values.includes(said(name) ?? null));
  return !field.when?.length || field.when.some(holds);
}

// One advanced setting: its label, its control, and its line of help. `read` gives its value, or undefined
// where what was typed is no number in range (the sentence then stands below).
// `compact` folds the help behind a mark, where every line counts.
function advancedField(id, field, changed, compact = false) {
  const helpId = `${id}-help`;
  const said = element("small", { id: helpId }, field.help);
  let control;
  const refused = () => control.getAttribute("aria-invalid") === "true";
  const tell = (refusal) => {
    control.setAttribute("aria-invalid", String(Boolean(refusal)));
    said.textContent = refusal || field.help;
    said.classList.toggle("wb-invalid", Boolean(refusal));
    said.classList.toggle("wb-hidden", compact && !refusal);
  };
  if (field.kind === "choice") {
    control = element("select", { id, "aria-describedby": helpId }, ...field.options.map((value, index) => element("option", { value: index }, shownValue(value))));
    control.addEventListener("change", () => changed(field.options[Number(control.value)]));
  } else if (field.kind === "flag") {
    control = element("input", { type: "checkbox", id, "aria-describedby": helpId });
    control.addEventListener("change", () => changed(control.checked));
  } else {
    control = element("input", { type: "text", inputmode: "decimal", id, "aria-describedby": helpId, autocomplete: "off", placeholder: field.optional ? "not set" : "" });
    control.addEventListener("change", () => {
      const text = control.value.trim().replace(",", ".");
      const value = text === "" && field.optional ? null : Number(text);
      const left = (end) => field.excluded.includes(end) && value === field[end];
      const inside = (field.min == null || value >= field.min) && (field.max == null || value <= field.max) && !left("min") && !left("max");
      const fits = value === null || (text !== "" && Number.isFinite(value) && (!field.whole || Number.isInteger(value)) && inside);
      const ends = [["min", "from", "above"], ["max", "to", "and below"]];
      const range = ends.filter(([end]) => field[end] != null).map(([end, to, open]) => `${field.excluded.includes(end) ? open : to} ${field[end]}`).join(" ");
      tell(fits ? "" : `“${control.value}” does not fit: type a ${field.whole ? "whole number" : "number"} ${range}.`);
      if (fits) changed(value);
      else said.scrollIntoView({ block: "nearest" });
    });
  }
  let allowed;
  const allow = (options) => {
    if (field.kind !== "choice" || options === allowed) return;
    allowed = options;
    [...control.options].forEach((option, index) => { option.hidden = option.disabled = Boolean(options) && !options.includes(field.options[index]); });
  };
  const label = element("label", { for: id }, field.label);
  const nodes = [compact ? element("span", {}, label, " ", help(field.label.toLowerCase(), field.help)) : label, control, said];
  if (compact) said.classList.add("wb-hidden");
  const apply = (applies) => { for (const node of nodes) if (node.hidden === applies) node.hidden = !applies; };
  const show = (value) => {
    if (refused() || control === document.activeElement) return;
    if (field.kind === "choice") setValue(control, String(Math.max(0, field.options.findIndex((option) => option === value))));
    else if (field.kind === "flag") control.checked = Boolean(value);
    else setValue(control, value == null ? "" : String(value));
  };
  // What was typed and refused is let go of.
  const forget = () => { if (refused()) tell(""); };
  return { show, allow, apply, forget, nodes };
}
