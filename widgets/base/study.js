// What the views of a study share: the line that starts it, tells how far it is, and says what is on display.

const svg = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const rounded = (ms) => (ms == null ? "–" : ms === 0 ? "0" : number(ms, ms < 1 ? 3 : ms < 10 ? 2 : ms < 100 ? 1 : 0));
const pick = (text, node) => { node.id ||= uniqueId("pick"); return element("span", { class: "wb-pick" }, element("label", { for: node.id }, text), node); };
const choice = (options) => element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
const numberField = (value, attributes = {}) => element("input", { type: "number", value, inputmode: "decimal", ...attributes });
// a table from titles and rows of cells; the first cell of a row heads it
const tableOf = (caption, titles, rows, classOf = () => "") => element("table", { class: "wb-table" }, element("caption", { class: "wb-hidden" }, caption),
  element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title)))),
  element("tbody", {}, ...rows.map((cells, at) => element("tr", { class: classOf(at) }, element("th", { scope: "row" }, cells[0]), ...cells.slice(1).map((cell) => element("td", {}, cell))))));

// `words`: `start` and `again` on the button, `idle` (in `empty`) where nothing was studied yet, and what `course.what`
// means
function studyLine(model, words) {
  const start = button(words.start, { class: "wb-button wb-primary" });
  const bar = element("progress", { max: 1, "aria-label": words.start });
  const said = element("span", { class: "wb-muted" });
  const caption = element("span", { class: "wb-muted wb-caption" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const empty = element("p", { class: "wb-empty wb-muted" }, words.idle);
  start.addEventListener("click", () => model.send({ do: model.get("course").what ? "stop" : "start" }));
  return {
    root: element("div", { class: "wb-study-line" }, start, bar, said, caption),
    problem,
    empty,
    // whether something is on display, and whether it is of what is wanted
    update() {
      const [wanted, shown, course] = [model.get("wanted"), model.get("shown"), model.get("course")];
      const here = Boolean(shown.recipe);
      const fresh = here && shown.recipe === wanted.recipe && JSON.stringify(shown.wish) === JSON.stringify(wanted.wish);
      const running = Boolean(course.what);
      const left = course.left != null && course.share > 0.02 ? `, about ${duration(course.left)} left` : "";
      bar.hidden = !running;
      if (running && course.share) bar.value = course.share; else bar.removeAttribute("value");
      setText(start, running ? "Stop" : here && !fresh ? words.again : words.start);
      start.classList.toggle("wb-primary", !running && !fresh);
      start.disabled = !running && !wanted.recipe;
      setText(said, running ? (course.share ? `${number(100 * course.share, 0)} %${left}` : wanted.settled ? words[course.what] ?? "Working" : "Waits until every image was run") : "");
      empty.hidden = here || running;
      setText(caption, here ? `${shown.words}${fresh ? "" : " (the setting before)"}` : "");
      caption.classList.toggle("wb-before", here && !fresh);
      setText(problem, model.get("problem"));
      return { here, fresh, running };
    },
  };
}
const STUDIED = ["wanted", "shown", "course", "problem"];
