// The front of accuracy, size and latency: every point is a recipe that no other one beats in all three. Size is along
// the bottom, accuracy up, latency is the colour; a point is picked by click or arrow keys, told in words, and applied.

const FRONT = { height: 250, left: 46, right: 14, top: 12, bottom: 34 };
const ABOUT_FRONT = "Whole recipes are measured on the validation split and evolve (NSGA-II), beginning with exact answers to a ladder of budgets. What stays is every recipe that nothing measured beats in accuracy, size and predicted latency at once. The ticks above say what may be used; locked layers keep what they have. Stopped, it goes on from there another time.";
const node = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

function frontView(model, chosen) {
  const start = button("Search the front");
  const words = element("span", { class: "wb-course-text wb-muted", role: "status" });
  const plot = node("svg", { role: "listbox", tabindex: "0", "aria-label": "Front: recipes that nothing beats in accuracy, size and latency" });
  const told = element("p", { class: "wb-told" });
  const take = button("Apply");
  const problem = element("p", { class: "wb-problem", role: "status" });
  const line = element("div", { class: "wb-picked" }, told, take);
  const root = element("section", { class: "wb-front", "aria-label": "Front" },
    element("div", { class: "wb-head" }, element("h3", {}, "All trade-offs", help("the front", ABOUT_FRONT)), start, words), problem, plot, line);
  let picked = "";

  const range = (values, pad) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * pad;
    return [low - room, high + room];
  };
  function draw() {
    const points = model.get("front");
    const applied = model.get("applied");
    const { state, done, total, left, error, remark } = model.get("evolving");
    const running = state === "running";
    setText(start, running ? "Stop" : points.length ? "Search on" : "Search the front");
    const course = running && !done ? "Measuring what each layer bears."
      : running ? `${done} of ${plural(total, "recipe")} measured${left != null ? ` · about ${duration(left)} left` : ""}`
      : state === "done" ? `${points.length} of ${plural(total, "recipe")} measured ${points.length === 1 ? "is" : "are"} beaten by none` : state === "cancelled" ? "Stopped; it goes on from there." : "";
    setText(words, [course, remark].filter(Boolean).join(" · "));
    setText(problem, state === "failed" ? error : "");
    plot.toggleAttribute("hidden", !points.length);
    line.hidden = !points.length;
    if (!points.length) return;
    if (!points.some(({ hash }) => hash === picked)) picked = (points.find(({ hash }) => hash === applied) || points[points.length - 1]).hash;
    const width = Math.max(260, Math.min(760, root.clientWidth || 640)); // drawn at its true size, so that text keeps its own
    plot.setAttribute("viewBox", `0 0 ${width} ${FRONT.height}`);
    const [x0, x1] = range(points.map((one) => Math.log(one.bytes)), 0.06);
    const [y0, y1] = range(points.map((one) => one.accuracy), 0.08);
    const times = points.map((one) => one.ms).filter((ms) => ms != null);
    const [fast, slow] = times.length ? [Math.min(...times), Math.max(...times)] : [0, 0];
    const x = (one) => FRONT.left + ((Math.log(one.bytes) - x0) / (x1 - x0)) * (width - FRONT.left - FRONT.right);
    const y = (value) => FRONT.top + ((y1 - value) / (y1 - y0)) * (FRONT.height - FRONT.top - FRONT.bottom);
    const shade = (ms) => (ms == null || slow === fast ? 60 : 25 + (70 * (slow - ms)) / (slow - fast));
    const ticks = [0, 1, 2, 3].map((part) => {
      const value = y0 + ((y1 - y0) * (part + 0.5)) / 4;
      return node("g", { class: "wb-tick" }, node("line", { x1: FRONT.left, x2: width - FRONT.right, y1: y(value), y2: y(value) }),
        node("text", { x: FRONT.left - 6, y: y(value) + 3.5, "text-anchor": "end" }, percent(value, y1 - y0 < 0.05 ? 2 : 1)));
    });
    const ends = [0, 0.5, 1].map((part) => {
      const size = Math.exp(x0 + (x1 - x0) * (0.06 + 0.88 * part));
      return node("text", { x: x({ bytes: size }), y: FRONT.height - 18, "text-anchor": "middle" }, bytes(Math.round(size)));
    });
    const axis = node("text", { x: width / 2, y: FRONT.height - 3, "text-anchor": "middle" },
      times.length && slow > fast ? `packed size; full colour ${milliseconds(fast)}, pale ${milliseconds(slow)}` : "packed size");
    const marks = points.map((one, place) => {
      const colour = `color-mix(in srgb, var(--wb-accent) ${Math.round(shade(one.ms))}%, var(--wb-surface))`;
      const mark = node("circle", { cx: x(one), cy: y(one.accuracy), r: one.hash === picked ? 7 : 5, style: `fill: ${colour}`, class: one.hash === picked ? "wb-picked-point" : "",
        role: "option", id: `${uid}-${place}`, "aria-selected": String(one.hash === picked), "aria-label": saying(one) }, node("title", {}, saying(one)));
      mark.addEventListener("click", () => { picked = one.hash; draw(); });
      return mark;
    });
    plot.replaceChildren(...ticks, ...ends, axis, ...marks);
    const at = points.findIndex(({ hash }) => hash === picked);
    plot.setAttribute("aria-activedescendant", `${uid}-${at}`);
    const one = points[at];
    told.replaceChildren(element("b", {}, saying(one)), element("span", { class: "wb-muted" }, ` ${one.words || "uncompressed"}`));
    const set = one.hash === applied;
    setText(take, set ? "Set" : "Apply");
    take.disabled = set;
    take.setAttribute("aria-label", `Apply to the sliders: ${saying(one)}`);
  }
  const uid = uniqueId("front");
  const saying = (one) => `${percent(one.accuracy, 2)} · ${bytes(one.bytes)} · ${one.ms == null ? "latency not known" : milliseconds(one.ms)}`;
  plot.addEventListener("keydown", (event) => {
    const points = model.get("front");
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const at = points.findIndex(({ hash }) => hash === picked);
    if (event.key === "Enter" && !take.disabled) take.click();
    else if (step && points[at + step]) picked = points[at + step].hash;
    else return;
    event.preventDefault();
    draw();
  });
  start.addEventListener("click", () => model.send(model.get("evolving").state === "running" ? { do: "rest" } : { do: "evolve", techniques: chosen() }));
  take.addEventListener("click", () => model.send({ do: "take", hash: picked }));
  return { root, draw, end: onLooks(root, draw) };
}
